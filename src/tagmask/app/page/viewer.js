/** An image with its mask over it: zoomed, moved and drawn at the image's own size. */

import { make } from "./dom.js";

const MOST_ZOOM = 32;
const OUTLINE_PER_PIXELS = 900;

/** Shows a photo and a mask. Layers are canvases of the image's own size; zoom and position are CSS. */
export class Viewer {
  /**
   * @param {HTMLElement} frame the element that it fills.
   */
  constructor(frame) {
    this.frame = frame;
    this.photo = make("img", { class: "photo", alt: "", draggable: "false" });
    this.fill = make("canvas", { class: "fill" });
    this.outline = make("canvas", { class: "outline" });
    this.doubt = make("img", { class: "doubt", alt: "", hidden: true });
    this.stage = make("div", { class: "stage" }, this.photo, this.fill, this.outline, this.doubt);
    frame.replaceChildren(this.stage);
    this.map = null;
    this.colors = [];
    this.clear = new Set();
    this.hidden = new Set();
    [this.scale, this.x, this.y] = [1, 0, 0];
    this.fitted = true;
    this.pointers = new Map();
    this.drawing = null;
    /** What draws: {start, move, end, cancel}, each given image coordinates; null: the pointer moves the image. */
    this.tool = null;
    this.onview = () => {};
    frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    frame.addEventListener("pointerdown", (event) => this.#down(event));
    frame.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) frame.addEventListener(name, (event) => this.#up(event));
    new ResizeObserver(() => this.fitted && this.fit()).observe(frame);
  }

  /** Show a photo of a known size. */
  async show(url, width, height) {
    [this.width, this.height] = [width, height];
    for (const layer of [this.fill, this.outline]) [layer.width, layer.height] = [width, height];
    [this.stage.style.width, this.stage.style.height] = [`${width}px`, `${height}px`];
    this.map = null;
    this.doubt.hidden = true;
    this.fit();
    this.photo.src = url;
    await this.photo.decode();
  }

  /**
   * Show a mask over the photo.
   * @param {LabelMap} map of the photo's size.
   * @param {number[][]} colors by label.
   * @param {Set<number>} clear labels that are not drawn: the background, pixels that are ignored.
   */
  showMask(map, colors, clear) {
    [this.map, this.colors, this.clear] = [map, colors, clear];
    this.paint();
  }

  /** Draw the mask anew, inside a box if one is given. */
  paint(box = { x: 0, y: 0, width: this.width, height: this.height }) {
    if (!this.map) return;
    const reach = Math.max(1, Math.round(Math.max(this.width, this.height) / OUTLINE_PER_PIXELS));
    const left = Math.max(0, box.x - reach);
    const top = Math.max(0, box.y - reach);
    const width = Math.min(this.width, box.x + box.width + reach) - left;
    const height = Math.min(this.height, box.y + box.height + reach) - top;
    if (width <= 0 || height <= 0) return;
    const fill = new ImageData(width, height);
    const outline = new ImageData(width, height);
    const [inside, edges] = [new Uint32Array(fill.data.buffer), new Uint32Array(outline.data.buffer)];
    const { labels } = this.map;
    const packed = this.colors.map(([r, g, b]) => 0xff000000 | (b << 16) | (g << 8) | r);
    for (let y = top, i = 0; y < top + height; y++) {
      for (let x = left; x < left + width; x++, i++) {
        const at = y * this.width + x;
        const label = labels[at];
        if (this.clear.has(label) || this.hidden.has(label)) continue;
        inside[i] = packed[label] ?? 0xff808080;
        const isEdge =
          (x >= reach && labels[at - reach] !== label) ||
          (x + reach < this.width && labels[at + reach] !== label) ||
          (y >= reach && labels[at - reach * this.width] !== label) ||
          (y + reach < this.height && labels[at + reach * this.width] !== label);
        if (isEdge) edges[i] = inside[i];
      }
    }
    this.fill.getContext("2d").putImageData(fill, left, top);
    this.outline.getContext("2d").putImageData(outline, left, top);
  }

  /** Set how strongly the mask covers the photo, 0 to 1. */
  setOpacity(value) {
    this.fill.style.opacity = value;
  }

  /** Show or hide the lines around regions. */
  setOutline(shown) {
    this.outline.hidden = !shown;
  }

  /** Show or hide the whole mask, and leave the photo. */
  setMaskShown(shown) {
    this.fill.hidden = !shown;
    this.outline.classList.toggle("away", !shown);
  }

  /** Fit the whole image into the frame. */
  fit() {
    const { clientWidth, clientHeight } = this.frame;
    if (!this.width || !clientWidth || !clientHeight) return;
    this.scale = Math.min(clientWidth / this.width, clientHeight / this.height, MOST_ZOOM);
    this.x = (clientWidth - this.width * this.scale) / 2;
    this.y = (clientHeight - this.height * this.scale) / 2;
    this.fitted = true;
    this.#place();
  }

  /** Zoom by a factor around a point of the frame; its middle if none is given. */
  zoom(factor, x = this.frame.clientWidth / 2, y = this.frame.clientHeight / 2) {
    const least = Math.min(this.frame.clientWidth / this.width, this.frame.clientHeight / this.height, 1) / 2;
    const scale = Math.min(Math.max(this.scale * factor, least), MOST_ZOOM);
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.#place();
  }

  /** Return the image coordinates of a pointer event. */
  at(event) {
    const box = this.frame.getBoundingClientRect();
    return {
      x: (event.clientX - box.left - this.x) / this.scale,
      y: (event.clientY - box.top - this.y) / this.scale,
    };
  }

  #place() {
    this.stage.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.stage.classList.toggle("pixels", this.scale >= 3);
    this.onview();
  }

  #wheel(event) {
    event.preventDefault();
    const box = this.frame.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
  }

  #down(event) {
    if (event.button > 1 || !this.width) return;
    this.frame.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.pointers.size === 2 && this.drawing) {
      this.drawing.cancel();
      this.drawing = null;
    }
    if (this.pointers.size === 1 && this.tool && event.button === 0 && !event.shiftKey) {
      this.drawing = this.tool;
      this.drawing.start(this.at(event));
    }
  }

  #move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    if (this.drawing) {
      for (const each of event.getCoalescedEvents?.() ?? [event]) this.drawing.move(this.at(each));
    } else if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const box = this.frame.getBoundingClientRect();
      const factor = Math.hypot(now.x - other.x, now.y - other.y) / Math.hypot(before.x - other.x, before.y - other.y);
      if (Number.isFinite(factor) && factor > 0) this.zoom(factor, other.x - box.left, other.y - box.top);
    } else {
      this.x += now.x - before.x;
      this.y += now.y - before.y;
      this.fitted = false;
      this.#place();
    }
    this.pointers.set(event.pointerId, now);
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    if (!this.drawing) return;
    if (event.type === "pointercancel") this.drawing.cancel();
    else this.drawing.end();
    this.drawing = null;
  }
}
