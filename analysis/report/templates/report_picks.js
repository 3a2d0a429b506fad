/* Which values of each setting are drawn: a list of boxes for every setting that varies. */

class Picks {
  constructor(place, columns, changed) {
    this.place = place;
    this.changed = changed;
    this.chosen = new Map(columns.map((column) => [column, new Set(distinct(column))]));
    place.append(...columns.map((column) => this.list(column)));
    place.addEventListener("change", (event) => this.tick(event));
  }

  list(column) {
    const boxes = distinct(column).map((value) => {
      const box = make("input", { type: "checkbox" });
      return make("label", {}, box, ` ${valueText(column, value)}`);
    });
    const all = make("button", { type: "button" }, "all");
    const none = make("button", { type: "button" }, "none");
    all.addEventListener("click", () => this.choose(column, distinct(column)));
    none.addEventListener("click", () => this.choose(column, []));
    const list = make("fieldset", {}, make("legend", {}, column.label), all, none, ...boxes);
    const pick = make("details", { className: "pick" }, make("summary"), list);
    pick.setAttribute("name", "pick");
    pick.dataset.column = column.name;
    return pick;
  }

  choose(column, values) {
    this.chosen.set(column, new Set(values));
    this.show();
    this.changed();
  }

  tick(event) {
    event.stopPropagation();
    const pick = event.target.closest(".pick");
    const column = [...this.chosen.keys()].find(({ name }) => name === pick.dataset.column);
    const boxes = [...pick.querySelectorAll("input")];
    this.choose(column, distinct(column).filter((_, i) => boxes[i].checked));
  }

  /* Few enough lines to be read: the settings named last keep but one value, the first a few. */
  thinOut(x, countLines, most) {
    const others = [...this.chosen.keys()].filter((column) => column.name !== x);
    others.reverse().forEach((column, i) => {
      if (countLines() <= most) return;
      const values = distinct(column);
      const first = i >= others.length - 2;
      const middle = Math.floor(values.length / 2);
      this.chosen.set(column, new Set(first ? values.slice(0, 4) : [values[column.levels ? 0 : middle]]));
    });
    this.show();
  }

  show() {
    for (const [column, chosen] of this.chosen) {
      const pick = this.place.querySelector(`[data-column="${column.name}"]`);
      const values = distinct(column);
      pick.querySelectorAll("input").forEach((box, i) => (box.checked = chosen.has(values[i])));
      const all = chosen.size === values.length;
      const [only] = chosen;
      const text =
        chosen.size === 1
          ? valueText(column, only)
          : `${all ? "all" : `${chosen.size} of`} ${values.length}`;
      pick.querySelector("summary").replaceChildren(`${column.label}: `, make("b", {}, text));
    }
  }

  /* A test of whether all values of a row are chosen. */
  get test() {
    const narrowed = [...this.chosen].filter(([column, set]) => set.size < distinct(column).length);
    return (row) => narrowed.every(([column, set]) => set.has(column.values[row]));
  }
}
