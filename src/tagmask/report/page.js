"use strict";
// A word and its region are highlighted together: while hovered or focused, and permanently when clicked.
const slotOf = (node) => node.closest("[data-slot]")?.dataset.slot;
const itemOf = (node) => (node instanceof Element ? node.closest(".item") : null);

function highlight(item) {
  const slot = item.dataset.hovered ?? item.dataset.pinned;
  item.classList.toggle("has-highlight", slot !== undefined);
  for (const part of item.querySelectorAll("[data-slot]")) {
    part.classList.toggle("highlighted", part.dataset.slot === slot);
    if (part.matches("button")) part.setAttribute("aria-pressed", part.dataset.slot === item.dataset.pinned);
  }
}

function set(item, name, slot) {
  if (!item || item.dataset[name] === slot) return;
  if (slot === undefined) delete item.dataset[name];
  else item.dataset[name] = slot;
  highlight(item);
}

document.addEventListener("pointerover", (event) => {
  if (event.pointerType === "mouse") set(itemOf(event.target), "hovered", slotOf(event.target));
});
document.addEventListener("pointerout", (event) => {
  if (event.pointerType === "mouse") set(itemOf(event.target), "hovered", undefined);
});
document.addEventListener("focusin", ({ target }) => {
  if (target.matches(":focus-visible")) set(itemOf(target), "hovered", slotOf(target));
});
document.addEventListener("focusout", (event) => set(itemOf(event.target), "hovered", undefined));
document.addEventListener("click", (event) => {
  const item = itemOf(event.target);
  const slot = item ? slotOf(event.target) : undefined;
  if (slot !== undefined) set(item, "pinned", item.dataset.pinned === slot ? undefined : slot);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const item of document.querySelectorAll(".item[data-pinned]")) set(item, "pinned", undefined);
});

const all = document.querySelector(".all");
if (all) {
  all.hidden = false;
  all.addEventListener("change", ({ target }) => {
    const kind = target.name === "view-all" ? "view-" : "source-";
    for (const radio of document.querySelectorAll(`.item input[name^="${kind}"]`)) {
      if (radio.value === target.value) radio.checked = true;
    }
  });
}
