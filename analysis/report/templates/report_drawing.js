/* Draws parts of the figure as SVG. Points have x, y, row, style and the line they are on. */

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/* The lines and markers of one style, one path of each kind however many points there are. */
function drawGroup(group, r, isHollow, ends) {
  const part = svg("g", { class: `c${group.style.colour}` });
  const shape = MARKERS[group.style.marker];
  let [path, full, hollow, bars] = ["", "", "", ""];
  for (const line of group.lines) {
    line.forEach((point, i) => {
      path += `${i ? "L" : "M"}${point.x.toFixed(1)} ${point.y.toFixed(1)}`;
      const drawn = shape(point.x, point.y, r);
      if (isHollow(point.row)) hollow += drawn;
      else full += drawn;
      bars += bar(point, ends(point.row));
    });
  }
  part.append(svg("path", { class: "bars", d: bars }), svg("path", { class: "line", d: path }));
  part.append(svg("path", { class: "full", d: full }), svg("path", { class: "hollow", d: hollow }));
  return part;
}

/* A bar from end to end; an end that lies outside of the frame has no cap. */
function bar(point, ends) {
  if (!ends) return "";
  const x = point.x.toFixed(1);
  const caps = ends.filter(({ inside }) => inside);
  return (
    `M${x} ${ends[0].y.toFixed(1)}V${ends[1].y.toFixed(1)}` +
    caps.map(({ y }) => `M${(point.x - 3).toFixed(1)} ${y.toFixed(1)}h6`).join("")
  );
}

/* Where an end of a bar is drawn; below a logarithmic axis (-1) at its lower edge. */
function placed(end, py, frame) {
  const y = end < 0 ? frame.bottom + 1 : py(end);
  const inside = y > frame.top && y < frame.bottom;
  return { y: Math.min(Math.max(y, frame.top), frame.bottom), inside };
}

function drawAxes(axisX, axisY, px, py, frame, xName, yName, height) {
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

function drawAbsent(picture, absent, px, x, frame) {
  const styles = [...new Set(absent.map((point) => point.style.key))];
  const paths = new Map();
  for (const { row, style } of absent.slice(0, MOST_DRAWN)) {
    const y = frame.bottom - 8 - 9 * (styles.indexOf(style.key) % 6);
    const key = style.colour;
    paths.set(key, (paths.get(key) || "") + cross(px(x.values[row]), y, 3));
  }
  for (const [colour, d] of paths) picture.append(svg("path", { class: `absent c${colour}`, d }));
}
