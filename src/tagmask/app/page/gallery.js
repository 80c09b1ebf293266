/** All images of a run as a grid. Only the tiles in sight exist, so 100,000 images scroll as 100 do. */

import { address, getJson, sendJson } from "./api.js";
import { counted, debounce, find, isTyping, make, notify, percent } from "./dom.js";

const PAGE = 60;
const LEAST_TILE = 210;
const SMALL_SCREEN_TILE = 150;
const CAPTION = 46;
const GAP = 12;
const SPARE_ROWS = 2;

const STATES = [
  { name: "all", title: "All", filter: {} },
  { name: "unreviewed", title: "To check", filter: { review: "none", status: "done" } },
  { name: "accepted", title: "Accepted", filter: { review: "accepted" } },
  { name: "rejected", title: "Rejected", filter: { review: "rejected" } },
  { name: "corrected", title: "Corrected", filter: { review: "corrected" } },
  { name: "failed", title: "Failed", filter: { status: "failed" } },
];

/** The grid, its filters, and the order in which images follow each other. */
export class Gallery {
  /**
   * @param {HTMLElement} root where it is shown.
   * @param {(key: string, index: number) => void} open called with the image to open.
   */
  constructor(root, open) {
    this.root = root;
    this.open = open;
    this.filter = { state: "all", word: "", search: "", sort: "confidence" };
    this.pages = new Map();
    this.tiles = new Map();
    this.count = 0;
    this.focused = 0;
    this.generation = 0;
    this.#build();
  }

  #build() {
    this.tabs = make("div", { class: "tabs", role: "tablist", aria: { label: "Review state" } });
    this.word = make("select", { aria: { label: "Word" }, on: { change: () => this.#apply({ word: this.word.value }) } });
    const sorts = [["confidence", "Least sure first"], ["name", "By name"]];
    this.sort = make(
      "select",
      { aria: { label: "Order" }, on: { change: () => this.#apply({ sort: this.sort.value }) } },
      ...sorts.map(([value, text]) => make("option", { value, text })),
    );
    const findName = debounce(() => this.#apply({ search: this.search.value.trim() }), 200);
    this.search = make("input", { type: "search", placeholder: "Find a name", aria: { label: "Find a name" }, on: { input: findName } });
    this.empty = make("p", { class: "empty", hidden: true });
    this.grid = make("div", { class: "grid", role: "list", aria: { label: "Images" } });
    this.scroller = make("div", { class: "scroller", on: { scroll: () => this.#schedule() } }, this.empty, this.grid);
    const filters = make("div", { class: "filters" }, this.tabs, make("span", { class: "selects" }, this.word, this.sort, this.search));
    this.root.replaceChildren(filters, this.scroller);
    new ResizeObserver(() => this.#schedule()).observe(this.scroller);
  }

  /** Take over what is known of the run: its words and counts. */
  update(run) {
    this.run = run;
    const { counts } = run;
    this.tabs.replaceChildren(
      ...STATES.filter(({ name }) => name === "all" || counts[name] || this.filter.state === name).map(({ name, title }) =>
        make("button", {
          role: "tab",
          class: "tab",
          aria: { selected: String(this.filter.state === name) },
          on: { click: () => this.#apply({ state: name }) },
        }, `${title} `, make("small", { text: (counts[name] ?? 0).toLocaleString("en") })),
      ),
    );
    if (this.word.options.length !== run.words.length + (run.background ? 0 : 1)) {
      const words = run.words.slice(run.background ? 1 : 0);
      this.word.replaceChildren(make("option", { value: "", text: "Any word" }), ...words.map((word) => make("option", { value: word, text: word })));
      this.word.value = this.filter.word;
    }
  }

  /** Show what the server has now: at first, and after changes. */
  async refresh() {
    const generation = ++this.generation;
    this.pages.clear();
    await this.#page(0);
    if (generation === this.generation) this.#layOut(true);
  }

  /** Put the keyboard's focus on the image that was open last. */
  focus(index = this.focused) {
    this.focused = Math.max(0, Math.min(index, this.count - 1));
    this.#reveal();
  }

  #apply(change) {
    Object.assign(this.filter, change);
    this.focused = 0;
    this.scroller.scrollTop = 0;
    if (this.run) this.update(this.run);
    this.refresh().catch((error) => notify(error.message, "error"));
  }

  #query() {
    const { state, word, search, sort } = this.filter;
    return { ...STATES.find(({ name }) => name === state).filter, word, search, sort };
  }

  #page(number) {
    if (!this.pages.has(number)) {
      const answer = getJson("/api/images", { ...this.#query(), offset: number * PAGE, limit: PAGE });
      const items = answer.then(({ count, images }) => {
        if (this.pages.get(number) === items) this.count = count;
        return images;
      });
      items.catch(() => this.pages.get(number) === items && this.pages.delete(number));
      this.pages.set(number, items);
    }
    return this.pages.get(number);
  }

  /** Return {image, index} of the image some places after one; null beyond the ends. */
  async neighbour(key, index, step) {
    const first = Math.max(0, index - 1);
    const { count, images } = await getJson("/api/images", { ...this.#query(), offset: first, limit: 3 });
    const found = images.findIndex((image) => image.key === key);
    // An image that no longer matches the filter has left the list: the next one has its place.
    const next = found >= 0 ? first + found + step : step > 0 ? index : index - 1;
    if (next < 0 || next >= count) return null;
    const here = images[next - first];
    if (here) return { image: here, index: next };
    const { images: others } = await getJson("/api/images", { ...this.#query(), offset: next, limit: 1 });
    return others[0] ? { image: others[0], index: next } : null;
  }

  #shape() {
    const width = this.scroller.clientWidth - 2 * GAP;
    const least = width < 600 ? SMALL_SCREEN_TILE : LEAST_TILE;
    const columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    const tile = (width - GAP * (columns - 1)) / columns;
    return { columns, tile, height: tile * 0.75 + CAPTION };
  }

  #schedule() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#layOut();
    });
  }

  #layOut(anew = false) {
    if (!this.scroller.clientWidth) return;
    const { columns, tile, height } = this.#shape();
    const pitch = height + GAP;
    const rows = Math.ceil(this.count / columns);
    this.grid.style.height = `${rows * pitch + GAP}px`;
    this.empty.hidden = this.count > 0;
    this.empty.textContent = this.run?.counts.all ? "No image matches these filters." : "No image is done yet.";
    const top = Math.max(0, Math.floor(this.scroller.scrollTop / pitch) - SPARE_ROWS);
    const bottom = Math.min(rows, Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / pitch) + SPARE_ROWS);
    const wanted = new Set();
    for (let index = top * columns; index < Math.min(this.count, bottom * columns); index++) wanted.add(index);
    for (const [index, element] of this.tiles) {
      if (!wanted.has(index)) {
        element.remove();
        this.tiles.delete(index);
      }
    }
    for (const index of wanted) {
      let element = this.tiles.get(index);
      if (!element) {
        element = this.#tile(index);
        this.tiles.set(index, element);
        this.grid.append(element);
      }
      element.style.transform = `translate(${GAP + (index % columns) * (tile + GAP)}px, ${GAP + Math.floor(index / columns) * pitch}px)`;
      [element.style.width, element.style.height] = [`${tile}px`, `${height}px`];
      if (anew || !element.dataset.key) this.#fill(element, index);
    }
  }

  #open(index) {
    // The image that the tile shows: the list may have changed since.
    const { key } = this.tiles.get(index)?.dataset ?? {};
    if (key) this.open(key, index);
  }

  #tile(index) {
    return make("div", {
      class: "tile",
      role: "listitem",
      tabIndex: -1,
      data: { index: String(index) },
      on: {
        click: () => this.#open(index),
        focus: () => (this.focused = index),
      },
    });
  }

  async #fill(element, index) {
    const generation = this.generation;
    let image;
    try {
      image = (await this.#page(Math.floor(index / PAGE)))[index % PAGE];
    } catch (error) {
      notify(error.message, "error");
      return;
    }
    if (!image || generation !== this.generation || this.tiles.get(index) !== element) return;
    const stamp = JSON.stringify(image);
    if (element.dataset.stamp === stamp) return;
    element.dataset.stamp = stamp;
    element.dataset.key = image.key;
    element.tabIndex = index === this.focused ? 0 : -1;
    element.replaceChildren(thumbnail(image), caption(image));
    element.setAttribute("aria-label", spoken(image));
    element.dataset.review = image.review ?? "none";
  }

  /** Handle a key while the gallery is shown. */
  onkey(event) {
    if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key === "Escape" && event.target === this.search) this.search.blur();
      return;
    }
    const { columns } = this.#shape();
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -Infinity, End: Infinity };
    if (event.key in steps) this.focus(this.focused + Math.max(-this.count, Math.min(this.count, steps[event.key])));
    else if (event.key === "Enter" && !["BUTTON", "A"].includes(event.target.tagName)) this.#open(this.focused);
    else if (event.key.toLowerCase() === "a") this.#review("accepted");
    else if (event.key.toLowerCase() === "r") this.#review("rejected");
    else if (event.key === "/") this.search.focus();
    else return;
    event.preventDefault();
  }

  async #review(review) {
    const index = this.focused;
    const shown = this.tiles.get(index)?.dataset.stamp;
    const image = shown ? JSON.parse(shown) : null;
    if (image?.status !== "done" || this.run.read_only) return;
    try {
      await sendJson("POST", "/api/review", { key: image.key, review: image.review === review ? null : review });
      find("#app").dispatchEvent(new CustomEvent("changed"));
      if (this.filter.state === "all") this.focused = Math.min(index + 1, this.count - 1);
      await this.refresh();
      this.focus();
    } catch (error) {
      notify(error.message, "error");
    }
  }

  #reveal() {
    const { columns, height } = this.#shape();
    const pitch = height + GAP;
    const top = Math.floor(this.focused / columns) * pitch;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top + pitch > this.scroller.scrollTop + this.scroller.clientHeight) {
      this.scroller.scrollTop = top + pitch + GAP - this.scroller.clientHeight;
    }
    this.#layOut();
    for (const [index, element] of this.tiles) element.tabIndex = index === this.focused ? 0 : -1;
    this.tiles.get(this.focused)?.focus({ preventScroll: true });
  }
}

function thumbnail(image) {
  if (image.status !== "done") return make("div", { class: "shot failed-shot" }, make("span", { text: image.error ?? "failed" }));
  const source = address("/api/thumbnail", { key: image.key, size: 320, v: image.version });
  return make("img", { class: "shot", src: source, alt: "", loading: "lazy", decoding: "async" });
}

function caption(image) {
  const mark = image.review ? make("span", { class: `mark ${image.review}`, text: image.review }) : null;
  const corrected = image.corrected ? make("span", { class: "mark corrected", text: "corrected" }) : null;
  const confidence = image.confidence === null ? null : make("span", { class: "sure", title: "Confidence", text: percent(image.confidence) });
  const words = image.status === "done" ? image.words.join(", ") || "background only" : "failed";
  return make(
    "div",
    { class: "caption" },
    make("div", { class: "name", title: image.key, text: image.key }),
    make("div", { class: "facts" }, confidence, make("span", { class: "words", title: words, text: words }), corrected, mark),
  );
}

function spoken(image) {
  const facts = [image.key, image.words.join(", "), image.review ?? "not reviewed"];
  if (image.confidence !== null) facts.push(`confidence ${percent(image.confidence)}`);
  return facts.filter(Boolean).join("; ");
}

/** Return the run's counts as a sentence. */
export function countsText({ counts, total, state }) {
  const parts = [counted(counts.all, "image")];
  if (state === "running" && total) parts[0] = `${counts.all.toLocaleString("en")} of ${counted(total, "image")}`;
  const checked = counts.accepted + counts.rejected;
  if (checked) parts.push(`${checked.toLocaleString("en")} reviewed`);
  if (counts.failed) parts.push(`${counts.failed.toLocaleString("en")} failed`);
  return parts.join(", ");
}
