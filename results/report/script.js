"use strict";
// Optional features: sorting and filtering the trial table, highlighting trials in the charts, enlarging pictures.
{
  const table = document.getElementById("table");
  const body = table?.tBodies[0], heads = [...(table?.tHead.rows[0].cells ?? [])], rows = [...(body?.rows ?? [])];
  const columns = new Map(heads.map((head, index) => [head.dataset.name, index]));
  const marks = new Map();
  for (const mark of document.querySelectorAll("svg [data-trial]")) {
    const number = mark.dataset.trial;
    if (!marks.has(number)) marks.set(number, []);
    marks.get(number).push(mark);
  }

  // In both directions, numbers come before words and missing values last.
  const valueOf = (row, column) => {
    const cell = row.cells[column], text = cell.textContent;
    return "v" in cell.dataset ? Number(cell.dataset.v) : text || null;
  };
  const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  const sort = (head) => {
    const column = head.cellIndex, descending = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const keyed = rows.map((row) => [valueOf(row, column), row]);
    keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : compare(a, b) * (descending ? -1 : 1)));
    body.append(...keyed.map(([, row]) => row));
  };
  heads.forEach((head) => head.firstElementChild.addEventListener("click", () => sort(head)));

  const comparisons = {
    "=": (order) => order === 0, "!=": (order) => order !== 0,
    "<": (order) => order < 0, "<=": (order) => order <= 0, ">": (order) => order > 0, ">=": (order) => order >= 0,
  };
  const condition = (word) => {
    const [, name, operator, expected] = word.match(/^([^=!<>]+)(!=|<=|>=|=|<|>)(.+)$/) ?? [];
    if (!columns.has(name)) return (row) => row.textContent.toLowerCase().includes(word.toLowerCase());
    return (row) => {
      const value = valueOf(row, columns.get(name)), number = Number(expected);
      if (value === null) return operator === "!=";
      const numeric = typeof value === "number" && !Number.isNaN(number);
      return comparisons[operator](numeric ? compare(value, number) : compare(String(value).toLowerCase(), expected.toLowerCase()));
    };
  };
  const filter = document.getElementById("filter"), count = document.getElementById("count");
  const apply = () => {
    const conditions = filter.value.split(/\s+/).filter(Boolean).map(condition);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !conditions.every((matches) => matches(row));
      shown += !row.hidden && "trial" in row.dataset;
      for (const mark of marks.get(row.dataset.trial) ?? []) mark.classList.toggle("filtered-out", row.hidden);
    }
    count.textContent = `${shown} of ${rows.filter((row) => "trial" in row.dataset).length} trials`;
  };
  filter?.addEventListener("input", apply);
  if (filter) apply();

  // Highlight a trial in the table and in all charts.
  const highlight = (number, on) => {
    for (const mark of marks.get(number) ?? []) mark.classList.toggle("highlighted", on);
    const row = rows.find((one) => one.dataset.trial === number);
    row?.classList.toggle("highlighted", on);
    row?.querySelector("button").setAttribute("aria-pressed", on);
  };
  const toggle = (number) => highlight(number, !rows.find((row) => row.dataset.trial === number)?.classList.contains("highlighted"));
  body?.addEventListener("click", (event) => {
    const row = event.target.closest("button")?.closest("tr");
    if (row) toggle(row.dataset.trial);
  });
  const tooltip = document.getElementById("tooltip");
  const markAt = (event) => event.target.closest?.("svg [data-trial]");
  addEventListener("pointerover", (event) => {
    const mark = markAt(event);
    tooltip.hidden = !mark;
    if (!mark) return;
    tooltip.textContent = mark.getAttribute("aria-label");
    const { offsetWidth: width, offsetHeight: height } = tooltip;
    tooltip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 4))}px`;
    tooltip.style.top = `${event.clientY + height + 20 < innerHeight ? event.clientY + 14 : event.clientY - height - 10}px`;
  });
  addEventListener("click", (event) => {
    const mark = markAt(event);
    if (mark) toggle(mark.dataset.trial);
  });

  // Enlarge a picture, beside the truth and the luma of the same photo.
  const dialog = document.getElementById("enlarged"), buttons = [...document.querySelectorAll(".enlarge")];
  let open = 0;
  const enlarge = (index) => {
    open = (index + buttons.length) % buttons.length;
    const figure = buttons[open].parentElement, row = figure.parentElement;
    const beside = [...row.children].slice(0, 2).filter((one) => one !== figure);
    dialog.querySelector(".large").replaceChildren(...[...beside, figure].flatMap((one) =>
      [...one.querySelectorAll("img")].map((image) => {
        const large = document.createElement("figure"), caption = document.createElement("figcaption");
        caption.textContent = one.querySelector("figcaption").textContent;
        large.append(image.cloneNode(), caption);
        return large;
      })));
    document.getElementById("caption").textContent = row.previousElementSibling.textContent;
    if (!dialog.open) dialog.showModal();
  };
  buttons.forEach((button, index) => button.addEventListener("click", () => enlarge(index)));
  dialog.addEventListener("click", (event) => {
    const value = event.target.closest("button")?.value;
    if (event.target === dialog || value === "0") dialog.close();
    else if (value) enlarge(open + Number(value));
  });
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); enlarge(open + step); }
  });
  dialog.addEventListener("close", () => buttons[open].focus());
  document.documentElement.dataset.ready = "";
}
