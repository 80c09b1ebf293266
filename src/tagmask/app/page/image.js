/** One image: its photo and mask, its classes, corrections and review. */

import { address, getBlob, getJson, sendBody, sendJson } from "./api.js";
import { css, find, isTyping, make, notify, percent } from "./dom.js";
import { Editor } from "./editor.js";
import { NO_CLASS, decodeMask, decodeRegions, encodeMask } from "./labels.js";
import { LivePanel } from "./live.js";
import { Viewer } from "./viewer.js";

const TOOLS = [
  { mode: "move", key: "V", title: "Move", about: "Move and zoom the image" },
  { mode: "brush", key: "B", title: "Brush", about: "Paint the chosen class" },
  { mode: "erase", key: "E", title: "Erase", about: "Paint the background" },
  { mode: "fill", key: "F", title: "Fill", about: "Give a connected region the chosen class" },
  { mode: "superpixel", key: "S", title: "Superpixel", about: "Give a small region of one colour the chosen class" },
  { mode: "replace", key: "X", title: "Replace", about: "Give all pixels of a class the chosen class" },
];
const LEAST_BRUSH = 1;
const MOST_BRUSH = 400;

/** Shows one image, and saves what is done to it. */
export class ImageView {
  /**
   * @param {HTMLElement} root where it is shown.
   * @param {object} calls: `close()`, `step(key, index, step)`, `rerun(settings)`, `changed()`.
   */
  constructor(root, calls) {
    this.root = root;
    this.calls = calls;
    this.saving = Promise.resolve();
    this.#build();
  }

  #build() {
    this.title = make("h1", { class: "name" });
    this.state = make("span", { class: "saved", role: "status" });
    const button = (text, title, click, more = {}) => make("button", { text, title, on: { click }, ...more });
    this.accept = button("Accept", "A", () => this.review("accepted"), { class: "accept" });
    this.reject = button("Reject", "R", () => this.review("rejected"), { class: "reject" });
    const bar = make(
      "div",
      { class: "bar" },
      button("‹ All", "Back to all images (Esc)", () => this.close(), { aria: { label: "Back to all images" } }),
      this.title,
      this.state,
      button("‹", "Previous (←)", () => this.step(-1), { aria: { label: "Previous image" } }),
      button("›", "Next (→)", () => this.step(1), { aria: { label: "Next image" } }),
      this.reject,
      this.accept,
    );
    this.tools = make(
      "div",
      { class: "tools", role: "toolbar", aria: { label: "Tools" } },
      ...TOOLS.map(({ mode, key, title, about }) =>
        button(title, `${about} (${key})`, () => this.setMode(mode), { data: { mode }, aria: { pressed: "false" } }),
      ),
    );
    this.size = make("input", { type: "range", min: String(LEAST_BRUSH), max: "200", aria: { label: "Brush size" }, on: { input: () => this.#setSize(Number(this.size.value)) } });
    this.undoButton = button("Undo", "Ctrl+Z", () => this.editor.undo());
    this.redoButton = button("Redo", "Ctrl+Shift+Z", () => this.editor.redo());
    this.discard = button("Discard correction", "Go back to the run's own mask", () => this.#discard());
    this.sizeRow = make("label", { class: "size" }, "Size", this.size);
    const toolbar = make("div", { class: "toolbar" }, this.tools, this.sizeRow, this.undoButton, this.redoButton, this.discard);
    this.frame = make("div", { class: "frame" });
    this.brush = make("div", { class: "brush-ring", hidden: true });
    const canvas = make("div", { class: "canvas" }, this.frame, this.brush);
    this.legend = make("div", { class: "legend", role: "radiogroup", aria: { label: "Classes" } });
    this.shown = this.#viewSettings();
    this.live = make("section", { class: "live" });
    const side = make("aside", { class: "side" }, make("section", {}, make("h2", { text: "Classes" }), this.legend, this.shown), this.live);
    this.root.replaceChildren(bar, make("div", { class: "work" }, make("div", { class: "left" }, toolbar, canvas), side));
    this.viewer = new Viewer(this.frame);
    this.editor = new Editor(this.viewer, () => this.#edited());
    this.panel = new LivePanel(this.live, {
      preview: (result) => this.#preview(result),
      restore: () => this.#showOwn(),
      rerun: (settings) => this.calls.rerun(settings),
    });
    this.frame.addEventListener("pointermove", (event) => this.#ring(event));
    this.frame.addEventListener("pointerleave", () => (this.brush.hidden = true));
    this.viewer.setOpacity(0.5);
    this.#setSize(24);
  }

  #viewSettings() {
    const opacity = make("input", { type: "range", min: "0", max: "1", step: "0.05", value: "0.5", aria: { label: "Opacity of the mask" }, on: { input: () => this.viewer.setOpacity(opacity.value) } });
    this.outlineBox = make("input", { type: "checkbox", checked: true, on: { change: () => this.viewer.setOutline(this.outlineBox.checked) } });
    this.doubtBox = make("input", { type: "checkbox", on: { change: () => this.#doubt() } });
    return make(
      "div",
      { class: "view-settings" },
      make("label", { class: "row" }, make("span", { text: "Opacity" }), opacity),
      make("label", { class: "choice" }, this.outlineBox, "Outlines"),
      make("label", { class: "choice", title: "Bright where the two best classes are close" }, this.doubtBox, "Doubt"),
    );
  }

  /** Show an image of a run. */
  async show(run, key, index) {
    try {
      await this.#load(run, key, index);
    } finally {
      if (this.key === key) this.root.setAttribute("aria-busy", "false");
    }
  }

  async #load(run, key, index) {
    await this.flush();
    [this.run, this.key, this.index] = [run, key, index];
    this.root.setAttribute("aria-busy", "true");
    this.title.textContent = key;
    this.title.title = key;
    this.state.textContent = "";
    this.doubtBox.checked = false;
    this.editor.reset();
    this.editor.superpixels = null;
    this.own = null;
    this.isPreview = false;
    this.eraseAllowed = run.background;
    this.editor.eraseLabel = 0;
    const image = await getJson("/api/image", { key });
    if (this.key !== key) return;
    this.#facts(image);
    const isDone = image.status === "done";
    this.root.classList.toggle("failed", !isDone);
    if (!isDone) {
      notify(image.error ?? "This image failed.", "error");
      this.legend.replaceChildren();
      this.frame.classList.add("empty");
      return;
    }
    this.frame.classList.remove("empty");
    const mask = getBlob("/api/mask", { key, which: "newest", v: image.version }).then(decodeMask);
    await Promise.all([this.viewer.show(address("/api/photo", { key }), image.width, image.height), mask]);
    if (this.key !== key) return;
    this.own = await mask;
    this.classes = image.classes;
    this.editor.label = image.classes.find(({ label }) => !this.#clear().has(label))?.label ?? (run.background ? 1 : 0);
    this.setMode(this.editor.mode === "superpixel" ? "move" : this.editor.mode);
    this.#showOwn();
    this.panel.show(run, key);
  }

  #clear() {
    return new Set([NO_CLASS, ...(this.run.background ? [0] : [])]);
  }

  #facts(image) {
    this.image = image;
    this.accept.setAttribute("aria-pressed", String(image.review === "accepted"));
    this.reject.setAttribute("aria-pressed", String(image.review === "rejected"));
    this.discard.hidden = !image.corrected;
  }

  #showOwn() {
    this.isPreview = false;
    this.root.classList.remove("preview");
    this.viewer.hidden = new Set();
    this.viewer.showMask(this.own, this.run.colors, this.#clear());
    this.#drawLegend(this.run.words, this.run.colors, this.classes);
    this.setMode(this.editor.mode);
  }

  #preview({ map, words, colors, classes }) {
    this.isPreview = true;
    this.root.classList.add("preview");
    this.setMode("move");
    this.viewer.hidden = new Set();
    this.viewer.showMask(map, colors, this.#clear());
    this.#drawLegend(words, colors, classes);
  }

  #drawLegend(words, colors, classes) {
    const known = new Map(classes.map((each) => [each.label, each]));
    const rows = words.map((word, label) => ({ word, label, ...(known.get(label) ?? { share: 0, confidence: null }) }));
    rows.sort((a, b) => b.share - a.share || a.label - b.label);
    this.order = rows.map(({ label }) => label);
    this.legend.replaceChildren(...rows.map((row, place) => this.#legendRow(row, colors, place)));
  }

  #legendRow({ word, label, share, confidence }, colors, place) {
    const isClear = this.#clear().has(label);
    const swatch = make("span", { class: `swatch${isClear ? " clear" : ""}` });
    if (!isClear) swatch.style.background = css(colors[label] ?? [128, 128, 128]);
    const toggle = make("input", {
      type: "checkbox",
      checked: !this.viewer.hidden.has(label),
      title: `Show ${word}`,
      aria: { label: `Show ${word}` },
      on: {
        change: () => {
          this.viewer.hidden[toggle.checked ? "delete" : "add"](label);
          this.viewer.paint();
        },
      },
    });
    const choose = make(
      "button",
      {
        class: "class",
        role: "radio",
        aria: { checked: String(label === this.editor.label && !this.isPreview) },
        disabled: this.isPreview,
        title: place < 9 ? `Choose (${place + 1})` : "Choose",
        on: { click: () => this.choose(label) },
      },
      swatch,
      make("span", { class: "word", text: word }),
      make("span", { class: "share", text: percent(share) }),
      make("span", { class: "sure", text: confidence === null ? "" : percent(confidence), title: "Confidence" }),
    );
    return make("div", { class: `legend-row${share > 0 ? "" : " absent"}`, data: { label: String(label) } }, isClear ? make("span", { class: "no-toggle" }) : toggle, choose);
  }

  /** Choose the class to paint. */
  choose(label) {
    this.editor.label = label;
    for (const row of this.legend.children) {
      row.querySelector(".class").setAttribute("aria-checked", String(Number(row.dataset.label) === label));
    }
    if (this.editor.mode === "move") this.setMode("brush");
  }

  /** Choose a tool. */
  async setMode(mode) {
    const isLocked = this.isPreview || this.run?.read_only || !this.own;
    const chosen = isLocked || (mode === "erase" && !this.eraseAllowed) ? "move" : mode;
    this.editor.setMode(chosen);
    for (const button of this.tools.children) {
      button.setAttribute("aria-pressed", String(button.dataset.mode === chosen));
      button.disabled = button.dataset.mode !== "move" && (isLocked || (button.dataset.mode === "erase" && !this.eraseAllowed));
    }
    this.root.dataset.mode = chosen;
    this.sizeRow.hidden = !["brush", "erase"].includes(chosen);
    this.undoButton.disabled = !this.editor.done.length || this.isPreview;
    this.redoButton.disabled = !this.editor.undone.length || this.isPreview;
    this.brush.hidden = true;
    if (chosen === "superpixel" && !this.editor.superpixels) await this.#loadSuperpixels();
  }

  async #loadSuperpixels() {
    const { key } = this;
    this.root.setAttribute("aria-busy", "true");
    try {
      const regions = await getBlob("/api/superpixels", { key }).then(decodeRegions);
      if (this.key === key) this.editor.superpixels = regions;
    } catch (error) {
      notify(error.message, "error");
      this.setMode("fill");
    } finally {
      if (this.key === key) this.root.setAttribute("aria-busy", "false");
    }
  }

  #setSize(size) {
    this.editor.size = Math.max(LEAST_BRUSH, Math.min(MOST_BRUSH, size));
    this.size.value = String(this.editor.size);
    this.brush.hidden = true;
  }

  #ring(event) {
    const isBrush = ["brush", "erase"].includes(this.editor.mode) && event.pointerType !== "touch";
    this.brush.hidden = !isBrush;
    if (!isBrush) return;
    const box = this.frame.getBoundingClientRect();
    const size = Math.max(3, this.editor.size * this.viewer.scale);
    Object.assign(this.brush.style, {
      width: `${size}px`,
      height: `${size}px`,
      transform: `translate(${event.clientX - box.left - size / 2}px, ${event.clientY - box.top - size / 2}px)`,
    });
  }

  #edited() {
    this.#recount();
    this.setMode(this.editor.mode);
    this.#save();
  }

  #recount() {
    const counts = this.viewer.map.counts();
    const pixels = this.viewer.width * this.viewer.height;
    const known = new Map(this.classes.map((each) => [each.label, each]));
    this.classes = [...counts].map(([label, count]) => ({ label, share: count / pixels, confidence: known.get(label)?.confidence ?? null }));
    for (const row of this.legend.children) {
      const count = counts.get(Number(row.dataset.label)) ?? 0;
      row.querySelector(".share").textContent = percent(count / pixels);
      row.classList.toggle("absent", !count);
    }
  }

  #save() {
    const { key, own } = this;
    this.unsaved = (this.unsaved ?? 0) + 1;
    const ticket = this.unsaved;
    this.state.textContent = "Saving …";
    this.saving = this.saving.then(async () => {
      // Of several changes that wait, the last has all of them.
      if (ticket !== this.unsaved && this.key === key) return;
      try {
        const image = await sendBody("PUT", "/api/mask", await encodeMask(own), { parameters: { key } });
        if (this.key === key) {
          this.#facts(image);
          if (ticket === this.unsaved) this.state.textContent = "Saved";
        }
        this.calls.changed();
      } catch (error) {
        this.state.textContent = "Not saved";
        notify(error.message, "error");
      }
    });
  }

  /** Wait until everything is saved. */
  flush() {
    return this.saving;
  }

  async #discard() {
    try {
      await this.flush();
      const image = await sendJson("DELETE", "/api/mask", undefined, { parameters: { key: this.key } });
      this.calls.changed();
      await this.show(this.run, image.key, this.index);
    } catch (error) {
      notify(error.message, "error");
    }
  }

  async #doubt() {
    const { doubt } = this.viewer;
    doubt.hidden = !this.doubtBox.checked;
    if (doubt.hidden) return;
    try {
      const url = URL.createObjectURL(await getBlob("/api/doubt", { key: this.key }));
      doubt.src = url;
      await doubt.decode();
      URL.revokeObjectURL(url);
    } catch (error) {
      this.doubtBox.checked = false;
      doubt.hidden = true;
      notify(error.message, "error");
    }
  }

  /** Set the review, or take it back, and go to the next image. */
  async review(review) {
    if (this.run.read_only || this.image?.status !== "done") return;
    const { key, index } = this;
    const chosen = this.image.review === review ? null : review;
    try {
      await this.flush();
      const image = await sendJson("POST", "/api/review", { key, review: chosen });
      this.calls.changed();
      // Not before: the image may leave the list by its review, and the next one's place changes then.
      const next = chosen ? await this.calls.neighbour(key, index, 1) : null;
      if (this.key !== key) return;
      this.#facts(image);
      if (next) this.calls.go(next, key);
      else if (chosen) notify("That was the last image.");
    } catch (error) {
      notify(error.message, "error");
    }
  }

  /** Go some images on. */
  async step(step) {
    const { key, index } = this;
    try {
      const next = await this.calls.neighbour(key, index, step);
      if (this.key === key && next) this.calls.go(next);
      else if (!next) notify(step > 0 ? "That was the last image." : "This is the first image.");
    } catch (error) {
      notify(error.message, "error");
    }
  }

  /** Go back to all images. */
  async close() {
    this.panel.stop();
    await this.flush();
    this.calls.close();
  }

  /** Handle a key while the image is shown. */
  onkey(event) {
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && key === "z" && !isTyping(event)) {
      event.preventDefault();
      if (this.isPreview) return;
      if (event.shiftKey) this.editor.redo();
      else this.editor.undo();
      return;
    }
    if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    const tool = TOOLS.find((each) => each.key.toLowerCase() === key);
    const middle = [this.frame.clientWidth / 2, this.frame.clientHeight / 2];
    if (tool) this.setMode(tool.mode);
    else if (key === "a") this.review("accepted");
    else if (key === "r") this.review("rejected");
    else if (key === "arrowright" || key === "j") this.step(1);
    else if (key === "arrowleft" || key === "k") this.step(-1);
    else if (key === "escape") this.close();
    else if (key === "[") this.#setSize(Math.floor(this.editor.size / 1.25));
    else if (key === "]") this.#setSize(Math.ceil(this.editor.size * 1.25));
    else if (key === "w") this.panel.focus();
    else if (key === "o") this.outlineBox.click();
    else if (key === "d") this.doubtBox.click();
    else if (key === "h") this.viewer.setMaskShown((this.maskAway = !this.maskAway) === false);
    else if (key === "0") this.viewer.fit();
    else if (key === "+" || key === "=") this.viewer.zoom(1.3, ...middle);
    else if (key === "-") this.viewer.zoom(1 / 1.3, ...middle);
    else if (/^[1-9]$/.test(key) && !this.isPreview && this.order?.[key - 1] !== undefined) this.choose(this.order[key - 1]);
    else return;
    event.preventDefault();
  }
}

/** Return the rows of the list of keys. */
export function keyRows() {
  return [
    ...TOOLS.map(({ key, about }) => [key, about]),
    ["1 … 9", "Choose a class, in the order of the list"],
    ["[ ]", "Smaller, larger brush"],
    ["Ctrl+Z, Ctrl+Shift+Z", "Undo, redo"],
    ["A, R", "Accept, reject; again: take it back"],
    ["← →", "Previous, next image"],
    ["W", "Type a word"],
    ["H, O, D", "Mask, outlines, doubt: show or hide"],
    ["+ − 0", "Zoom in, out, fit; Shift and drag moves the image"],
    ["Esc", "Back to all images"],
  ];
}
