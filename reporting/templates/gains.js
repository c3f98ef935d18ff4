// Who gains: the difference of two rows for every user, its distribution and its means by group.
const gainsData = JSON.parse(byId("gains-data").textContent);
const BINS = 10; // of a tenth each way; users without a difference have a bar of their own
const three = (value) => value.toFixed(3).replace(/^(-?)0\./, "$1.").replace(/^-(\.0+)$/, "$1");
const percent = (share) => `${Math.round(100 * share)} %`;
async function userValues() {
  const buffer = await load("users"), { users, metrics, rows, groups } = gainsData;
  const values = new Uint16Array(buffer, 0, metrics.length * rows.length * users);
  const start = 2 * values.length;
  return {
    column: (metric, row) => values.subarray((metric * rows.length + row) * users, (metric * rows.length + row + 1) * users),
    group: (at) => new Uint8Array(buffer, start + at * users, users),
  };
}
function summary(differences) {
  const n = differences.length, mean = differences.reduce((a, b) => a + b, 0) / n;
  const spread = Math.sqrt(differences.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(n - 1, 1));
  const better = differences.filter((d) => d > 1e-9).length, worse = differences.filter((d) => d < -1e-9).length;
  return { n, mean, half: n > 4 ? studentT(n - 1) * spread / Math.sqrt(n) : NaN, better: better / n, worse: worse / n };
}
// 97.5 % quantile of Student's t, as the tables' intervals have it: Cornish and Fisher's series from
// the normal's, within 1 % from 4 degrees of freedom on. Abramowitz and Stegun 26.7.5.
function studentT(freedom) {
  const z = 1.959964, g = [(z ** 3 + z) / 4, (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384];
  return z + g[0] / freedom + g[1] / freedom ** 2 + g[2] / freedom ** 3;
}
const give = ({ mean, half }) => three(mean) + (Number.isNaN(half) ? "" : ` \u00B1 ${three(half)}`);
function histogram(differences) {
  const counts = new Array(2 * BINS + 1).fill(0);
  for (const d of differences) {
    const far = Math.min(BINS, Math.ceil(Math.abs(d) * BINS - 1e-9) || 1);
    counts[Math.abs(d) <= 1e-9 ? BINS : d > 0 ? BINS + far : BINS - far]++;
  }
  const most = Math.max(...counts);
  return el("div", { class: "histogram", role: "img", "aria-label": `Users by difference, from -1 to 1: ${counts.join(", ")}` },
    ...counts.map((count, at) => el("i", {
      class: at < BINS ? "worse" : at > BINS ? "better" : "same",
      style: `border-top-width: ${count ? Math.max(1, 110 * count / most) : 0}px`, title: `${count} users`,
    })));
}
async function showGains() {
  const [one, other, metric] = ["one", "other", "of"].map((id) => Number(byId(id).value));
  let data;
  try { data = await userValues(); } catch (error) { byId("gains-told").textContent = error.message; return; }
  const a = data.column(metric, one), b = data.column(metric, other);
  const differences = Array.from(a, (value, at) => (value - b[at]) / 65535), all = summary(differences);
  byId("gains-told").textContent = `${gainsData.rows[one]} is better for ${percent(all.better)} of ${all.n.toLocaleString("en")} users, ` +
    `worse for ${percent(all.worse)}, and the same for ${percent(1 - all.better - all.worse)}; ` +
    `the mean difference in ${gainsData.metrics[metric]} is ${give(all)} (95 % interval over users).`;
  const rows = gainsData.groups.flatMap(({ name, groups }, at) => {
    const of = data.group(at);
    return groups.flatMap((group, place) => {
      const own = differences.filter((_, user) => of[user] === place);
      if (!own.length) return [];
      const told = summary(own), { n, better, worse } = told;
      return [el("tr", {}, ...[name, group].map((text) => el("td", {}, text)),
        ...[n.toLocaleString("en"), give(told), percent(better), percent(worse)].map((text) => el("td", { class: "n" }, text)))];
    });
  });
  const heads = ["by", "group", "users", "mean difference", "better", "worse"];
  byId("gains-shown").replaceChildren(
    el("figure", {}, histogram(differences), el("figcaption", {}, "Users by their difference, from \u22121 on the left to 1; the middle bar is of those without a difference.")),
    el("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Differences by group of users" },
      el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((text, at) => el("th", { scope: "col", class: at > 1 ? "n" : "" }, text)))), el("tbody", {}, ...rows))));
}
byId("gains").addEventListener("toggle", () => { if (byId("gains").open) showGains(); });
for (const id of ["one", "other", "of"]) byId(id).addEventListener("change", showGains);
