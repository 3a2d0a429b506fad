/* The data: columns, packed as gzip in base64 inside the page, and how a value is written. */

const COMPARE = { "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "=": (a, b) => a === b };

async function unpack(element) {
  const text = atob(element.textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = JSON.parse(await new Response(stream).text());
  data.byName = Object.fromEntries(data.columns.map((column) => [column.name, column]));
  return data;
}

/* A missing value is null in a column of numbers, and -1 among the codes of a column of texts. */
function isMissing(column, row) {
  return column.levels ? column.values[row] < 0 : column.values[row] === null;
}

function plain(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e7 || size < 1e-4) return value.toExponential(2).replace("e+", "e");
  if (size >= 1000) {
    return Math.round(value).toLocaleString("en-US");
  }
  return String(Number(value.toPrecision(4)));
}

function written(column, row) {
  return valueText(column, column.values[row]);
}

/* The values of a column that occur, in order; of a column of texts their codes. */
function distinct(column) {
  column.distinct ??= [...new Set(column.values)].sort((a, b) => (a ?? Infinity) - (b ?? Infinity));
  return column.distinct;
}

function valueText(column, value) {
  if (column.levels) return column.levels[value] ?? "–";
  return value === null ? "–" : plain(value);
}

function interval(column, row) {
  if (!column.low || column.low[row] === null || column.high[row] === null) return "";
  return `${plain(column.low[row])} to ${plain(column.high[row])}`;
}

function named(column) {
  return column.unit ? `${column.label} [${column.unit}]` : column.label;
}

/* The rows in the order of a column; missing values come last either way. */
function ordered(rows, column, descending) {
  const sign = descending ? -1 : 1;
  const values = column.values;
  const [missing, present] = [[], []];
  for (const row of rows) (isMissing(column, row) ? missing : present).push(row);
  present.sort((a, b) => sign * (values[a] - values[b]) || a - b);
  return present.concat(missing);
}

/* The rows that hold every word in one of their texts, and meet every choice and condition. */
function chosen(data, { words = [], choices = [], condition = null }) {
  const texts = data.columns.filter((column) => column.levels && column.search);
  const tests = words.map((word) =>
    texts.map((column) => column.levels.map((level) => level.toLowerCase().includes(word))),
  );
  const rows = [];
  for (let row = 0; row < data.count; row++) {
    if (!choices.every(([column, code]) => column.values[row] === code)) continue;
    if (condition) {
      const value = condition.column.values[row];
      if (value === null || !COMPARE[condition.sign](value, condition.value)) continue;
    }
    const holds = (test) => texts.some((column, i) => test[i][column.values[row]]);
    if (tests.every(holds)) rows.push(row);
  }
  return rows;
}

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && name !== "role") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function asCsv(data, rows) {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const fields = data.columns.flatMap((column) =>
    [column, ...(column.low ? ["low", "high"] : [])].map((end) =>
      typeof end === "string"
        ? { name: `${column.name}_${end}`, of: (row) => column[end][row] ?? "" }
        : {
            name: column.name,
            of: (row) =>
              isMissing(column, row)
                ? ""
                : column.levels
                  ? column.levels[column.values[row]]
                  : column.values[row],
          },
    ),
  );
  const lines = [fields.map((field) => field.name)];
  for (const row of rows) lines.push(fields.map((field) => field.of(row)));
  return lines.map((line) => line.map((cell) => quoted(String(cell))).join(",")).join("\r\n");
}
