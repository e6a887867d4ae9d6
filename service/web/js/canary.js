// The canary beside the version that answers: its share of the requests, and how the two compare.

import { activate, metricsText } from "./api.js";
import { byId, h, milliseconds, percent, tell } from "./dom.js";
import { samples } from "./metrics.js";

const POLL_MS = 2000;
const SHARES = [0.01, 0.05, 0.1, 0.25, 0.5, 1];
const COLUMNS = ["Version", "Images", "Failed", "Compute", "Sureness"];

export class Canary {
  #shown = ""; // what was drawn: the canary and the one beside it
  #visible = false;

  constructor(world) {
    this.world = world;
    this.box = byId("canary");
    this.title = h("b");
    this.share = h("select", { onchange: () => this.#try(Number(this.share.value)) });
    this.rows = h("tbody");
    this.state = h("p", { class: "message", role: "status" });
    this.promote = h("button", { type: "button", class: "primary", onclick: () => this.#try(null) });
    this.end = h("button", { type: "button", onclick: () => this.#try(0) }, "End the canary");
    this.box.append(
      h("p", { class: "row" }, this.title, h("label", {}, this.share, " of the requests")),
      h("div", { class: "scroll" }, h("table", { class: "steps" },
        h("thead", {}, h("tr", {}, ...COLUMNS.map((name) => h("th", { scope: "col" }, name)))), this.rows)),
      this.state,
      h("p", { class: "note" }, "Counted by this server since each began to answer; an image always goes to the same "
        + "version. Sureness is the mean score of the best label."),
      h("p", { class: "submit" }, this.promote, this.end));
    world.addEventListener("change", () => this.#draw());
    new IntersectionObserver(([entry]) => {
      this.#visible = entry.isIntersecting;
      this.#measure();
    }).observe(this.box);
    setInterval(() => this.#measure(), POLL_MS);
  }

  get #canary() {
    return this.world.versions.canary;
  }

  #draw() {
    const canary = this.#canary;
    this.box.hidden = !canary;
    if (!canary) return;
    const { serving, refused } = this.world.versions;
    this.title.textContent = `v${canary.version} is the canary:`;
    this.promote.textContent = `Promote v${canary.version}`;
    this.#offer(canary.share);
    const refusal = refused.findLast(({ version }) => version === canary.version);
    const waits = refusal ? refusal.reason : "Loading…";
    tell(this.state, canary.answering ? "" : waits, Boolean(refusal) && !canary.answering);
    const shown = `${serving} ${canary.version}`;
    if (shown !== this.#shown) this.rows.replaceChildren();
    this.#shown = shown;
    this.#measure();
  }

  /** The shares to choose from, the present one chosen. New options would close the menu under the user's hand. */
  #offer(present) {
    const shares = [...new Set([...SHARES, present])].sort((a, b) => a - b);
    if (shares.join() !== [...this.share.options].map((option) => option.value).join())
      this.share.replaceChildren(...shares.map((share) => h("option", { value: share }, percent(share))));
    this.share.value = present;
  }

  async #measure() {
    if (!this.#canary || !this.#visible || document.hidden) return;
    const versions = [this.world.versions.serving, this.#canary.version];
    let text;
    try {
      text = await metricsText();
    } catch {
      return; // the status line says so already
    }
    this.rows.replaceChildren(...versions.filter((version) => version !== null).map((version) => row(text, version)));
  }

  /** A share of the requests for the canary; null for all of them and for good. */
  async #try(share) {
    try {
      await activate(this.#canary.version, share);
    } catch (problem) {
      tell(this.state, problem.message, true);
    }
    await this.world.refresh();
  }
}

function row(text, version) {
  const of = (name, labels = {}) => samples(text, `hippotune_version_${name}`, { version: String(version), ...labels })[0]?.value ?? 0;
  const mean = (name) => of(`${name}_sum`) / of(`${name}_count`);
  const answered = of("images_total", { outcome: "answered" });
  const cells = [answered.toLocaleString("en"), of("images_total", { outcome: "failed" }).toLocaleString("en"),
    answered ? `${milliseconds(1000 * mean("compute_seconds"))} ms` : "–", answered ? percent(mean("top_score")) : "–"];
  return h("tr", {}, h("th", { scope: "row" }, `v${version}`), ...cells.map((cell) => h("td", {}, cell)));
}
