/* The interactive figure: any column against any other, one line per configuration. */

const MOST_LINES = 12;
const MOST_DRAWN = 20000;
const REACH_PX = 30;
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

class Chart {
  constructor(section, data, open) {
    Object.assign(this, { section, data, open });
    this.box = section.querySelector(".chart");
    this.tip = section.querySelector(".tip");
    this.legend = section.querySelector(".legend");
    this.told = section.querySelector(".told");
    this.form = section.querySelector("form");
    this.settings = data.columns.filter((column) => column.setting);
    this.varying = this.settings.filter((column) => distinct(column).length > 1);
    this.picks = new Map();
    this.hidden = new Set();
    this.marked = null;
    this.fillAxes();
    this.fillPicks();
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", (event) => this.changed(event));
    this.box.addEventListener("pointermove", (event) => this.hover(event));
    this.box.addEventListener("pointerleave", () => this.mark(null));
    this.box.addEventListener("click", (event) => {
      this.hover(event);
      if (this.marked) this.open(this.marked.row);
    });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("blur", () => this.mark(null));
    new ResizeObserver(() => this.box.clientWidth !== this.width && this.draw()).observe(this.box);
    this.draw();
  }

  fillAxes() {
    const { x, y, colour, marker } = this.form.elements;
    const axes = this.varying.filter((column) => !column.levels);
    const figures = this.data.columns.filter((column) => column.group === "Figures");
    for (const column of [...axes, ...figures]) x.append(new Option(named(column), column.name));
    for (const column of figures) y.append(new Option(named(column), column.name));
    if (!axes.length) x.value = (figures.find((column) => column.unit === "ms") || figures[0])?.name;
    colour.append(new Option("one", ""));
    marker.append(new Option("as the colour", ""));
    for (const column of this.varying) {
      colour.append(new Option(column.label, column.name));
      marker.append(new Option(column.label, column.name));
    }
    this.chooseStyles();
  }

  /* The first two settings that tell the lines apart get the colour and the marker. */
  chooseStyles() {
    const { x, colour, marker } = this.form.elements;
    const others = this.varying.filter((column) => column.name !== x.value);
    colour.value = others[0]?.name ?? "";
    marker.value = others[1]?.name ?? "";
  }

  fillPicks() {
    const place = this.form.querySelector(".picks");
    for (const column of this.varying) {
      const values = distinct(column);
      this.picks.set(column, new Set(values));
      const summary = make("summary");
      const boxes = values.map((value) => {
        const box = make("input", { type: "checkbox", value: String(value) });
        box.dataset.column = column.name;
        const text = column.levels ? column.levels[value] ?? "–" : value === null ? "–" : plain(value);
        return make("label", {}, box, ` ${text}`);
      });
      const all = ["all", "none"].map((text) => make("button", { type: "button" }, text));
      const list = make("fieldset", {}, make("legend", {}, column.label), ...all, ...boxes);
      const pick = make("details", { className: "pick", name: "pick" }, summary, list);
      pick.dataset.column = column.name;
      all.forEach((button, i) =>
        button.addEventListener("click", () => {
          this.picks.set(column, new Set(i ? [] : values));
          this.picked();
        }),
      );
      place.append(pick);
    }
    this.thinOut();
    this.picked(false);
  }

  /* Few enough lines to be read: the settings named last keep but one value, the first a few. */
  thinOut() {
    const x = this.form.elements.x.value;
    const others = this.varying.filter((column) => column.name !== x);
    others.reverse().forEach((column, i) => {
      if (this.lines().size <= MOST_LINES) return;
      const values = distinct(column);
      const first = i >= others.length - 2;
      const middle = Math.floor(values.length / 2);
      const kept = first ? values.slice(0, 4) : [values[column.levels ? 0 : middle]];
      this.picks.set(column, new Set(kept));
    });
  }

  picked(redraw = true) {
    for (const pick of this.form.querySelectorAll(".pick")) {
      const column = this.data.byName[pick.dataset.column];
      const chosen = this.picks.get(column);
      const values = distinct(column);
      pick.querySelectorAll("input").forEach((box, i) => (box.checked = chosen.has(values[i])));
      const [only] = chosen;
      const text =
        chosen.size === 1
          ? column.levels ? column.levels[only] ?? "–" : only === null ? "–" : plain(only)
          : `${chosen.size === values.length ? "all" : chosen.size + " of"} ${values.length}`;
      pick.querySelector("summary").replaceChildren(`${column.label}: `, make("b", {}, text));
    }
    if (redraw) this.draw();
  }

  changed(event) {
    const { column } = event.target.dataset;
    if (column) {
      const chosen = [...event.target.closest("fieldset").querySelectorAll("input")];
      const values = distinct(this.data.byName[column]);
      this.picks.set(this.data.byName[column], new Set(values.filter((_, i) => chosen[i].checked)));
      this.picked();
      return;
    }
    if (event.target.name === "x") this.chooseStyles();
    this.hidden.clear();
    this.draw();
  }

  /* Rows by line: lines differ in a setting that is not the one along which they run. */
  lines() {
    const { data } = this;
    const x = data.byName[this.form.elements.x.value];
    let along = x;
    if (x && !x.setting) {
      along = ["concurrency", "request_rate", "batch_size"]
        .map((name) => data.byName[name])
        .find((column) => column && distinct(column).length > 1);
    }
    const keys = this.varying.filter((column) => column !== along);
    const picks = [...this.picks].filter(([column, set]) => set.size < distinct(column).length);
    const found = new Map();
    for (let row = 0; row < data.count; row++) {
      if (!picks.every(([column, set]) => set.has(column.values[row]))) continue;
      const key = keys.map((column) => column.values[row]).join("|");
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(row);
    }
    this.along = along;
    return found;
  }

  style(row) {
    const { colour, marker } = this.form.elements;
    const rank = (name) => {
      const column = this.data.byName[name];
      return column ? distinct(column).indexOf(column.values[row]) : 0;
    };
    const first = rank(colour.value);
    const second = marker.value && marker.value !== colour.value ? rank(marker.value) : first;
    return { colour: first % COLOURS, marker: second % MARKERS.length, key: `${first}/${second}` };
  }

  draw() {
    const { data, form } = this;
    const { x: xField, y: yField } = form.elements;
    const x = data.byName[xField.value];
    const y = data.byName[yField.value];
    if (!x || !y) {
      this.told.textContent = "There are no figures to draw: see the failures below.";
      this.form.hidden = true;
      return;
    }
    this.box.parentElement.hidden = false;
    this.width = this.box.clientWidth;
    const width = Math.max(this.width, 240);
    const height = Math.round(Math.min(Math.max(width * 0.55, 300), 520));
    const [logX, logY] = [form.elements.logx.checked, form.elements.logy.checked];
    const shows = (column, row, log) =>
      !isMissing(column, row) && (!log || column.values[row] > 0);

    const groups = new Map();
    const points = [];
    const absent = [];
    let left = 0;
    for (const rows of this.lines().values()) {
      const line = [];
      const style = this.style(rows[0]);
      if (!groups.has(style.key)) groups.set(style.key, { style, row: rows[0], lines: [], count: 0 });
      const group = groups.get(style.key);
      group.count += rows.length;
      if (this.hidden.has(style.key)) continue;
      for (const row of this.along ? ordered(rows, this.along, false) : rows) {
        if (!shows(x, row, logX)) continue;
        if (!shows(y, row, logY)) absent.push({ row, style });
        else if (points.length >= MOST_DRAWN) left++;
        else {
          const point = { row, style, line };
          line.push(point);
          points.push(point);
        }
      }
      group.lines.push(line);
    }

    const valuesOf = (column, some) => some.map((point) => column.values[point.row]);
    const xs = valuesOf(x, x.setting ? [...points, ...absent] : points);
    const only = x.setting ? [...new Set(xs)].sort((a, b) => a - b) : null;
    const frame = { top: 12, right: width - 14, bottom: height - 48 };
    const axisY = scaled(valuesOf(y, points), logY, frame.bottom - frame.top, 34);
    frame.left = 34 + 7.6 * Math.max(...axisY.ticks.map((tick) => plain(tick).length), 1);
    const axisX = scaled(xs, logX, frame.right - frame.left, 46, only?.length <= 24 ? only : null);
    const px = (value) => frame.left + axisX.place(value) * (frame.right - frame.left);
    const py = (value) => frame.bottom - axisY.place(value) * (frame.bottom - frame.top);
    for (const point of points) {
      point.x = px(x.values[point.row]);
      point.y = py(y.values[point.row]);
    }

    const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
    const count = new Set(points.map((point) => point.line)).size;
    picture.classList.toggle("many", count > 5 * MOST_LINES);
    picture.append(this.grid(axisX, axisY, px, py, frame, named(x), named(y), height));
    const r = points.length > 2000 ? 2 : points.length > 500 ? 3 : 4;
    const bars = points.length <= 2000 && y.low;
    const statuses = data.byName.status;
    for (const group of groups.values()) {
      const part = svg("g", { class: `c${group.style.colour}` });
      const shape = MARKERS[group.style.marker];
      let [path, full, hollow, bar] = ["", "", "", ""];
      for (const line of group.lines) {
        line.forEach((point, i) => {
          const at = `${point.x.toFixed(1)} ${point.y.toFixed(1)}`;
          path += (i ? "L" : "M") + at;
          const drawn = shape(point.x, point.y, r);
          if (statuses.levels[statuses.values[point.row]] === "unstable") hollow += drawn;
          else full += drawn;
          if (bars && y.low[point.row] !== null) {
            const ends = [y.low[point.row], y.high[point.row]].map((end) =>
              Math.min(Math.max(py(logY && end <= 0 ? Number.MIN_VALUE : end), frame.top), frame.bottom),
            );
            const cap = (end) => `M${(point.x - 3).toFixed(1)} ${end.toFixed(1)}h6`;
            bar += `M${point.x.toFixed(1)} ${ends[0].toFixed(1)}V${ends[1].toFixed(1)}`;
            bar += ends.filter((end) => end > frame.top && end < frame.bottom).map(cap).join("");
          }
        });
      }
      part.append(svg("path", { class: "bars", d: bar }), svg("path", { class: "line", d: path }));
      part.append(svg("path", { class: "full", d: full }), svg("path", { class: "hollow", d: hollow }));
      picture.append(part);
    }
    if (x.setting) this.drawAbsent(picture, absent, px, x, frame);
    this.overlay = svg("g", { class: "overlay" });
    picture.append(this.overlay);
    this.box.replaceChildren(picture);
    this.box.setAttribute("aria-label", this.summary(x, y, points));
    this.points = points;
    this.axes = { x, y };
    this.mark(null);
    this.drawLegend(groups);
    this.drawTold(points, absent, left, x, y, bars);
  }

  grid(axisX, axisY, px, py, frame, xName, yName, height) {
    const part = svg("g", { class: "axes" });
    for (const tick of axisX.ticks) {
      const at = px(tick);
      part.append(svg("path", { class: "gridline", d: `M${at} ${frame.top}V${frame.bottom}` }));
      part.append(svg("text", { x: at, y: frame.bottom + 18, "text-anchor": "middle" }, plain(tick)));
    }
    for (const tick of axisY.ticks) {
      const at = py(tick);
      part.append(svg("path", { class: "gridline", d: `M${frame.left} ${at}H${frame.right}` }));
      part.append(svg("text", { x: frame.left - 7, y: at + 4, "text-anchor": "end" }, plain(tick)));
    }
    const edge = `M${frame.left} ${frame.top}V${frame.bottom}H${frame.right}`;
    part.append(svg("path", { class: "edge", d: edge }));
    const middle = [(frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2];
    const along = { class: "name", "text-anchor": "middle" };
    part.append(svg("text", { ...along, x: middle[0], y: height - 8 }, xName));
    const turned = `translate(13 ${middle[1]}) rotate(-90)`;
    part.append(svg("text", { ...along, transform: turned }, yName));
    return part;
  }

  drawAbsent(picture, absent, px, x, frame) {
    const styles = [...new Set(absent.map((point) => point.style.key))];
    const paths = new Map();
    for (const { row, style } of absent.slice(0, MOST_DRAWN)) {
      const y = frame.bottom - 8 - 9 * (styles.indexOf(style.key) % 6);
      const key = style.colour;
      paths.set(key, (paths.get(key) || "") + cross(px(x.values[row]), y, 3));
    }
    for (const [colour, d] of paths) picture.append(svg("path", { class: `absent c${colour}`, d }));
  }

  drawLegend(groups) {
    const { colour, marker } = this.form.elements;
    const names = [...new Set([colour.value, marker.value])].filter(Boolean);
    const entries = [...groups.values()].map(({ style, row }) => {
      const swatch = svg("svg", { width: 30, height: 14, class: `c${style.colour}`, "aria-hidden": "true" });
      swatch.append(svg("path", { class: "line", d: "M1 7H29" }));
      swatch.append(svg("path", { class: "full", d: MARKERS[style.marker](15, 7, 4) }));
      const text = names.map((name) => {
        const column = this.data.byName[name];
        const value = written(column, row);
        return column.levels ? value : `${column.label} ${value}`;
      });
      const button = make("button", { type: "button", title: "show or hide" }, swatch, text.join(", "));
      button.setAttribute("aria-pressed", String(!this.hidden.has(style.key)));
      button.addEventListener("click", () => {
        if (!this.hidden.delete(style.key)) this.hidden.add(style.key);
        this.draw();
      });
      return button;
    });
    const place = [...this.legend.children].indexOf(document.activeElement);
    this.legend.replaceChildren(...(names.length ? entries : []));
    this.legend.children[place]?.focus();
  }

  drawTold(points, absent, left, x, y, bars) {
    const status = this.data.byName.status;
    const unstable = points.filter(
      (point) => status.levels[status.values[point.row]] === "unstable",
    ).length;
    const count = (number, word) => `${plain(number)} ${word}${number === 1 ? "" : "s"}`;
    const lines = new Set(points.map((point) => point.line)).size;
    const parts = [`${count(points.length, "point")} on ${count(lines, "line")}.`];
    if (left) parts.push(`${count(left, "point")} more not drawn: choose fewer.`);
    if (bars && points.some((point) => y.low[point.row] !== null)) parts.push(this.data.bars);
    if (unstable) parts.push(`Hollow: did not settle (${plain(unstable)}).`);
    if (absent.length) {
      const crosses = x.setting ? " (crosses at the lower edge)" : "";
      parts.push(`${count(absent.length, "point")} without ${y.label}${crosses}.`);
    }
    this.told.textContent = parts.join(" ");
  }

  summary(x, y, points) {
    return (
      `${named(y)} against ${named(x)}, ${points.length} points. ` +
      "Arrow keys go from point to point, Enter opens one; all are in the table of points."
    );
  }

  hover(event) {
    const area = this.box.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    let nearest = null;
    let least = REACH_PX ** 2;
    for (const point of this.points || []) {
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
    if ((!step && !jump) || !this.points?.length) return;
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
    const rows = [this.axes.y, this.axes.x, ...this.varying, this.data.byName.status]
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

/* The values of a column that occur, in order; of a column of texts their codes. */
function distinct(column) {
  column.distinct ??= [...new Set(column.values)].sort((a, b) => (a ?? Infinity) - (b ?? Infinity));
  return column.distinct;
}
