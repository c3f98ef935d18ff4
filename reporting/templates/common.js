"use strict";
const byId = (id) => document.getElementById(id);

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

// What the address says is followed where it is a state; `#content` is a place on the page.
function followAddress(follow) {
  addEventListener("hashchange", () => { if (!location.hash || location.hash.includes("=")) follow(); });
}

// Data beside the page: scripts that hand over one text each, loaded when they are asked for, which
// a page opened from a folder may do. Numbers are little-endian, in base64.
const loads = new Map();
function take(name, text) {
  loads.get(name).done(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
}
function load(name) {
  if (!loads.has(name)) {
    const entry = {};
    entry.promise = new Promise((done, failed) => {
      entry.done = done;
      const script = el("script", { src: `data/${name}.js`, on: { error: () => {
        loads.delete(name);
        failed(new Error(`data/${name}.js is missing: the page needs the folder it was made in`));
      } } });
      document.head.append(script);
    });
    loads.set(name, entry);
  }
  return loads.get(name).promise;
}
