// Tables sort by any heading, once in each direction; empty cells go last in both. Each body of a
// table (a leaderboard's controls are one) keeps its place.
const sorters = new Map();
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  const sort = (place, down) => {
    const head = heads[place], numeric = head.classList.contains("n");
    const key = (row) => row.cells[place].dataset.sort;
    for (const body of table.tBodies) {
      body.append(...[...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (!x || !y) return !x - !y;
        const order = numeric ? x - y : x.localeCompare(y, "en", { numeric: true });
        return down ? -order : order;
      }));
    }
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };
  sorters.set(table.id, sort);
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending" ||
      (!head.hasAttribute("aria-sort") && head.classList.contains("n"));
    sort(place, down);
    if (table.id === "table-results") remember();
  }));
}

// The leaderboard: what is shown is chosen above it and stands in the address.
const board = document.getElementById("table-results"), filters = document.getElementById("filters");
const chosen = () => Object.fromEntries(new FormData(filters));
const start = chosen();
function filter() {
  const { recommender = "", kind = "", ranking = "all", metric = "", k } = chosen();
  for (const cell of board.querySelectorAll("[data-k]")) {
    cell.hidden = cell.dataset.k !== k || Boolean(metric && cell.dataset.metric !== metric);
  }
  for (const row of board.querySelectorAll("tbody tr")) {
    const of = row.dataset.recommender;
    row.hidden = row.dataset.ranking !== ranking || Boolean(recommender && of && of !== recommender) ||
      Boolean(kind && row.dataset.kind !== "control" && row.dataset.kind !== kind);
  }
}
function remember() {
  const state = new URLSearchParams();
  for (const [name, value] of Object.entries(chosen())) if (value !== start[name]) state.set(name, value);
  const sorted = board.querySelector("th[aria-sort]");
  if (sorted) state.set("sort", (sorted.getAttribute("aria-sort") === "descending" ? "-" : "") + sorted.textContent.trim());
  history.replaceState(null, "", state.size ? "#" + state : location.pathname + location.search);
}
function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(start)) {
    const wanted = state.get(name) ?? value;
    const radios = [...filters.elements].filter((each) => each.name === name); // there may be one
    const known = radios.some((radio) => radio.value === wanted) ? wanted : value;
    for (const radio of radios) radio.checked = radio.value === known;
  }
  const sort = state.get("sort");
  const place = sort ? [...board.tHead.rows[0].cells].findIndex((head) => head.textContent.trim() === sort.replace(/^-/, "")) : -1;
  if (place >= 0) sorters.get(board.id)(place, sort.startsWith("-"));
  filter();
}
filters.addEventListener("change", () => { filter(); remember(); });
filters.addEventListener("submit", (event) => event.preventDefault());
followAddress(recall);
recall();

// What is shown, to take away.
const shownRows = () => [...board.rows].filter((row) => !row.hidden)
  .map((row) => [...row.cells].filter((cell) => !cell.hidden));
const text = (cell) => (cell.querySelector("b, u") ?? cell.firstChild).textContent.trim();
const half = (cell) => (cell.querySelector("small")?.textContent ?? "").replace("\u00B1", "").split(",")[0].trim();
function asCsv() {
  const quote = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const plain = (value) => (value === "\u2013" ? "" : value);
  return shownRows().map((row) => row.flatMap((cell) => {
    if (cell.tagName === "TH") return cell.dataset.k ? [cell.textContent.trim(), cell.textContent.trim() + "_ci95"] : [cell.textContent.trim()];
    if (cell.dataset.k) return [cell.dataset.sort, half(cell)];
    const bare = cell.classList.contains("n") && cell.dataset.sort; // 4800, where the page has 4,800
    return [bare ? String(Number(bare)) : plain(text(cell))];
  }).map(quote).join(",")).join("\n") + "\n";
}
function asTex() {
  const names = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
  const escape = (value) => value.replace(/[\\~^_%&#${}]/g, (c) => names[c] ?? "\\" + c).replaceAll("\u2013", "--");
  const [head, ...rows] = shownRows();
  const lines = rows.map((row) => row.map((cell) => {
    let value = escape(text(cell));
    if (!cell.dataset.k || !cell.dataset.sort) return value;
    if (cell.querySelector("b")) value = `\\textbf{${value}}`;
    if (cell.querySelector("u")) value = `\\underline{${value}}`;
    const letters = cell.querySelector("sup")?.textContent.replaceAll("'", "\\prime ");
    return `${value}\\,$\\pm$\\,${half(cell)}` + (letters ? `$^{\\mathrm{${letters}}}$` : "");
  }).join(" & ") + " \\\\");
  const own = [...board.tBodies[0].rows].filter((row) => !row.hidden).length;
  if (own && own < lines.length) lines.splice(own, 0, "\\midrule");
  const columns = head.map((cell) => (cell.classList.contains("n") ? "r" : "l")).join("");
  const caption = "Mean over the test users and 95\\,\\% interval. Bold and underlined: the best and second best representation of a recommender; rows of one recommender that share a letter cannot be told apart; controls below the rule.";
  return ["% \\usepackage{booktabs}", "\\begin{table}", `\\caption{${caption}}`, "\\label{tab:leaderboard}", `\\begin{tabular}{${columns}}`, "\\toprule",
    head.map((cell) => escape(cell.textContent.trim())).join(" & ") + " \\\\", "\\midrule", ...lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""].join("\n");
}
function download(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  document.getElementById("taken").textContent = `${name} is in your downloads.`;
}
document.getElementById("take-csv").addEventListener("click", () => download("leaderboard.csv", "text/csv", asCsv()));
document.getElementById("take-tex").addEventListener("click", () => download("leaderboard.tex", "text/x-tex", asTex()));
