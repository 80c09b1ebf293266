/** Corrections of a mask: brush, fill, replace; each can be undone. */

import { regionAt } from "./labels.js";

const MOST_UNDO_PIXELS = 40_000_000;

/** Changes the mask that a viewer shows. */
export class Editor {
  /**
   * @param {Viewer} viewer whose mask is changed.
   * @param {(undone: boolean) => void} onchange called after each change that can be undone.
   */
  constructor(viewer, onchange) {
    this.viewer = viewer;
    this.onchange = onchange;
    this.label = 0;
    this.eraseLabel = 0;
    this.size = 24;
    this.mode = "move";
    /** For the mode "superpixel": {width, height, labels}. */
    this.superpixels = null;
    this.reset();
  }

  /** Forget what could be undone: another mask is shown. */
  reset() {
    this.done = [];
    this.undone = [];
    this.stroke = null;
  }

  /** Choose what the pointer does: move, brush, erase, fill, superpixel or replace. */
  setMode(mode) {
    this.mode = mode;
    const tool = { start: (at) => this.#start(at), move: (at) => this.#draw(at), end: () => this.#end(), cancel: () => this.#cancel() };
    this.viewer.tool = mode === "move" ? null : tool;
  }

  /** Take the last change back; return whether there was one. */
  undo() {
    return this.#swap(this.done, this.undone);
  }

  /** Make the last undone change again; return whether there was one. */
  redo() {
    return this.#swap(this.undone, this.done);
  }

  #swap(from, to) {
    const change = from.pop();
    if (!change) return false;
    const now = this.viewer.map.cut(change.box);
    this.viewer.map.paste(change.box, change.labels);
    to.push({ box: change.box, labels: now });
    this.viewer.paint(change.box);
    this.onchange();
    return true;
  }

  #start(at) {
    const { map } = this.viewer;
    const [x, y] = [Math.floor(at.x), Math.floor(at.y)];
    if (!map) return;
    if (this.mode === "brush" || this.mode === "erase") {
      this.stroke = { before: map.copy(), last: at, box: null };
      this.#draw(at);
      return;
    }
    if (x < 0 || y < 0 || x >= map.width || y >= map.height) return;
    if (this.mode === "superpixel" && !this.superpixels) return; // they are on their way
    const before = map.copy();
    const old = map.labels[y * map.width + x];
    let box = { x: 0, y: 0, width: map.width, height: map.height };
    if (this.mode === "replace") {
      for (let i = 0; i < map.labels.length; i++) if (map.labels[i] === old) map.labels[i] = this.label;
    } else {
      const region = regionAt(this.mode === "superpixel" ? this.superpixels : map, x, y);
      for (const pixel of region.pixels) map.labels[pixel] = this.label;
      box = region.box;
    }
    this.#keep(before, box);
  }

  #draw(at) {
    if (!this.stroke) return;
    const { map } = this.viewer;
    const label = this.mode === "erase" ? this.eraseLabel : this.label;
    const { last } = this.stroke;
    const radius = this.size / 2;
    const steps = Math.max(1, Math.ceil(Math.hypot(at.x - last.x, at.y - last.y) / Math.max(0.5, radius / 3)));
    const left = Math.max(0, Math.floor(Math.min(at.x, last.x) - radius));
    const top = Math.max(0, Math.floor(Math.min(at.y, last.y) - radius));
    const right = Math.min(map.width, Math.ceil(Math.max(at.x, last.x) + radius) + 1);
    const bottom = Math.min(map.height, Math.ceil(Math.max(at.y, last.y) + radius) + 1);
    for (let step = 1; step <= steps; step++) {
      const x = last.x + ((at.x - last.x) * step) / steps;
      const y = last.y + ((at.y - last.y) * step) / steps;
      this.#stamp(map, x, y, radius, label);
    }
    this.stroke.last = at;
    if (right <= left || bottom <= top) return;
    const box = { x: left, y: top, width: right - left, height: bottom - top };
    this.stroke.box = this.stroke.box ? joined(this.stroke.box, box) : box;
    this.viewer.paint(box);
  }

  #stamp(map, x, y, radius, label) {
    // A pixel is painted when its middle is inside the brush; the one under the pointer always is.
    for (let row = Math.max(0, Math.floor(y - radius)); row <= Math.min(map.height - 1, Math.ceil(y + radius)); row++) {
      const half = Math.sqrt(Math.max(0, radius * radius - (row + 0.5 - y) ** 2));
      const first = Math.max(0, Math.ceil(x - half - 0.5));
      const last = Math.min(map.width - 1, Math.floor(x + half - 0.5));
      if (half > 0 && first <= last) map.labels.fill(label, row * map.width + first, row * map.width + last + 1);
    }
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (column >= 0 && row >= 0 && column < map.width && row < map.height) map.labels[row * map.width + column] = label;
  }

  #end() {
    const { stroke } = this;
    this.stroke = null;
    if (stroke?.box) this.#keep(stroke.before, stroke.box);
  }

  #cancel() {
    const { stroke } = this;
    this.stroke = null;
    if (!stroke?.box) return;
    this.viewer.map.paste(stroke.box, stroke.before.cut(stroke.box));
    this.viewer.paint(stroke.box);
  }

  #keep(before, box) {
    const [old, now] = [before.cut(box), this.viewer.map.cut(box)];
    this.viewer.paint(box);
    if (old.every((label, i) => label === now[i])) return;
    this.done.push({ box, labels: old });
    this.undone = [];
    let kept = this.done.reduce((sum, change) => sum + change.labels.length, 0);
    while (kept > MOST_UNDO_PIXELS && this.done.length > 1) kept -= this.done.shift().labels.length;
    this.onchange();
  }
}

function joined(a, b) {
  const [x, y] = [Math.min(a.x, b.x), Math.min(a.y, b.y)];
  return {
    x,
    y,
    width: Math.max(a.x + a.width, b.x + b.width) - x,
    height: Math.max(a.y + a.height, b.y + b.height) - y,
  };
}
