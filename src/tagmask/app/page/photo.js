/** The page of `tagmask serve`: a photo is dropped in, words are typed. */

import { sendBody } from "./api.js";
import { css, debounce, find, make, notify, percent } from "./dom.js";
import { NO_CLASS, blobOf, decodeMask } from "./labels.js";
import { Viewer } from "./viewer.js";

const viewer = new Viewer(find("#frame"));
const drop = find("#drop");
let photo = null;
let request = null;

function form() {
  const data = new FormData();
  data.set("image", photo, photo.name || "photo");
  for (const word of find("#words").value.split(";").map((text) => text.trim()).filter(Boolean)) data.append("words", word);
  return data;
}

async function show(file) {
  if (file) photo = file;
  if (!photo) return;
  request?.abort();
  request = new AbortController();
  const { signal } = request;
  find("#status").textContent = "Computing …";
  const started = performance.now();
  try {
    const [masks, tags] = await Promise.all([
      sendBody("POST", "/v1/mask", form(), { signal }),
      sendBody("POST", "/v1/tag", form(), { signal }),
    ]);
    const map = await decodeMask(blobOf(masks.mask));
    const url = URL.createObjectURL(photo);
    find("#result").hidden = false;
    find("#form").classList.add("done");
    await viewer.show(url, masks.width, masks.height);
    URL.revokeObjectURL(url);
    viewer.setOpacity(find("#opacity").value);
    viewer.showMask(map, masks.colors, new Set(masks.background ? [NO_CLASS, 0] : [NO_CLASS]));
    drawLegend(masks);
    find("#tags").replaceChildren(...tags.tags.map(({ word, score }) => make("li", {}, word, " ", make("small", { text: percent(score) }))));
    if (!tags.tags.length) find("#tags").replaceChildren(make("li", { class: "hint", text: "None of the words." }));
    find("#status").textContent = `Done in ${((performance.now() - started) / 1000).toFixed(1)} s.`;
    find("#drop-text").textContent = `${photo.name || "Photo"}: drop another, or press to choose one.`;
  } catch (error) {
    if (error.name === "AbortError") return;
    find("#status").textContent = "";
    notify(error.message || "This browser cannot show the image.", "error");
  }
}

function drawLegend({ words, colors, classes, background }) {
  const rows = classes.filter(({ share }) => share > 0).sort((a, b) => b.share - a.share);
  find("#legend").replaceChildren(
    ...rows.map(({ label, share, confidence }) => {
      const isClear = background && label === 0;
      const swatch = make("span", { class: `swatch${isClear ? " clear" : ""}` });
      if (!isClear) swatch.style.background = css(colors[label]);
      return make(
        "div",
        { class: "class" },
        swatch,
        make("span", { class: "word", text: words[label] }),
        make("span", { class: "share", text: percent(share) }),
        make("span", { class: "sure", title: "Confidence", text: confidence === null ? "" : percent(confidence) }),
      );
    }),
  );
}

find("#file").addEventListener("change", (event) => show(event.target.files[0]));
find("#words").addEventListener("input", debounce(() => show(), 500));
find("#opacity").addEventListener("input", (event) => viewer.setOpacity(event.target.value));
find("#form").addEventListener("submit", (event) => {
  event.preventDefault();
  show();
});
drop.addEventListener("keydown", (event) => {
  if (["Enter", " "].includes(event.key)) {
    event.preventDefault();
    find("#file").click();
  }
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  show(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) show(file);
});
