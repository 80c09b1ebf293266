/** The review page: all images or one of them, chosen by the address's fragment. */

import { getJson } from "./api.js";
import { find, isTyping, make, notify } from "./dom.js";
import { Gallery, countsText } from "./gallery.js";
import { ImageView, keyRows } from "./image.js";
import { Jobs, askExport, askImprove } from "./jobs.js";

const POLL = 2000;

const app = find("#app");
const dialog = find("#dialog");
const jobs = new Jobs(find("#job"));
const positions = new Map();
let run = null;

const gallery = new Gallery(find("#gallery"), (key, index) => openImage(key, index));
const image = new ImageView(find("#image"), {
  close: () => (location.hash = "#/"),
  neighbour: (key, index, step) => gallery.neighbour(key, index, step),
  go: (next) => openImage(next.image.key, next.index),
  rerun: (settings) => jobs.start("rerun", settings),
  changed: () => refreshRun(),
});

function openImage(key, index) {
  positions.set(key, index);
  location.hash = `#/image/${encodeURIComponent(key)}`;
}

function keyInAddress() {
  const match = /^#\/image\/(.+)$/.exec(location.hash);
  return match ? decodeURIComponent(match[1]) : null;
}

async function route() {
  const key = keyInAddress();
  find("#gallery").hidden = key !== null;
  find("#image").hidden = key === null;
  try {
    if (key !== null) {
      if (!positions.has(key)) positions.set(key, 0);
      gallery.focused = positions.get(key);
      await image.show(run, key, positions.get(key));
    } else {
      image.panel.stop();
      await gallery.refresh();
      gallery.focus();
    }
  } catch (error) {
    notify(error.message, "error");
  }
}

async function refreshRun() {
  try {
    run = await getJson("/api/run");
  } catch (error) {
    notify(error.message, "error");
    return;
  }
  document.title = `${run.name} – tagmask`;
  find("#run-name").textContent = run.name;
  find("#run-facts").textContent = `${run.recipe ?? run.method}: ${countsText(run)}`;
  const progress = find("#run-progress");
  progress.hidden = run.state !== "running" || !run.total;
  if (!progress.hidden) [progress.max, progress.value] = [run.total, run.counts.all];
  for (const name of ["#export", "#improve"]) find(name).hidden = run.read_only;
  gallery.update(run);
}

/** While the run is being written, show what is new. */
async function watch() {
  if (run?.state === "running" && !document.hidden) {
    const before = run.counts.all;
    await refreshRun();
    const grew = run.counts.all !== before || run.state !== "running";
    if (grew && keyInAddress() === null) await gallery.refresh().catch(() => {});
  }
  setTimeout(watch, POLL);
}

function showKeys() {
  const rows = keyRows().map(([keys, about]) => make("tr", {}, make("th", { scope: "row" }, make("kbd", { text: keys })), make("td", { text: about })));
  const close = make("form", { method: "dialog" }, make("div", { class: "actions" }, make("button", { class: "main", text: "Close" })));
  dialog.replaceChildren(make("h2", { text: "Keys" }), make("table", { class: "keys" }, make("tbody", {}, ...rows)), close);
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (dialog.open || run === null) return;
  if (event.key === "?" && !isTyping(event)) {
    event.preventDefault();
    showKeys();
  } else if (keyInAddress() === null) gallery.onkey(event);
  else image.onkey(event);
});
find("#keys").addEventListener("click", showKeys);
find("#export").addEventListener("click", () => askExport(dialog, run, jobs));
find("#improve").addEventListener("click", () => askImprove(dialog, run, jobs));
app.addEventListener("changed", refreshRun);
window.addEventListener("hashchange", route);
window.addEventListener("beforeunload", (event) => {
  if (image.state.textContent === "Saving …") event.preventDefault();
});

// The token in the address has done its work: it is not left in the history.
if (location.search) history.replaceState(null, "", location.pathname + location.hash);
await refreshRun();
if (run) {
  await route();
  await jobs.poll();
  watch();
}
