/* Scales and markers: pure functions from numbers to places, ticks and SVG path texts. */

/* A scale over values: place(v) is from 0 to 1, ticks are values whose labels have room. */
function scaled(values, logarithmic, room, size, only) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (!(low <= high)) [low, high] = logarithmic ? [1, 10] : [0, 1];
  if (logarithmic) {
    const padding = Math.max((high / low) ** 0.05, low === high ? 2 : 1.08);
    [low, high] = [low / padding, high * padding];
    const span = Math.log(high / low);
    const place = (value) => Math.log(value / low) / span;
    return { place, ticks: sparse(only || logTicks(low, high), place, room, size) };
  }
  const padding = (high - low || Math.abs(high) || 1) * 0.06;
  low = low >= 0 && low < high * 0.5 ? 0 : low - padding;
  high += padding;
  const place = (value) => (value - low) / (high - low);
  return { place, ticks: sparse(only || linearTicks(low, high, room / size), place, room, size) };
}

function logTicks(low, high) {
  const ticks = [];
  const many = Math.log10(high / low) > 3;
  for (let decade = Math.floor(Math.log10(low)); decade <= Math.log10(high); decade++) {
    for (const step of many ? [1] : [1, 2, 5]) {
      const tick = Number(`${step}e${decade}`);
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks.length > 1 ? ticks : linearTicks(low, high, 4);
}

function linearTicks(low, high, most) {
  const rough = (high - low) / Math.max(2, Math.min(8, most));
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * decade >= rough) * decade;
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
}

/* The ticks that have `size` pixels for themselves; powers of two first, as a reader looks for them. */
function sparse(ticks, place, room, size) {
  const isPower = (tick) => Number.isInteger(Math.log2(tick));
  const order = [...ticks.filter(isPower), ...ticks.filter((tick) => !isPower(tick))];
  const byRank = ticks.every(Number.isInteger) && ticks[0] > 0 && ticks.length > 2 ? order : ticks;
  const kept = [];
  for (const tick of byRank) {
    const here = place(tick) * room;
    if (kept.every((other) => Math.abs(place(other) * room - here) >= size)) kept.push(tick);
  }
  return kept.sort((a, b) => a - b);
}

const polygon = (corners, turn, size) => (x, y, r) => {
  let path = "";
  for (let i = 0; i < corners; i++) {
    const angle = turn + (i * 2 * Math.PI) / corners;
    const at = `${(x + size * r * Math.cos(angle)).toFixed(1)} ${(y + size * r * Math.sin(angle)).toFixed(1)}`;
    path += (i ? "L" : "M") + at;
  }
  return `${path}Z`;
};

/* Seven shapes and eight colours: 56 pairs before one comes again, as 7 and 8 share no factor. */
const MARKERS = [
  (x, y, r) => `M${(x - r).toFixed(1)} ${y.toFixed(1)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
  polygon(4, Math.PI / 4, 1.25),
  polygon(3, -Math.PI / 2, 1.35),
  polygon(4, 0, 1.35),
  polygon(3, Math.PI / 2, 1.35),
  polygon(6, 0, 1.15),
  polygon(5, -Math.PI / 2, 1.2),
];
const COLOURS = 8;

function cross(x, y, r) {
  return `M${x - r} ${y - r}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`;
}
