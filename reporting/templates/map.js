// Maps: every track on two axes of each embedding; what is chosen in one is marked in all.
const UNKNOWN = { light: "#d3d6d9", dark: "#4a525a" }; // fainter than the eighth colour
const SIDE = 340, PAD = 8;
let maps = [], colouring = data.what ? "kind" : "plays";
const most = Math.log10(Math.max(...tracks.map((track) => track.plays)) + 1) || 1;
function colour(track) {
  const palette = COLOURS[dark.matches ? "dark" : "light"];
  if (colouring === "kind") return track.kind < 0 ? UNKNOWN[dark.matches ? "dark" : "light"] : palette[track.kind];
  return palette[[7, 5, 0, 1][Math.min(3, Math.floor(4 * Math.log10(track.plays + 1) / most))]];
}
async function showMaps(place) {
  if (!maps.length) {
    let buffers;
    const named = data.embeddings.filter((embedding) => embedding.map);
    try { buffers = await Promise.all(named.map(({ name }) => load(`map-${name}`))); } catch (error) { say(error.message); return; }
    if (maps.length) { choosePoint(place); return; }
    maps = named.map(({ name }, at) => oneMap(name, new Uint16Array(buffers[at])));
    byId("maps").replaceChildren(...maps.map((map) => map.section));
  }
  for (const map of maps) map.paint();
  byId("legend").replaceChildren(...(colouring === "kind"
    ? [...data.kinds.map((name, at) => [name, COLOURS[dark.matches ? "dark" : "light"][at]]),
      ...(tracks.slice(0, reach).some((track) => track.kind < 0) ? [["not known", UNKNOWN[dark.matches ? "dark" : "light"]]] : [])]
    : ["fewest plays", "few", "many", "most plays"].map((name, at) => [name, COLOURS[dark.matches ? "dark" : "light"][[7, 5, 0, 1][at]]])
  ).map(([name, shade]) => el("li", {}, el("i", { style: `--kind: ${shade}` }), name)));
  choosePoint(place);
}
function oneMap(name, values) {
  const scale = Math.min(window.devicePixelRatio || 1, 2), side = SIDE * scale;
  const canvas = el("canvas", {
    width: side, height: side, tabindex: 0, role: "application",
    "aria-label": `Map of ${name}: arrow keys go to the next track that way, Enter plays it`,
  });
  const under = el("canvas", { width: side, height: side }), room = (SIDE - 2 * PAD) / 65535;
  const x = (place) => PAD + values[2 * place] * room, y = (place) => SIDE - PAD - values[2 * place + 1] * room;
  const size = reach > 20000 ? 1.2 : reach > 3000 ? 2 : 3.5;
  const nearest = (px, py, fits = () => true) => {
    let best = -1, least = Infinity;
    for (let place = 0; place < reach; place++) {
      const dx = x(place) - px, dy = y(place) - py, d = dx * dx + dy * dy;
      if (d < least && fits(dx, dy, place)) { least = d; best = place; }
    }
    return [best, Math.sqrt(least)];
  };
  const map = {
    section: el("section", { "aria-label": `Map of ${name}` }, el("header", {}, el("h2", {}, name)), canvas),
    paint() {
      const pen = under.getContext("2d"), groups = new Map();
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      pen.clearRect(0, 0, SIDE, SIDE);
      for (let place = 0; place < reach; place++) {
        const shade = colour(tracks[place]);
        if (!groups.has(shade)) groups.set(shade, []);
        groups.get(shade).push(place);
      }
      pen.globalAlpha = reach > 20000 ? 0.5 : 0.8;
      for (const [shade, places] of groups) {
        pen.fillStyle = shade;
        for (const place of places) pen.fillRect(x(place) - size / 2, y(place) - size / 2, size, size);
      }
    },
    mark(place) {
      const pen = canvas.getContext("2d"), ink = getComputedStyle(canvas).color;
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, side, side);
      pen.drawImage(under, 0, 0);
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      pen.fillStyle = pen.strokeStyle = ink;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(x(place), y(place), 7, 0, 2 * Math.PI);
      pen.stroke();
      pen.fillRect(x(place) - 2, y(place) - 2, 4, 4);
    },
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return nearest((event.clientX - box.left) * SIDE / box.width, (event.clientY - box.top) * SIDE / box.height);
  };
  canvas.addEventListener("mousemove", (event) => { const [place, far] = at(event); if (far < 14) choosePoint(place); });
  canvas.addEventListener("click", (event) => {
    const [place, far] = at(event);
    if (far < 24) { choosePoint(place); if (tracks[place].url) play([place]); }
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); if (tracks[shown].url) play([shown]); return; }
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!way) return;
    event.preventDefault();
    const ahead = (dx, dy, place) => place !== shown && dx * way[0] + dy * way[1] > 0 &&
      Math.abs(way[0] ? dx : dy) >= Math.abs(way[0] ? dy : dx);
    const [place] = nearest(x(shown), y(shown), ahead);
    if (place >= 0) choosePoint(place);
  });
  return map;
}
function choosePoint(place) {
  shown = place;
  for (const map of maps) map.mark(place);
  byId("point").replaceChildren(trackRow(place));
  showState();
}
for (const radio of document.querySelectorAll("[name=colouring]")) radio.addEventListener("change", () => {
  colouring = radio.value;
  showMaps(shown);
});
follow();
