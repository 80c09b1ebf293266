"use strict";
// A word and its region light up together: while pointed at or focused, and for good when pressed.
const slotOf = (node) => node.closest("[data-slot]")?.dataset.slot;
const sightOf = (node) => (node instanceof Element ? node.closest(".sight") : null);

function light(sight) {
  const slot = sight.dataset.seen ?? sight.dataset.kept;
  sight.classList.toggle("lights", slot !== undefined);
  for (const part of sight.querySelectorAll("[data-slot]")) {
    part.classList.toggle("lit", part.dataset.slot === slot);
    if (part.matches("button")) part.setAttribute("aria-pressed", part.dataset.slot === sight.dataset.kept);
  }
}

function set(sight, name, slot) {
  if (!sight || sight.dataset[name] === slot) return;
  if (slot === undefined) delete sight.dataset[name];
  else sight.dataset[name] = slot;
  light(sight);
}

document.addEventListener("pointerover", (event) => {
  if (event.pointerType === "mouse") set(sightOf(event.target), "seen", slotOf(event.target));
});
document.addEventListener("pointerout", (event) => {
  if (event.pointerType === "mouse") set(sightOf(event.target), "seen", undefined);
});
document.addEventListener("focusin", ({ target }) => {
  if (target.matches(":focus-visible")) set(sightOf(target), "seen", slotOf(target));
});
document.addEventListener("focusout", (event) => set(sightOf(event.target), "seen", undefined));
document.addEventListener("click", (event) => {
  const sight = sightOf(event.target);
  const slot = sight ? slotOf(event.target) : undefined;
  if (slot !== undefined) set(sight, "kept", sight.dataset.kept === slot ? undefined : slot);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const sight of document.querySelectorAll(".sight[data-kept]")) set(sight, "kept", undefined);
});

const all = document.querySelector(".all");
if (all) {
  all.hidden = false;
  all.addEventListener("change", ({ target }) => {
    const kind = target.name === "view-all" ? "view-" : "by-";
    for (const radio of document.querySelectorAll(`.sight input[name^="${kind}"]`)) {
      if (radio.value === target.value) radio.checked = true;
    }
  });
}
