// What was taught: progress, dead letters with their reason, and the ways to cancel, try again and forget.

import { remove, retry } from "./api.js";
import { byId, count, h, seconds } from "./dom.js";
import { listed, Listing } from "./listing.js";
import { hasEnded } from "./world.js";

const KINDS = {
  all: ["All", () => true],
  working: ["Under way", (task) => !hasEnded(task)],
  dead: ["Dead letters", (task) => task.state === "failed"],
};

export class Tasks {
  #kind = "all";
  #forgetting = null; // id of the task that waits for a yes

  constructor(world) {
    this.world = world;
    this.listing = new Listing("tasks", world, (task) => this.#task(task));
    this.chips = Object.entries(KINDS).map(([kind]) =>
      h("button", { type: "button", class: "chip", onclick: () => this.#choose(kind) }));
    byId("tasks-shown").append(...this.chips);
    world.addEventListener("change", () => this.#draw());
    this.#draw();
  }

  #choose(kind) {
    this.#kind = kind;
    this.#draw();
  }

  #draw() {
    const { tasks } = this.world;
    Object.entries(KINDS).forEach(([kind, [words, belongs]], place) => {
      this.chips[place].textContent = `${words} ${tasks.filter(belongs).length}`;
      this.chips[place].setAttribute("aria-pressed", String(kind === this.#kind));
    });
    byId("tasks-shown").hidden = !tasks.length;
    this.listing.draw(tasks.filter(KINDS[this.#kind][1]), tasks.length ? "None of these." : "Nothing taught yet.");
  }

  #task(task) {
    const facts = task.change ? factsOfOrder(task) : factsOf(task);
    return h("li", { class: "task" },
      h("div", { class: "row" },
        h("b", { class: "name", title: task.name }, task.name),
        h("span", { class: `state ${task.state}` }, task.state)),
      hasEnded(task)
        ? null
        : h("progress", { value: task.state === "consolidating" ? task.progress : null, max: "1",
          "aria-label": `Progress of ${task.name}` }),
      task.change || task.name === task.labels.join(", ") ? null
        : h("p", { class: "news clamped", title: task.labels.join(", ") }, listed(task.labels)),
      facts.length ? h("p", { class: "note" }, facts.join(" · ")) : null,
      task.error ? h("p", { class: "message error reason", tabindex: "0" }, task.error) : null,
      this.#actions(task),
      this.listing.trouble(task.id));
  }

  /** Whether the version that answers has learned a task: going back to one brings back what was forgotten since. */
  #isKnown(id) {
    return this.world.versions.versions.some((version) => version.serving && version.consolidated.includes(id));
  }

  #actions(task) {
    const { id, name, state, change } = task;
    const button = (words, work, kind = "quiet") =>
      this.listing.button(id, words, work, { class: kind, "aria-label": `${words} ${name}` });
    const ask = (asked) => () => {
      this.#forgetting = asked ? id : null;
      this.#draw();
    };
    if (state === "queued") return h("p", { class: "choices" }, button("Cancel", () => remove(id)));
    if (state === "failed") {
      return h("p", { class: "choices" }, change ? null : button("Try again", () => retry(id)), button("Discard", () => remove(id)));
    }
    if (change) return null; // an order that was carried out is no task to be forgotten
    if (state !== "consolidated" && !(state === "forgotten" && this.#isKnown(id))) return null;
    if (this.#forgetting !== id) return h("p", { class: "choices" }, button("Forget", ask(true)));
    return h("p", { class: "choices" }, h("span", { class: "note" }, "Its classes will no longer be known."),
      button("Forget it", () => { this.#forgetting = null; return remove(id); }, "danger"), button("Keep it", ask(false)));
  }
}

function factsOf({ images, labels, metrics, created_at, served_at, consolidated_at }) {
  const facts = [count(images, "image"), count(labels.length, "class", "classes")];
  const repeated = metrics.repeated_images;
  if (repeated) facts.push(`${repeated.toLocaleString("en")} of them not new`);
  const contradicting = metrics.contradicting_images;
  if (contradicting) facts.push(`${contradicting.toLocaleString("en")} with another label, too`);
  if (served_at) facts.push(`answered after ${seconds(served_at - created_at)}`);
  if (consolidated_at) facts.push(`consolidated after ${seconds(consolidated_at - created_at)}`);
  return facts;
}

/** Of an order about a class, whose name says what it does. */
const factsOfOrder = ({ created_at, consolidated_at }) =>
  consolidated_at ? [`carried out after ${seconds(consolidated_at - created_at)}`] : [];
