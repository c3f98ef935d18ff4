"use strict";
// Tables sort by any heading, once ascending, once descending; cells without a number go last.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending" ||
      (!head.hasAttribute("aria-sort") && head.classList.contains("n"));
    const key = (row) => row.cells[place].dataset.sort;
    const numeric = head.classList.contains("n");
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = numeric ? [parseFloat(key(a)), parseFloat(key(b))] : [key(a), key(b)];
      if (numeric && (Number.isNaN(x) || Number.isNaN(y))) return Number.isNaN(x) - Number.isNaN(y);
      const order = numeric ? x - y : x.localeCompare(y, "en", { numeric: true });
      return down ? -order : order;
    });
    body.append(...rows);
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  }));
}

// One list length at a time: five metrics at four lengths are too many columns.
for (const choice of document.querySelectorAll("[data-columns]")) {
  const table = document.getElementById(choice.dataset.columns);
  const show = () => {
    const k = choice.querySelector(":checked").value;
    for (const cell of table.querySelectorAll("[data-k]")) cell.hidden = cell.dataset.k !== k;
  };
  choice.addEventListener("change", show);
  show();
}
