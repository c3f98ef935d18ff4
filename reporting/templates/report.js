"use strict";
// Tables sort by any heading, once in each direction; empty cells go last in both.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending" ||
      (!head.hasAttribute("aria-sort") && head.classList.contains("n"));
    const key = (row) => row.cells[place].dataset.sort;
    const numeric = head.classList.contains("n");
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!x || !y) return !x - !y;
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
