"use strict";
// The page is whole without this: it sorts, filters, marks and enlarges.
{
  const table = document.getElementById("table");
  const body = table?.tBodies[0], heads = [...(table?.tHead.rows[0].cells ?? [])], rows = [...(body?.rows ?? [])];
  const columns = new Map(heads.map((head, place) => [head.dataset.name, place]));
  const marks = new Map();
  for (const mark of document.querySelectorAll("svg [data-trial]")) {
    const number = mark.dataset.trial;
    if (!marks.has(number)) marks.set(number, []);
    marks.get(number).push(mark);
  }

  // Numbers before words, and what is missing last, either way.
  const valueOf = (row, place) => {
    const cell = row.cells[place], text = cell.textContent;
    return "v" in cell.dataset ? Number(cell.dataset.v) : text || null;
  };
  const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  const sort = (head) => {
    const place = head.cellIndex, down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = rows.map((row) => [valueOf(row, place), row]);
    keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : compare(a, b) * (down ? -1 : 1)));
    body.append(...keyed.map(([, row]) => row));
  };
  heads.forEach((head) => head.firstElementChild.addEventListener("click", () => sort(head)));

  const tests = {
    "=": (order) => order === 0, "!=": (order) => order !== 0,
    "<": (order) => order < 0, "<=": (order) => order <= 0, ">": (order) => order > 0, ">=": (order) => order >= 0,
  };
  const condition = (word) => {
    const [, name, sign, wanted] = word.match(/^([^=!<>]+)(!=|<=|>=|=|<|>)(.+)$/) ?? [];
    if (!columns.has(name)) return (row) => row.textContent.toLowerCase().includes(word.toLowerCase());
    return (row) => {
      const value = valueOf(row, columns.get(name)), number = Number(wanted);
      if (value === null) return sign === "!=";
      const same = typeof value === "number" && !Number.isNaN(number);
      return tests[sign](same ? compare(value, number) : compare(String(value).toLowerCase(), wanted.toLowerCase()));
    };
  };
  const filter = document.getElementById("filter"), count = document.getElementById("count");
  const apply = () => {
    const conditions = filter.value.split(/\s+/).filter(Boolean).map(condition);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !conditions.every((holds) => holds(row));
      shown += !row.hidden && "trial" in row.dataset;
      for (const mark of marks.get(row.dataset.trial) ?? []) mark.classList.toggle("out", row.hidden);
    }
    count.textContent = `${shown} of ${rows.filter((row) => "trial" in row.dataset).length} trials`;
  };
  filter?.addEventListener("input", apply);
  if (filter) apply();

  // One trial, in the table and in all charts.
  const choose = (number, on) => {
    for (const mark of marks.get(number) ?? []) mark.classList.toggle("chosen", on);
    const row = rows.find((one) => one.dataset.trial === number);
    row?.classList.toggle("chosen", on);
    row?.querySelector("button").setAttribute("aria-pressed", on);
  };
  const toggle = (number) => choose(number, !rows.find((row) => row.dataset.trial === number)?.classList.contains("chosen"));
  body?.addEventListener("click", (event) => {
    const row = event.target.closest("button")?.closest("tr");
    if (row) toggle(row.dataset.trial);
  });
  const tip = document.getElementById("tip");
  const markAt = (event) => event.target.closest?.("svg [data-trial]");
  addEventListener("pointerover", (event) => {
    const mark = markAt(event);
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.getAttribute("aria-label");
    const { offsetWidth: width, offsetHeight: height } = tip;
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 4))}px`;
    tip.style.top = `${event.clientY + height + 20 < innerHeight ? event.clientY + 14 : event.clientY - height - 10}px`;
  });
  addEventListener("click", (event) => {
    const mark = markAt(event);
    if (mark) toggle(mark.dataset.trial);
  });

  // Pictures, large, beside the photo's truth and gray.
  const dialog = document.getElementById("enlarged"), buttons = [...document.querySelectorAll(".enlarge")];
  let open = 0;
  const enlarge = (place) => {
    open = (place + buttons.length) % buttons.length;
    const figure = buttons[open].parentElement, row = figure.parentElement;
    const beside = [...row.children].slice(0, 2).filter((one) => one !== figure);
    dialog.querySelector(".large").replaceChildren(...[...beside, figure].flatMap((one) =>
      [...one.querySelectorAll("img")].map((image) => {
        const large = document.createElement("figure"), words = document.createElement("figcaption");
        words.textContent = one.querySelector("figcaption").textContent;
        large.append(image.cloneNode(), words);
        return large;
      })));
    document.getElementById("caption").textContent = row.previousElementSibling.textContent;
    if (!dialog.open) dialog.showModal();
  };
  buttons.forEach((button, place) => button.addEventListener("click", () => enlarge(place)));
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
