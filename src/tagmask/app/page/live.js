/** Words, threshold and refinement of one image, drawn anew from its frozen features as they change. */

import { sendJson } from "./api.js";
import { debounce, find, make, notify } from "./dom.js";
import { blobOf, decodeMask } from "./labels.js";

const WAIT_SLIDER = 60;
const WAIT_WORDS = 250;

/** The panel with the run's words, which can be changed for a preview. */
export class LivePanel {
  /**
   * @param {HTMLElement} root where it is shown.
   * @param {object} calls: `preview(result)` with {map, words, colors, classes}, `restore()` to show the
   *   run's own mask again, `rerun(settings)` to use the settings for the whole run.
   */
  constructor(root, calls) {
    this.root = root;
    this.calls = calls;
    this.changed = debounce(() => this.#redraw(), WAIT_WORDS);
    this.slid = debounce(() => this.#redraw(), WAIT_SLIDER);
  }

  /** Start anew with an image. */
  show(run, key) {
    this.stop();
    [this.run, this.key] = [run, key];
    this.words = [...run.word_lines];
    this.background = [...(run.background_texts ?? [])];
    this.threshold = run.threshold;
    this.refine = run.refine ?? "none";
    this.#build();
  }

  /** Forget a preview that is being computed. */
  stop() {
    this.request?.abort();
    this.request = null;
  }

  /** Put the cursor where a word is typed. */
  focus() {
    this.input?.focus();
  }

  #build() {
    const { live } = this.run;
    if (!live.possible) {
      this.root.replaceChildren(make("h2", { text: "Words" }), make("p", { class: "hint", text: live.reason }));
      return;
    }
    this.chips = make("div", { class: "chips" });
    this.input = make("input", {
      type: "text",
      placeholder: "Add a word",
      title: "“dog, puppy” is one class with two names",
      autocomplete: "off",
      spellcheck: false,
      aria: { label: "Add a word" },
      on: {
        keydown: (event) => {
          if (event.key === "Enter" || event.key === ";") {
            event.preventDefault();
            this.#add();
          } else if (event.key === "Backspace" && !this.input.value && this.words.length > 1) {
            this.#remove(this.words.length - 1);
          } else if (event.key === "Escape") {
            this.input.value = "";
            this.input.blur();
          }
        },
        blur: () => this.#add(),
      },
    });
    this.status = make("p", { class: "hint", role: "status" });
    const parts = [make("h2", { text: "Words" }), make("div", { class: "words-field" }, this.chips, this.input)];
    if (this.threshold !== null && this.threshold !== undefined) parts.push(this.#slider());
    parts.push(this.#refinement());
    if (this.run.background_texts?.length) parts.push(this.#backgroundTexts());
    this.restoreButton = make("button", { text: "Back to the run's mask", on: { click: () => this.#restore() } });
    this.useButton = make("button", {
      class: "main",
      text: "Use for the whole run",
      title: "Start a new run with these words and settings",
      on: { click: () => this.calls.rerun(this.#settings()) },
    });
    this.actions = make("div", { class: "actions", hidden: true }, this.useButton, this.restoreButton);
    this.root.replaceChildren(...parts, this.status, this.actions);
    if (live.reason) {
      const time = this.run.seconds ? ` It takes about ${this.run.seconds.toFixed(1)} s.` : "";
      this.status.textContent = live.reason + time;
    }
    this.#drawChips();
  }

  #slider() {
    const value = make("output", { text: this.threshold.toFixed(2) });
    const slider = make("input", {
      type: "range",
      min: "0",
      max: "1",
      step: "0.01",
      aria: { label: "Threshold" },
      on: {
        input: () => {
          this.threshold = Number(slider.value);
          value.textContent = this.threshold.toFixed(2);
          this.slid();
        },
      },
    });
    slider.value = String(this.threshold);
    this.slider = slider;
    return make("label", { class: "row" }, make("span", { text: "Threshold" }), slider, value);
  }

  #refinement() {
    const names = { none: "none", pamr: "PAMR", crf: "CRF", tlp: "TLP" };
    const choices = ["none", "pamr", "crf", ...(this.refine === "tlp" ? ["tlp"] : [])];
    const select = make(
      "select",
      { on: { change: () => ((this.refine = select.value), this.changed()) } },
      ...choices.map((value) => make("option", { value, text: names[value] })),
    );
    select.value = this.refine;
    return make("label", { class: "row" }, make("span", { text: "Refinement" }), select);
  }

  #backgroundTexts() {
    const field = make("textarea", {
      rows: 3,
      spellcheck: false,
      on: {
        input: () => {
          this.background = field.value.split(/[\n;]/).map((text) => text.trim()).filter(Boolean);
          this.changed();
        },
      },
    });
    field.value = this.background.join("; ");
    return make("details", {}, make("summary", { text: "Background texts" }), field);
  }

  #drawChips(pending = null) {
    const drawn = this.words.map((word, index) => {
      const close = make("button", {
        text: "×",
        aria: { label: `Remove ${word}` },
        disabled: this.words.length === 1,
        on: { click: () => this.#remove(index) },
      });
      return make("span", { class: `chip${pending?.has(word) ? " pending" : ""}` }, word, close);
    });
    this.chips.replaceChildren(...drawn);
  }

  #add() {
    const given = this.input.value.split(";").map((word) => word.trim()).filter(Boolean);
    this.input.value = "";
    const fresh = given.filter((word, i) => !this.words.includes(word) && given.indexOf(word) === i);
    if (!fresh.length) return;
    this.words.push(...fresh);
    this.#drawChips(new Set(fresh));
    this.#redraw();
  }

  #remove(index) {
    this.words.splice(index, 1);
    this.#drawChips();
    this.changed();
  }

  #settings() {
    const { words, threshold, refine } = this;
    const settings = { words, refine };
    if (threshold !== null && threshold !== undefined) settings.threshold = threshold;
    if (this.run.background_texts?.length) settings.background = this.background;
    return settings;
  }

  async #redraw() {
    this.stop();
    const request = new AbortController();
    this.request = request;
    const late = setTimeout(() => (this.status.textContent = "Drawing …"), 200);
    try {
      const answer = await sendJson("POST", "/api/redraw", { key: this.key, ...this.#settings() }, { signal: request.signal });
      const map = await decodeMask(blobOf(answer.mask));
      if (this.request !== request) return;
      this.request = null;
      this.actions.hidden = false;
      this.status.textContent = `Preview, drawn in ${answer.seconds.toFixed(2)} s. It is not saved.`;
      this.calls.preview({ ...answer, map });
    } catch (error) {
      if (error.name === "AbortError") return;
      this.status.textContent = "";
      notify(error.message, "error");
    } finally {
      clearTimeout(late);
      if (this.request === null || this.request === request) this.#drawChips();
    }
  }

  #restore() {
    this.show(this.run, this.key);
    this.calls.restore();
    find("#app").focus();
  }
}
