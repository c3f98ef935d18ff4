"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const COLOURS = { // the figures' colours, light and dark
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b88300", "#4ba3d8", "#6b4fa0", "#8a8f94"],
  dark: ["#5cb6f0", "#f58b43", "#33c79b", "#e59cc6", "#e8b740", "#9fd3f5", "#ab94e0", "#a5abb1"],
};
const dark = matchMedia("(prefers-color-scheme: dark)");

// [id, title, kind, plays, suffix] of a place on the shelf, with names.
const tracks = data.tracks.map(([id, title, kind, plays, suffix], place) => ({
  id, title, kind, plays, place, name: title || id, style: kind < 0 ? "" : data.kinds[kind],
  url: suffix ? data.audio + encodeURIComponent(id) + suffix : "",
}));
const queryOf = new Map(data.queries.map((place, row) => [place, row]));
const placeOf = new Map(tracks.map((track) => [track.id, track.place]));

// Text goes in as text, never as markup: titles and ids are other people's.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null && child !== ""));
  return node;
}

const many = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

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
  audio.play().catch((error) => { byId("playing").textContent = `${track.name}: ${error.message}`; });
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
  byId("playing").textContent = `The audio of ${tracks[audio.dataset.place].name} cannot be read.`;
});
byId("next").addEventListener("click", () => play(queue));

function trackRow(place, aside = "", hit = false) {
  const track = tracks[place];
  const name = queryOf.has(place)
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
    el("header", {}, el("h3", {}, title), all || "", el("p", {}, note)), el("ol", { class: "tracks", tabindex: long ? 0 : null }, ...rows));
}

function showTrack(place) {
  const track = tracks[place], row = queryOf.get(place);
  byId("chosen").replaceChildren(trackRow(place));
  byId("neighbours").replaceChildren(...data.embeddings.map(({ name, width }) => {
    const places = data.neighbours[name][row];
    const alike = places.filter((other) => tracks[other].kind === track.kind).length;
    const note = [`${width.toLocaleString("en")} numbers a track`];
    if (track.kind >= 0) note.push(`${alike} of ${places.length} are ${track.style}`);
    const shared = (other) => data.embeddings.filter((e) => e.name !== name && data.neighbours[e.name][row].includes(other)).map((e) => e.name);
    const rows = places.map((other) => {
      const also = shared(other);
      return trackRow(other, also.length ? `also ${also.length > 2 ? also.length : also.join(", ")}` : "");
    });
    return column(name, places.length ? note.join(" · ") : "has no vector of this track", rows, places);
  }));
  showState();
}

// Search: a combobox over ids, titles and styles.
const search = byId("search"), found = byId("found");
let active = -1;
function matches(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return data.queries.filter((place) => {
    const { id, title, style } = tracks[place];
    const about = `${id} ${title} ${style}`.toLowerCase();
    return words.every((word) => about.includes(word));
  });
}
function offer() {
  const places = matches(search.value);
  const options = places.slice(0, 12).map((place, at) => el("li", {
    role: "option", id: `option-${at}`, "aria-selected": "false", "data-place": place,
    on: { mousedown: (event) => { event.preventDefault(); choose(place); } },
  }, el("span", { class: tracks[place].title ? "" : "id" }, tracks[place].name), el("small", { class: "soft" }, tracks[place].style)));
  if (places.length > 12) options.push(el("li", { class: "none" }, `and ${(places.length - 12).toLocaleString("en")} more`));
  if (!places.length) options.push(el("li", { class: "none" }, "no such track here"));
  found.replaceChildren(...options);
  open(true);
}
function open(yes) {
  found.hidden = !yes; active = -1;
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
    if (found.hidden) search.value = "";
    open(false);
    return;
  }
  if (event.key === "Enter" && options.length && !found.hidden) {
    event.preventDefault(); choose(Number(options[Math.max(active, 0)].dataset.place)); return;
  }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  if (found.hidden) { offer(); return; }
  if (!options.length) return;
  active = (active + step + options.length) % options.length;
  options.forEach((option, at) => option.setAttribute("aria-selected", at === active));
  options[active].scrollIntoView({ block: "nearest" });
  search.setAttribute("aria-activedescendant", options[active].id);
});

// Users: what they heard, what they came to hear, and what each recommender offered.
const groups = [...new Set(data.lists.map((list) => list.group))];
// First the user whose lists hit most: there is something to hear.
let group = groups[0], person = data.users.reduce((best, user) => (sum(user.hits) > sum(best.hits) ? user : best));
byId("user").append(...data.users.map((user, at) => el("option", { value: at },
  `${user.id}: ${many(user.heard, "track")} heard, ${user.truth.length} held out`)));
byId("group").append(...groups.map((name, at) => el("label", {},
  el("input", { type: "radio", name: "group", value: name, checked: at === 0, on: { change: () => { group = name; showUser(person); } } }),
  el("span", {}, name))));
function showUser(user) {
  person = user;
  byId("user").value = data.users.indexOf(user);
  const heard = user.history.map(([place]) => place);
  const history = user.history.map(([place, plays, day]) => trackRow(place, `${plays} \u00D7, ${day}`));
  const partly = user.heard > heard.length ? `the newest ${heard.length} of ${user.heard.toLocaleString("en")}, ` : "";
  byId("known").replaceChildren(
    column("History", `${partly}by first play; with this user's plays`, history, heard, true),
    column("Held out", `${many(user.truth.length, "track")} the user came to play later`, user.truth.map((place) => trackRow(place)), user.truth, true));
  const wanted = new Set(user.truth);
  byId("lists").replaceChildren(...data.lists.flatMap((list, at) => {
    if (list.group !== group) return [];
    const places = user.lists[at], hits = user.hits[at];
    return [column(list.name, `${hits} of ${many(user.truth.length, "held-out track")} in the first ${data.k}`,
      places.map((place, rank) => trackRow(place, String(rank + 1), wanted.has(place))), places)];
  }));
  showState();
}
byId("user").addEventListener("change", () => { location.hash = "user=" + data.users[byId("user").value].id; });

// The address says what is shown, so that back, forward and links work.
const any = (values) => values[Math.floor(Math.random() * values.length)];
byId("any-track").addEventListener("click", () => choose(any(data.queries)));
byId("any-user").addEventListener("click", () => { location.hash = "user=" + any(data.users).id; });
for (const radio of document.querySelectorAll("[name=mode]")) radio.addEventListener("change", () => {
  location.hash = radio.value === "user" ? "user=" + person.id : "track=" + encodeURIComponent(tracks[shown].id);
});
let shown = data.queries[0];
function follow() {
  const [mode, id] = location.hash.slice(1).split("=");
  const user = mode === "user" && data.users.find((each) => String(each.id) === id);
  let name = "";
  try { name = decodeURIComponent(id || ""); } catch { name = ""; }
  const place = placeOf.get(name);
  if (mode === "track" && queryOf.has(place)) shown = place;
  byId("track-mode").hidden = Boolean(user);
  byId("user-mode").hidden = !user;
  document.querySelector(`[name=mode][value=${user ? "user" : "track"}]`).checked = true;
  if (user) showUser(user); else showTrack(shown);
}
addEventListener("hashchange", follow);
dark.addEventListener("change", follow);
follow();
