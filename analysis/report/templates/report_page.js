/* Starts the parts of the page, and shows the details of a point. */

function showDetails(data, row) {
  const dialog = document.getElementById("about");
  const groups = new Map();
  for (const column of data.columns) {
    if (isMissing(column, row)) continue;
    const { group } = column;
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(column);
  }
  const parts = [...groups].map(([group, columns]) => {
    if (columns[0].long) {
      return make("section", {}, make("h3", {}, group), make("pre", {}, written(columns[0], row)));
    }
    const entries = columns.map((column) => {
      const range = interval(column, row);
      const value = written(column, row) + (column.unit ? ` ${column.unit}` : "");
      const meaning = column.meaning || "";
      return make(
        "div",
        {},
        make("dt", { title: meaning }, column.label),
        make("dd", {}, value, ...(range ? [make("small", {}, ` (${range})`)] : [])),
      );
    });
    return make("section", {}, make("h3", {}, group), make("dl", {}, ...entries));
  });
  dialog.querySelector(".content").replaceChildren(...parts, repeats(data, row));
  dialog.showModal();
  dialog.scrollTop = 0;
}

function repeats(data, row) {
  const { columns, first } = data.repeats;
  const head = columns.map((column) => make("th", { scope: "col" }, named(column)));
  const lines = [];
  for (let i = first[row]; i < first[row + 1]; i++) {
    lines.push(make("tr", {}, ...columns.map((column) => make("td", {}, written(column, i)))));
  }
  const table = make(
    "table",
    {},
    make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, ...lines),
  );
  return make("section", {}, make("h3", {}, "Measurements"), make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": "measurements" }, table));
}

function showFigures(data) {
  const dialog = document.getElementById("larger");
  for (const image of document.querySelectorAll("img[data-figure]")) {
    const blob = new Blob([data.figures[image.dataset.figure]], { type: "image/svg+xml" });
    image.src = URL.createObjectURL(blob);
    const button = image.parentElement;
    button.disabled = false;
    button.addEventListener("click", () => {
      dialog.querySelector(".content").replaceChildren(image.cloneNode());
      dialog.showModal();
    });
  }
}

async function start() {
  const data = await unpack(document.getElementById("data"));
  const open = (row) => showDetails(data, row);
  for (const button of document.querySelectorAll("button[data-row]")) {
    button.addEventListener("click", () => open(Number(button.dataset.row)));
    button.disabled = false;
  }
  new Chart(document.getElementById("explore"), data, open);
  new PointTable(document.getElementById("points"), data, open);
  showFigures(data);
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  const message = document.getElementById("broken");
  message.hidden = false;
  message.querySelector("code").textContent = String(error);
  throw error;
});
