/* The point of the figure under the mouse, finger or keyboard focus, and its tooltip. */

const REACH_PX = 30;

class Pointer {
  constructor(box, tip, columns, open) {
    Object.assign(this, { box, tip, columns, open });
    this.marked = null;
    this.points = [];
    box.addEventListener("pointermove", (event) => this.hover(event));
    box.addEventListener("pointerleave", () => this.mark(null));
    box.addEventListener("click", (event) => {
      this.hover(event);
      if (this.marked) open(this.marked.row);
    });
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("blur", () => this.mark(null));
  }

  /* What can be pointed at from now on; the overlay is drawn over everything else. */
  attach(points, axes, overlay) {
    Object.assign(this, { points, axes, overlay });
    this.mark(null);
  }

  hover(event) {
    const area = this.box.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    let nearest = null;
    let least = REACH_PX ** 2;
    for (const point of this.points) {
      const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (distance < least) [nearest, least] = [point, distance];
    }
    this.mark(nearest);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const jump = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") this.mark(null);
    if (event.key === "Enter" && this.marked) this.open(this.marked.row);
    if ((!step && !jump) || !this.points.length) return;
    event.preventDefault();
    if (!this.marked) return this.mark(this.points[0]);
    const { line } = this.marked;
    const lines = [...new Set(this.points.map((point) => point.line))];
    const within = (list, place) => list[(place + list.length) % list.length];
    const next = jump ? within(lines, lines.indexOf(line) + jump) : line;
    const place = line.indexOf(this.marked);
    this.mark(jump ? next[Math.min(place, next.length - 1)] : within(next, place + step));
  }

  mark(point) {
    if (point === this.marked && point) return;
    this.marked = point;
    this.overlay?.replaceChildren();
    this.tip.hidden = !point;
    if (!point) return;
    const colour = `c${point.style.colour}`;
    const d = point.line.map(({ x, y }, i) => `${i ? "L" : "M"}${x} ${y}`).join("");
    this.overlay.append(svg("path", { class: `line strong ${colour}`, d }));
    this.overlay.append(svg("circle", { class: `ring ${colour}`, cx: point.x, cy: point.y, r: 8 }));
    const rows = [this.axes.y, this.axes.x, ...this.columns]
      .filter((column, i, all) => all.indexOf(column) === i)
      .map((column) => {
        const range = interval(column, point.row);
        const unit = column.unit && !isMissing(column, point.row) ? ` ${column.unit}` : "";
        const value = written(column, point.row) + unit + (range ? ` (${range})` : "");
        return make("div", {}, make("dt", {}, column.label), make("dd", {}, value));
      });
    this.tip.replaceChildren(make("dl", {}, ...rows));
    const [width, room] = [this.tip.offsetWidth, this.box.clientWidth];
    const beside = point.x + 16 + width <= room ? point.x + 16 : point.x - 16 - width;
    const place = Math.max(0, Math.min(beside, room - width));
    const above = point.y - this.tip.offsetHeight - 14;
    const covers = place < point.x + 8 && place + width > point.x - 8;
    this.tip.style.left = `${place}px`;
    this.tip.style.top = `${covers ? (above > -60 ? above : point.y + 16) : Math.max(0, point.y - 30)}px`;
  }
}
