/** Improve, export, and a run with other words: what the server computes in the background. */

import { getJson, sendJson } from "./api.js";
import { find, make, notify } from "./dom.js";

const POLL = 700;
const TITLES = { improve: "Improving", export: "Exporting", rerun: "New run" };

/** Starts jobs, and shows the one that runs in a bar at the foot of the page. */
export class Jobs {
  /**
   * @param {HTMLElement} bar where the job is shown.
   */
  constructor(bar) {
    this.bar = bar;
    this.timer = 0;
  }

  /** Start a job. */
  async start(kind, options = {}) {
    try {
      await sendJson("POST", "/api/jobs", { kind, ...options });
      await this.poll();
    } catch (error) {
      notify(error.message, "error");
    }
  }

  /** Show the newest job, and ask again while it runs. */
  async poll() {
    clearTimeout(this.timer);
    let jobs;
    try {
      jobs = await getJson("/api/jobs");
    } catch {
      return;
    }
    const job = jobs.at(-1);
    this.bar.hidden = !job || this.dismissed === job.id;
    if (!job) return;
    this.#draw(job);
    if (job.state === "running") this.timer = setTimeout(() => this.poll(), POLL);
    else if (this.running === job.id) find("#app").dispatchEvent(new CustomEvent("changed"));
    this.running = job.state === "running" ? job.id : null;
  }

  #draw(job) {
    const parts = [make("strong", { text: TITLES[job.kind] ?? job.kind })];
    if (job.state === "running") {
      const progress = make("progress", job.total ? { max: job.total, value: job.done } : {});
      const text = job.total ? `${job.done.toLocaleString("en")} of ${job.total.toLocaleString("en")}` : job.message ?? "";
      const stop = make("button", { text: "Stop", on: { click: () => this.#stop(job.id) } });
      parts.push(progress, make("span", { text }), stop);
    } else {
      const said = { done: "Done.", failed: "Failed.", stopped: "Stopped." }[job.state];
      parts.push(make("span", { class: job.state, text: [said, job.message].filter(Boolean).join(" ") }));
      if (job.result) parts.push(make("code", { text: job.result }));
      const close = () => {
        this.dismissed = job.id;
        this.bar.hidden = true;
      };
      parts.push(make("button", { text: "Close", on: { click: close } }));
    }
    this.bar.replaceChildren(...parts);
  }

  async #stop(id) {
    try {
      await sendJson("DELETE", "/api/jobs", undefined, { parameters: { id } });
      await this.poll();
    } catch (error) {
      notify(error.message, "error");
    }
  }
}

/** Ask what to export, and start it. */
export function askExport(dialog, run, jobs) {
  const formats = run.formats.map((name) => make("label", { class: "choice" }, make("input", { type: "checkbox", name: "format", value: name }), name));
  const corrected = make("input", { type: "checkbox" });
  const accepted = make("input", { type: "checkbox" });
  const regions = make(
    "select",
    {},
    make("option", { value: "", text: "as the format has it" }),
    make("option", { value: "class", text: "one per class" }),
    make("option", { value: "component", text: "one per connected part" }),
  );
  const form = make(
    "form",
    {
      method: "dialog",
      on: {
        submit: (event) => {
          if (event.submitter?.value !== "export") return;
          const chosen = [...form.querySelectorAll("input[name=format]:checked")].map((input) => input.value);
          if (!chosen.length) {
            event.preventDefault();
            notify("Choose at least one format.", "error");
            return;
          }
          const options = { formats: chosen, corrected_only: corrected.checked, accepted_only: accepted.checked };
          if (regions.value) options.regions = regions.value;
          jobs.start("export", options);
        },
      },
    },
    make("h2", { text: "Export" }),
    make("fieldset", { class: "choices" }, make("legend", { text: "Formats" }), ...formats),
    make("label", { class: "row" }, make("span", { text: "Regions" }), regions),
    make("label", { class: "choice" }, corrected, "corrected images only"),
    make("label", { class: "choice" }, accepted, "accepted images only"),
    make("div", { class: "actions" }, make("button", { class: "main", value: "export", text: "Export" }), make("button", { value: "cancel", text: "Cancel" })),
  );
  dialog.replaceChildren(form);
  dialog.showModal();
}

/** Say what improving does, and start it. */
export function askImprove(dialog, run, jobs) {
  const { corrected } = run.counts;
  const text = corrected
    ? `A head is fitted to your ${corrected} corrected image${corrected === 1 ? "" : "s"}, without training, and a new run is made with it. This run stays as it is.`
    : "Correct a few images first: their masks teach the new run what to change.";
  const form = make(
    "form",
    { method: "dialog", on: { submit: (event) => event.submitter?.value === "improve" && jobs.start("improve") } },
    make("h2", { text: "Improve the run" }),
    make("p", { text }),
    make(
      "div",
      { class: "actions" },
      make("button", { class: "main", value: "improve", text: "Improve", disabled: !corrected }),
      make("button", { value: "cancel", text: "Cancel" }),
    ),
  );
  dialog.replaceChildren(form);
  dialog.showModal();
}
