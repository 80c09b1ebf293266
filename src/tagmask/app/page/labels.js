/** Masks as arrays of labels: how they travel, and what can be done with them. */

/** The label of pixels of no class; in a PNG they are white. */
export const NO_CLASS = 0xffff;

/** A mask: its size and a label for each pixel, row by row. */
export class LabelMap {
  constructor(width, height, labels = new Uint16Array(width * height)) {
    this.width = width;
    this.height = height;
    this.labels = labels;
  }

  /** Return a copy that shares nothing. */
  copy() {
    return new LabelMap(this.width, this.height, this.labels.slice());
  }

  /** Return the labels inside a box, row by row. */
  cut({ x, y, width, height }) {
    const part = new Uint16Array(width * height);
    for (let row = 0; row < height; row++) {
      const start = (y + row) * this.width + x;
      part.set(this.labels.subarray(start, start + width), row * width);
    }
    return part;
  }

  /** Replace the labels inside a box. */
  paste({ x, y, width, height }, part) {
    for (let row = 0; row < height; row++) {
      this.labels.set(part.subarray(row * width, (row + 1) * width), (y + row) * this.width + x);
    }
  }

  /** Return how many pixels each label has, by label. */
  counts() {
    const counts = new Map();
    for (const label of this.labels) counts.set(label, (counts.get(label) ?? 0) + 1);
    return counts;
  }
}

/** Read a mask from a PNG in which label = red + 256 green. */
export async function decodeMask(blob) {
  const { width, height, data } = await decodePixels(blob);
  const labels = new Uint16Array(width * height);
  for (let i = 0, j = 0; i < labels.length; i++, j += 4) labels[i] = data[j] | (data[j + 1] << 8);
  return new LabelMap(width, height, labels);
}

/** Read the ids of regions from a PNG in which id = red + 256 green + 65536 blue. */
export async function decodeRegions(blob) {
  const { width, height, data } = await decodePixels(blob);
  const ids = new Uint32Array(width * height);
  for (let i = 0, j = 0; i < ids.length; i++, j += 4) ids[i] = data[j] | (data[j + 1] << 8) | (data[j + 2] << 16);
  return { width, height, labels: ids };
}

async function decodePixels(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return { width: bitmap.width, height: bitmap.height, data };
}

/** Write a mask as a PNG in which label = red + 256 green. */
export function encodeMask(map) {
  const canvas = new OffscreenCanvas(map.width, map.height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(map.width, map.height);
  const words = new Uint32Array(image.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = map.labels[i] === NO_CLASS ? 0xffffffff : 0xff000000 | map.labels[i];
  context.putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

/** Turn base64 text into a blob. */
export function blobOf(base64, type = "image/png") {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type });
}

/**
 * Find the connected region of equal values around a pixel (four neighbours).
 * @returns {{pixels: number[], box: {x, y, width, height}}} the pixels' indices, and the box around them.
 */
export function regionAt({ width, height, labels }, x, y) {
  const wanted = labels[y * width + x];
  const seen = new Uint8Array(width * height);
  const pixels = [];
  const waiting = [[x, y]];
  let [left, top, right, bottom] = [x, y, x, y];
  while (waiting.length) {
    const [column, row] = waiting.pop();
    const start = row * width;
    if (seen[start + column]) continue;
    let first = column;
    let last = column;
    while (first > 0 && labels[start + first - 1] === wanted && !seen[start + first - 1]) first--;
    while (last < width - 1 && labels[start + last + 1] === wanted && !seen[start + last + 1]) last++;
    [left, right] = [Math.min(left, first), Math.max(right, last)];
    [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
    for (let i = first; i <= last; i++) {
      seen[start + i] = 1;
      pixels.push(start + i);
    }
    for (const next of [row - 1, row + 1]) {
      if (next < 0 || next >= height) continue;
      let open = false;
      for (let i = first; i <= last; i++) {
        const matches = labels[next * width + i] === wanted && !seen[next * width + i];
        if (matches && !open) waiting.push([i, next]);
        open = matches;
      }
    }
  }
  return { pixels, box: { x: left, y: top, width: right - left + 1, height: bottom - top + 1 } };
}
