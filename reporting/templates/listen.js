const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = { // the figures' colours, light and dark
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b88300", "#4ba3d8", "#6b4fa0", "#8a8f94"],
  dark: ["#5cb6f0", "#f58b43", "#33c79b", "#e59cc6", "#e8b740", "#9fd3f5", "#ab94e0", "#a5abb1"],
};
const dark = matchMedia("(prefers-color-scheme: dark)");

function say(text) { byId("said").textContent = text; byId("said").hidden = !text; }

// What stands after an id, `.mp3` or `00/.mp3` with the file's folder, as a link.
function linkOf(id, ending) {
  const cut = ending.lastIndexOf("/") + 1, quoted = (text) => text.split("/").map(encodeURIComponent).join("/");
  return data.audio + quoted(ending.slice(0, cut) + id + ending.slice(cut));
}

// [id, title, kind, plays, ending] of a place on the shelf, with names.
const tracks = data.tracks.map(([id, title, kind, plays, ending], place) => ({
  id, title, kind, plays, place, name: title || id, style: kind < 0 ? "" : data.kinds[kind],
  url: ending ? linkOf(id, ending) : "",
}));
const reach = data.candidates; // tracks before this place have neighbours and stand on the maps
const placeOf = new Map(tracks.map((track) => [track.id, track.place]));

const cosine3 = (value) => value.toFixed(3).replace(/^0/, "");
const many = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

// One player for the page, with a queue for "play all".
const audio = byId("audio");
let queue = [];
function play(places) {
  queue = places.slice(1);
  const track = tracks[places[0]];
  if (audio.dataset.place === String(track.place) && !audio.paused) { audio.pause(); return; }
  if (audio.dataset.place !== String(track.place)) { audio.src = track.url; audio.dataset.place = track.place; }
  byId("player").hidden = false;
  byId("playing").textContent = track.name + (track.style ? ` · ${track.style}` : "");
  byId("next").hidden = !queue.length;
  audio.play().catch(() => {}); // what cannot be read is told of by the error event
}
function showState() {
  for (const button of document.querySelectorAll(".play")) {
    const on = button.dataset.place === audio.dataset.place && !audio.paused;
    button.setAttribute("aria-pressed", on);
    button.textContent = on ? "\u275A\u275A" : "\u25B6\uFE0E";
  }
}
for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, showState);
audio.addEventListener("ended", () => { if (queue.length) play(queue); });
audio.addEventListener("error", () => {
  const { name } = tracks[audio.dataset.place], missing = `The clip of ${name} is not there or cannot be read`;
  const rest = queue;
  if (rest.length) play(rest);
  byId("playing").textContent = rest.length ? `${missing}; on to ${tracks[rest[0]].name}` : `${missing}.`;
  showState();
});
byId("next").addEventListener("click", () => play(queue));

function trackRow(place, aside = "", hit = false) {
  const track = tracks[place];
  const name = place < reach
    ? el("a", { href: "#track=" + encodeURIComponent(track.id) }, track.name)
    : el("span", {}, track.name);
  if (!track.title) name.classList.add("id");
  const about = [track.style, many(track.plays, "play")].filter(Boolean).join(" · ");
  const dot = track.kind < 0 ? "" : el("i", { style: `--kind: ${COLOURS[dark.matches ? "dark" : "light"][track.kind]}`, "aria-hidden": "true" });
  const button = track.url && el("button", {
    type: "button", class: "play", "data-place": place, "aria-label": `Play ${track.name}`,
    "aria-pressed": "false", on: { click: () => play([place]) },
  }, "\u25B6\uFE0E");
  return el("li", {
    class: "track" + (hit ? " hit" : "") + (track.url ? "" : " silent"), "data-place": place,
    on: { mouseenter: () => same(place, true), mouseleave: () => same(place, false),
          focusin: () => same(place, true), focusout: () => same(place, false) },
  }, button, el("div", { class: "name", title: track.title ? track.id : null }, name, el("span", { class: "about" }, dot, about)),
  el("span", { class: "aside" }, hit ? el("mark", { class: "hit" }, "hit") : aside));
}
// The same track in another column lights up with this one.
function same(place, on) {
  const rows = document.querySelectorAll(`.columns .track[data-place="${place}"]`);
  for (const row of rows) row.classList.toggle("same", on && rows.length > 1);
}
function column(title, note, rows, places, long = false) {
  const heard = places.filter((place) => tracks[place].url);
  const all = heard.length > 1 && el("button", { type: "button", "aria-label": `Play all of ${title}`, on: { click: () => play(heard) } }, "Play all");
  return el("section", { class: long ? "long" : "", "aria-label": title },
    el("header", {}, el("h2", {}, title), all || "", el("p", {}, note)), el("ol", { class: "tracks", tabindex: long ? 0 : null }, ...rows));
}

async function near(name, place) {
  const { k, block } = data.near, start = Math.floor(place / block) * block;
  const rows = Math.min(block, reach - start), buffer = await load(`near-${name}-${start / block}`);
  const places = new Uint32Array(buffer, 0, rows * k), cosines = new Int8Array(buffer, rows * k * 4);
  const found = [];
  for (let at = (place - start) * k; at < (place - start + 1) * k; at++) {
    if (places[at] < reach) found.push([places[at], cosines[at] / 100]);
  }
  found.unsought = places[(place - start) * k] === 0xFFFFFFFE;
  return found;
}
const cosine = (value) => value.toFixed(2).replace(/^(-?)0/, "$1");
let asked = 0;
async function showTrack(place) {
  const track = tracks[place], turn = ++asked;
  byId("chosen").replaceChildren(trackRow(place));
  let found;
  try {
    found = await Promise.all(data.embeddings.map(({ name }) => near(name, place)));
  } catch (error) {
    byId("neighbours").replaceChildren();
    say(error.message);
    return;
  }
  if (turn !== asked) return; // another track was chosen meanwhile
  byId("neighbours").replaceChildren(...data.embeddings.map(({ name, width }, at) => {
    const places = found[at].map(([other]) => other);
    const alike = places.filter((other) => tracks[other].kind === track.kind).length;
    const note = [`${width.toLocaleString("en")} numbers a track`];
    if (track.kind >= 0) note.push(`${alike} of ${places.length} are ${track.style}`);
    const shared = (other) => data.embeddings.filter((e, i) => i !== at && found[i].some(([o]) => o === other)).map((e) => e.name);
    const rows = found[at].map(([other, value]) => {
      const also = shared(other);
      return trackRow(other, `cosine ${cosine(value)}` + (also.length ? `, also ${also.length > 2 ? also.length : also.join(", ")}` : ""));
    });
    return column(name, places.length ? note.join(" · ") : found[at].unsought ? "neighbours of this track were not looked for: report.py --neighbours all does" : "has no vector of this track", rows, places);
  }));
  showState();
}

// Search: a combobox over ids, titles and styles.
const search = byId("search"), found = byId("found"), box = byId("found-box");
let active = -1;
// Of every track what is searched, made when the page is idle; a longer text looks only among what
// the shorter one found.
let texts = null, last = { text: "", all: null };
function searched() {
  texts ??= tracks.slice(0, reach).map(({ id, title, style }) => plain(`${id} ${title} ${style}`));
  return texts;
}
(window.requestIdleCallback ?? setTimeout)(searched);
// Without case and accents, so that bjork finds Björk.
const plain = (text) => text.normalize("NFD").replace(/\p{Mn}/gu, "").toLowerCase();
function matches(text) {
  const about = searched(), words = plain(text).split(/\s+/).filter(Boolean);
  const among = last.all && text.startsWith(last.text) ? last.all : tracks.slice(0, reach).map(({ place }) => place);
  const all = words.length ? among.filter((place) => words.every((word) => about[place].includes(word))) : among;
  last = { text, all };
  return [all.slice(0, 12), all.length];
}
function offer() {
  const [places, count] = matches(search.value);
  const options = places.map((place, at) => el("li", {
    role: "option", id: `option-${at}`, "aria-selected": "false", "data-place": place,
    on: { mousedown: (event) => { event.preventDefault(); choose(place); } },
  }, el("span", { class: tracks[place].title ? "" : "id" }, tracks[place].name), el("small", { class: "soft" }, tracks[place].style)));
  found.replaceChildren(...options);
  found.hidden = !options.length;
  byId("more").textContent = !count ? "no such track here" : count > 12 ? `and ${(count - 12).toLocaleString("en")} more` : "";
  open(true);
}
function open(yes) {
  box.hidden = !yes; active = -1;
  search.setAttribute("aria-expanded", yes);
  search.removeAttribute("aria-activedescendant");
}
function choose(place) { open(false); search.value = ""; location.hash = "track=" + encodeURIComponent(tracks[place].id); }
search.addEventListener("input", offer);
search.addEventListener("focus", offer);
search.addEventListener("blur", () => open(false));
search.addEventListener("keydown", (event) => {
  const options = [...found.querySelectorAll("[role=option]")];
  if (event.key === "Escape") { // once closes the list, twice clears the field
    event.preventDefault();
    if (box.hidden) search.value = "";
    open(false);
    return;
  }
  if (event.key === "Enter" && options.length && !box.hidden) {
    event.preventDefault(); choose(Number(options[Math.max(active, 0)].dataset.place)); return;
  }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  if (box.hidden) { offer(); return; }
  if (!options.length) return;
  active = (active + step + options.length) % options.length;
  options.forEach((option, at) => option.setAttribute("aria-selected", at === active));
  options[active].scrollIntoView({ block: "nearest" });
  search.setAttribute("aria-activedescendant", options[active].id);
});

// Users: what they heard, what they came to hear, and what each recommender offered.
const groups = [...new Set(data.lists.map((list) => list.group))];
// First a user drawn by the seed: one chosen for their hits would flatter every list.
let group = groups[0], person = data.users[data.first.user];
byId("user").append(...data.users.map((user, at) => el("option", { value: at },
  `${user.id}: ${many(user.heard, "track")} heard, ${user.truth.length} held out`)));
byId("group").append(...groups.map((name, at) => el("label", {},
  el("input", { type: "radio", name: "group", value: name, checked: at === 0, on: { change: () => { group = name; showUser(person); } } }),
  el("span", {}, name))));
async function listed(user) {
  const { k, lists, users } = data, places = new Uint32Array(await load("lists"));
  const start = users.indexOf(user) * lists.length * k;
  return lists.map((_, at) => [...places.subarray(start + at * k, start + (at + 1) * k)].filter((place) => place < tracks.length));
}
async function showUser(user) {
  person = user;
  byId("user").value = data.users.indexOf(user);
  const heard = user.history.map(([place]) => place);
  const history = user.history.map(([place, plays, day]) => trackRow(place, `${plays} \u00D7, ${day}`));
  const partly = user.heard > heard.length ? `the newest ${heard.length} of ${user.heard.toLocaleString("en")}, ` : "";
  byId("known").replaceChildren(
    column("History", `${partly}by first play; with this user's plays`, history, heard, true),
    column("Held out", `${many(user.truth.length, "track")} the user came to play later`, user.truth.map((place) => trackRow(place)), user.truth, true));
  const wanted = new Set(user.truth);
  let lists;
  try { lists = await listed(user); } catch (error) { byId("lists").replaceChildren(); say(error.message); return; }
  if (person !== user) return; // another was chosen meanwhile
  byId("lists").replaceChildren(...data.lists.flatMap((list, at) => {
    if (list.group !== group) return [];
    const places = lists[at], hits = user.hits[at];
    const all = [];
    if ("hits" in list.mean) all.push(`${list.mean.hits} hits on average`);
    if ("HitRate" in list.mean) all.push(`HitRate@${data.k} ${cosine3(list.mean.HitRate)}`);
    const note = `${hits} of ${many(user.truth.length, "held-out track")} in the first ${data.k}` +
      (all.length ? `; over all ${data.test_users.toLocaleString("en")} test users ${all.join(", ")}` : "");
    return [column(list.name, note, places.map((place, rank) => trackRow(place, String(rank + 1), wanted.has(place))), places, true)];
  }));
  showState();
}
byId("user").addEventListener("change", () => { location.hash = "user=" + data.users[byId("user").value].id; });

// The address says what is shown, so that back, forward and links work.
const any = (values) => values[Math.floor(Math.random() * values.length)];
const address = (mode, id) => `${mode}=${encodeURIComponent(id)}`;
byId("any-track").addEventListener("click", () => choose(any(data.queries)));
byId("any-user").addEventListener("click", () => { location.hash = address("user", any(data.users).id); });
for (const radio of document.querySelectorAll("[name=mode]")) radio.addEventListener("change", () => {
  location.hash = radio.value === "user" ? address("user", person.id) : address(radio.value, tracks[shown].id);
});
let shown = data.queries[data.first.track];
function follow() {
  const [asked, ...rest] = location.hash.slice(1).split("=");
  let id = rest.join("=");
  try { id = decodeURIComponent(id); } catch { /* shown as it stands */ }
  const mode = ["user", "map"].includes(asked) ? asked : "track";
  const user = data.users.find((each) => String(each.id) === id), place = placeOf.get(id);
  const known = mode === "user" ? user : place < reach;
  say(id && !known ? `There is no ${mode === "user" ? "user" : "track"} ${id} on this page; here is another.` : "");
  if (mode !== "user" && place < reach) shown = place;
  for (const each of ["track", "user", "map"]) byId(`${each}-mode`).hidden = each !== mode;
  document.querySelector(`[name=mode][value=${mode}]`).checked = true;
  if (mode === "user") showUser(user ?? person);
  else if (mode === "map") showMaps(shown);
  else showTrack(shown);
}
followAddress(follow);
dark.addEventListener("change", follow);
