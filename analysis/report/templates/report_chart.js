/* The interactive figure: any column against any other, one line per configuration. */

const MOST_LINES = 12;
const MOST_DRAWN = 20000;
const MOST_BARS = 2000;

class Chart {
  constructor(section, data, open) {
    this.data = data;
    this.box = section.querySelector(".chart");
    this.legend = section.querySelector(".legend");
    this.message = section.querySelector(".message");
    this.form = section.querySelector("form");
    this.varying = data.columns.filter((column) => column.setting && distinct(column).length > 1);
    this.hidden = new Set();
    this.fillAxes();
    this.picks = new Picks(section.querySelector(".picks"), this.varying, () => this.draw());
    this.picks.thinOut(this.form.elements.x.value, () => this.lines().size, MOST_LINES);
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", (event) => this.changed(event));
    const tipColumns = [...this.varying, data.byName.status];
    this.pointer = new Pointer(this.box, section.querySelector(".tip"), tipColumns, open);
    new ResizeObserver(() => this.box.clientWidth !== this.width && this.draw()).observe(this.box);
    this.draw();
  }

  fillAxes() {
    const { x, y, colour, marker } = this.form.elements;
    const axes = this.varying.filter((column) => !column.levels);
    const metrics = this.data.columns.filter((column) => column.group === "Metrics");
    for (const column of [...axes, ...metrics]) x.append(new Option(named(column), column.name));
    for (const column of metrics) y.append(new Option(named(column), column.name));
    if (!axes.length) x.value = (metrics.find((column) => column.unit === "ms") || metrics[0])?.name;
    colour.append(new Option("one", ""));
    marker.append(new Option("as the colour", ""));
    for (const column of this.varying) {
      colour.append(new Option(column.label, column.name));
      marker.append(new Option(column.label, column.name));
    }
    this.chooseStyles();
  }

  /* The first two settings in which lines differ get the colour and the marker. */
  chooseStyles() {
    const { colour, marker } = this.form.elements;
    const others = this.varying.filter((column) => column !== this.along);
    colour.value = others[0]?.name ?? "";
    marker.value = others[1]?.name ?? "";
  }

  changed(event) {
    if (event.target.name === "x") this.chooseStyles();
    this.hidden.clear();
    this.draw();
  }

  get x() {
    return this.data.byName[this.form.elements.x.value];
  }

  get y() {
    return this.data.byName[this.form.elements.y.value];
  }

  /* The setting along which lines run: that of the x axis, or the load if the x axis is a metric. */
  get along() {
    if (!this.x || this.x.setting) return this.x;
    const loads = ["concurrency", "request_rate", "batch_size"];
    return this.varying.find((column) => loads.includes(column.name));
  }

  /* The chosen rows, by the settings in which lines differ. */
  lines() {
    const { along } = this;
    const keys = this.varying.filter((column) => column !== along);
    const isChosen = this.picks.test;
    const found = new Map();
    for (let row = 0; row < this.data.count; row++) {
      if (!isChosen(row)) continue;
      const key = keys.map((column) => column.values[row]).join("|");
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(row);
    }
    return found;
  }

  /* The settings that colour and marker stand for; along a line neither changes. */
  get styled() {
    const { colour, marker } = this.form.elements;
    return [colour.value, marker.value]
      .map((name) => this.data.byName[name])
      .map((column) => (column === this.along ? undefined : column));
  }

  style(row) {
    const rank = (column) => (column ? distinct(column).indexOf(column.values[row]) : 0);
    const [byColour, byMarker] = this.styled;
    const first = rank(byColour);
    const second = byMarker ? rank(byMarker) : first;
    return { colour: first % COLOURS, marker: second % MARKERS.length, key: `${first}/${second}` };
  }

  /* What is drawn: groups of lines of one style, and of their rows those with and without a value. */
  content(logX, logY) {
    const { x, y, along } = this;
    const shows = (column, row, log) =>
      !isMissing(column, row) && (!log || column.values[row] > 0);
    const found = { groups: new Map(), points: [], absent: [], left: 0 };
    for (const rows of this.lines().values()) {
      const style = this.style(rows[0]);
      if (!found.groups.has(style.key)) found.groups.set(style.key, { style, row: rows[0], lines: [] });
      if (this.hidden.has(style.key)) continue;
      const line = [];
      for (const row of along ? ordered(rows, along, false) : rows) {
        if (!shows(x, row, logX)) continue;
        if (!shows(y, row, logY)) found.absent.push({ row, style });
        else if (found.points.length >= MOST_DRAWN) found.left++;
        else {
          line.push({ row, style, line });
          found.points.push(line.at(-1));
        }
      }
      found.groups.get(style.key).lines.push(line);
    }
    return found;
  }

  draw() {
    const { x, y } = this;
    if (!x || !y) {
      this.message.textContent = "There is nothing to draw: no point has a result. What went wrong stands below.";
      this.form.hidden = true;
      return;
    }
    this.box.parentElement.hidden = false;
    this.width = this.box.clientWidth;
    const width = Math.max(this.width, 240);
    const height = Math.round(Math.min(Math.max(width * 0.55, 300), 520));
    const [logX, logY] = [this.form.elements.logx.checked, this.form.elements.logy.checked];
    const content = this.content(logX, logY);
    const { groups, points, absent } = content;

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
    const lines = new Set(points.map((point) => point.line)).size;
    picture.classList.toggle("many", lines > 5 * MOST_LINES);
    picture.append(drawAxes(axisX, axisY, px, py, frame, named(x), named(y), height));
    const radius = points.length > 2000 ? 2 : points.length > 500 ? 3 : 4;
    const hasBars = y.low && points.length <= MOST_BARS;
    const ends = (row) =>
      hasBars && this.isBarred(row)
        ? [y.low[row], y.high[row]].map((end) => placed(logY && end <= 0 ? -1 : end, py, frame))
        : null;
    for (const group of groups.values()) {
      picture.append(drawGroup(group, radius, (row) => this.isUnstable(row), ends));
    }
    if (x.setting) drawAbsent(picture, absent, px, x, frame);
    const overlay = svg("g", { class: "overlay" });
    picture.append(overlay);
    this.box.replaceChildren(picture);
    this.box.setAttribute(
      "aria-label",
      `${named(y)} against ${named(x)}, ${points.length} points. Arrow keys go from point to ` +
        "point, Enter opens one; all are in the table of points.",
    );
    this.pointer.attach(points, { x, y }, overlay);
    this.drawLegend(groups);
    this.writeMessage(content, lines, hasBars);
  }

  isUnstable(row) {
    const { status } = this.data.byName;
    return status.levels[status.values[row]] === "unstable";
  }

  drawLegend(groups) {
    const columns = [...new Set(this.styled)].filter(Boolean);
    const entries = [...groups.values()].map(({ style, row }) => {
      const swatch = svg("svg", { width: 30, height: 14, class: `c${style.colour}`, "aria-hidden": "true" });
      swatch.append(svg("path", { class: "line", d: "M1 7H29" }));
      swatch.append(svg("path", { class: "full", d: MARKERS[style.marker](15, 7, 4) }));
      const text = columns.map((column) => {
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
    this.legend.replaceChildren(...(columns.length ? entries : []));
    this.legend.children[place]?.focus();
  }

  /* The interval of two measurements is 13 times as wide as they are apart: longer than any axis. */
  isBarred(row) {
    return this.y.low[row] !== null && this.data.byName.measured.values[row] > 2;
  }

  writeMessage({ points, absent, left }, lines, hasBars) {
    const { x, y } = this;
    const unstable = points.filter((point) => this.isUnstable(point.row)).length;
    const count = (number, word) => `${plain(number)} ${word}${number === 1 ? "" : "s"}`;
    const parts = [`${count(points.length, "point")} on ${count(lines, "line")}.`];
    if (left) parts.push(`${count(left, "point")} more not drawn: choose fewer.`);
    if (hasBars && points.some((point) => this.isBarred(point.row))) parts.push(this.data.bars);
    if (unstable) parts.push(`Hollow: did not settle (${plain(unstable)}).`);
    if (absent.length) {
      const crosses = x.setting ? " (crosses at the lower edge)" : "";
      parts.push(`${count(absent.length, "point")} without ${y.label}${crosses}.`);
    }
    this.message.textContent = parts.join(" ");
  }
}
