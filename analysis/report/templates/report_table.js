/* The table of all points. Only the rows in sight are in the document, however many there are. */

const SPARE_ROWS = 12;
const PRINTED_ROWS = 100;

class PointTable {
  constructor(section, data, open) {
    this.data = data;
    this.open = open;
    this.section = section;
    this.columns = data.columns.filter((column) => column.shown);
    this.eligible = data.columns.filter((column) => !column.long || column.search);
    this.scroller = section.querySelector(".scroller");
    this.body = section.querySelector("tbody");
    this.message = section.querySelector(".message");
    this.sorting = { column: null, descending: false };
    this.narrow = matchMedia("(max-width: 700px)");
    this.printing = false;
    this.fillHead();
    this.fillColumns();
    this.fillFilters();
    this.scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    this.narrow.addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.scroller);
    const print = (printing) => () => {
      this.printing = printing;
      this.draw();
    };
    addEventListener("beforeprint", print(true));
    addEventListener("afterprint", print(false));
    this.filter();
  }

  fillHead() {
    this.heads = this.columns.map((column) => {
      const button = make("button", { type: "button", title: column.meaning || "" }, column.label);
      if (column.unit) button.append(" ", make("small", {}, column.unit));
      button.addEventListener("click", () => this.sort(column));
      const cell = make("th", { scope: "col", role: "columnheader" }, button);
      cell.classList.toggle("number", !column.levels);
      return cell;
    });
    this.section.querySelector("thead tr").replaceChildren(...this.heads);
    const select = this.section.querySelector("[name=sort]");
    select.replaceChildren(new Option("–", ""));
    for (const column of this.columns) select.append(new Option(named(column), column.name));
  }

  fillColumns() {
    const boxes = this.eligible.map((column) => {
      const box = make("input", { type: "checkbox", checked: this.columns.includes(column) });
      box.addEventListener("change", () => {
        this.columns = this.eligible.filter((_, i) => boxes[i].firstChild.checked);
        this.fillHead();
        this.filter();
      });
      // The first column holds the button that opens a point.
      box.disabled = column === this.eligible[0];
      return make("label", {}, box, ` ${named(column)}`);
    });
    const list = make("fieldset", {}, make("legend", {}, "columns"), ...boxes);
    const pick = make("details", { className: "pick" }, make("summary", {}, "columns"), list);
    this.section.querySelector("[name=csv]").before(pick);
  }

  fillFilters() {
    const form = this.section.querySelector("form");
    const { sort, direction } = form.elements;
    sort.addEventListener("change", () => {
      this.sorting = { column: null, descending: false };
      if (sort.value) this.sort(this.data.byName[sort.value]);
      else this.filter();
    });
    direction.addEventListener("click", () => this.sort(this.sorting.column));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => event.target.type !== "checkbox" && this.filter());
    form.addEventListener("reset", () => setTimeout(() => this.clear()));
    this.form = form;
    const facets = this.data.columns.filter((column) => column.facet && column.levels.length > 1);
    this.facets = facets.map((column) => {
      const select = make("select", { name: column.name });
      select.append(new Option("all", ""));
      column.levels.forEach((level, code) => select.append(new Option(level, code)));
      form.querySelector(".facets").append(make("label", {}, `${column.label} `, select));
      return [column, select];
    });
    const numbers = this.data.columns.filter((column) => !column.levels && column.used);
    for (const column of numbers) form.elements.which.append(new Option(named(column), column.name));
    this.section.querySelector("[name=csv]").addEventListener("click", () => this.save());
  }

  clear() {
    this.sorting = { column: null, descending: false };
    this.columns = this.data.columns.filter((column) => column.shown);
    this.fillHead();
    this.filter();
  }

  sort(column) {
    const again = this.sorting.column === column;
    // A reader looks for the largest value of a metric, and for the first of a setting.
    const first = !column.levels && !column.setting && !again;
    this.sorting = { column, descending: again ? !this.sorting.descending : first };
    this.filter();
  }

  filter() {
    const fields = this.form.elements;
    const value = parseFloat(fields.value.value.replace(",", "."));
    this.rows = chosen(this.data, {
      words: fields.words.value.toLowerCase().split(/\s+/).filter(Boolean),
      choices: this.facets
        .filter(([, select]) => select.value !== "")
        .map(([column, select]) => [column, Number(select.value)]),
      condition:
        Number.isFinite(value) && fields.which.value
          ? { column: this.data.byName[fields.which.value], sign: fields.sign.value, value }
          : null,
    });
    const { column, descending } = this.sorting;
    if (column) this.rows = ordered(this.rows, column, descending);
    this.heads.forEach((cell, i) => {
      const sorted = this.columns[i] === column;
      if (sorted) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    const { sort, direction } = fields;
    sort.value = column?.name ?? "";
    direction.textContent = descending ? "descending" : "ascending";
    direction.disabled = !column;
    this.scroller.scrollTop = 0;
    this.draw();
  }

  draw() {
    const { rows, scroller } = this;
    // On a narrow screen a row is a card: the first two columns a line each, the others in pairs.
    const card = 17 + 22 * (2 + Math.ceil((this.columns.length - 2) / 2));
    const height = this.narrow.matches ? card : 36;
    scroller.style.setProperty("--card", `${card}px`);
    const [from, to] = this.printing
      ? [0, Math.min(rows.length, PRINTED_ROWS)]
      : [
          Math.max(0, Math.floor(scroller.scrollTop / height) - SPARE_ROWS),
          Math.min(
            rows.length,
            Math.ceil((scroller.scrollTop + scroller.clientHeight) / height) + SPARE_ROWS,
          ),
        ];
    const spacer = (count) => {
      const cell = make("td", { colSpan: this.columns.length });
      cell.style.height = `${this.printing ? 0 : count * height}px`;
      return make("tr", { className: "spacer", ariaHidden: "true" }, cell);
    };
    const drawn = rows.slice(from, to).map((row, i) => this.row(row, from + i));
    const focused = this.body.contains(document.activeElement)
      ? document.activeElement.dataset.point
      : null;
    this.body.replaceChildren(spacer(from), ...drawn, spacer(rows.length - to));
    if (focused) this.body.querySelector(`[data-point="${focused}"]`)?.focus();
    this.section.querySelector("table").setAttribute("aria-rowcount", rows.length + 1);
    const [some, all] = [rows.length, this.data.count].map((count) => count.toLocaleString("en-US"));
    const part = this.printing && to < rows.length ? `, the first ${to} of them printed` : "";
    this.message.textContent =
      (rows.length === this.data.count ? `all points: ${all}` : `${some} of ${all} points`) + part;
  }

  row(row, place) {
    const cells = this.columns.map((column, i) => {
      const text = written(column, row);
      const cell = make("td", { role: "cell" });
      cell.dataset.label = column.label;
      cell.className = column.name === "status" ? `status ${text.replace(" ", "_")}` : "";
      if (!column.levels) cell.classList.add("number");
      if (i === 0) {
        const button = make("button", { type: "button", title: "details of this point" }, text);
        button.dataset.point = row;
        button.addEventListener("click", () => this.open(row));
        cell.append(button);
      } else {
        cell.append(make("span", { title: text }, text));
        if (column.unit && !isMissing(column, row)) {
          cell.append(make("small", { className: "unit" }, ` ${column.unit}`));
        }
      }
      return cell;
    });
    return make("tr", { role: "row", ariaRowIndex: String(place + 2) }, ...cells);
  }

  save() {
    const blob = new Blob([asCsv(this.data, this.rows)], { type: "text/csv" });
    const link = make("a", { href: URL.createObjectURL(blob), download: "points.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href));
  }
}
