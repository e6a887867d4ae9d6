// Tasks with their progress, and the time line of versions with the way back.

import { activate, cancel } from "./api.js";
import { byId, clock, count, h, percent, seconds, tell } from "./dom.js";
import { hasEnded } from "./world.js";

const SHOWN = 8;
const NAMED = 8;

export class History {
  #all = { tasks: false, versions: false };
  #problem = null; // {of: what it concerns, text}

  constructor(world) {
    this.world = world;
    world.addEventListener("change", () => this.#draw());
  }

  #draw() {
    const { tasks, versions } = this.world;
    this.#list("tasks", tasks, (task) => this.#task(task), "Nothing taught yet.");
    this.#list("versions", versions.versions, (version) => this.#version(version), "No version yet.");
  }

  #list(id, items, row, empty) {
    const list = byId(id);
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const shown = this.#all[id] ? items : items.slice(0, SHOWN);
    const more = () => {
      this.#all[id] = true;
      this.#draw();
    };
    list.replaceChildren(
      ...shown.map(row),
      ...(items.length ? [] : [h("li", { class: "message" }, empty)]),
      ...(shown.length < items.length
        ? [h("li", {}, h("button", { type: "button", class: "quiet", "data-key": "more", onclick: more },
          `Show ${items.length - shown.length} older`))]
        : []),
    );
    // Redrawn while somebody is on a button: they stay there.
    if (focused) [...list.querySelectorAll("[data-key]")].find((button) => button.dataset.key === focused)?.focus();
  }

  #task(task) {
    const facts = [count(task.images, "image"), count(task.labels.length, "class", "classes")];
    if (task.served_at) facts.push(`answered after ${seconds(task.served_at - task.created_at)}`);
    if (task.consolidated_at) facts.push(`consolidated after ${seconds(task.consolidated_at - task.created_at)}`);
    const working = !hasEnded(task);
    return h("li", { class: "task" },
      h("div", { class: "row" },
        h("b", { class: "name", title: task.labels.join(", ") }, task.name),
        h("span", { class: `state ${task.state}` }, task.state)),
      working
        ? h("progress", { value: task.state === "consolidating" ? task.progress : null, max: "1",
          "aria-label": `Progress of ${task.name}` })
        : null,
      h("p", { class: "news" }, listed(task.labels)),
      h("p", { class: "note" }, facts.join(" · ")),
      task.error ? h("p", { class: "message error" }, task.error) : null,
      task.state === "queued"
        ? h("button", { type: "button", class: "quiet", "data-key": task.id,
          onclick: () => this.#try(task.id, () => cancel(task.id)) }, "Cancel")
        : null,
      this.#trouble(task.id));
  }

  #version(version) {
    const { number, news } = { number: version.version, news: this.#news(version) };
    const refused = this.world.versions.refused.find((refusal) => refusal.version === number);
    const facts = [count(version.labels.length, "class", "classes"), count(version.slots, "slot")];
    if ("accuracy" in version.metrics) facts.push(`accuracy ${percent(version.metrics.accuracy)}`);
    if ("forgetting" in version.metrics) facts.push(`forgetting ${percent(version.metrics.forgetting)}`);
    return h("li", { class: `version ${version.kind}`, value: number, "aria-current": version.serving ? "true" : null },
      h("div", { class: "row" },
        h("b", {}, `v${number}`),
        h("span", { class: "state" }, version.kind),
        h("time", { class: "note" }, clock(version.created_at)),
        version.serving
          ? h("span", { class: "state serving" }, "answering")
          : h("button", { type: "button", "data-key": String(number), disabled: version.current && !refused,
            "aria-label": `Answer with version ${number}`,
            onclick: () => this.#try(number, () => activate(number)) },
          version.current && !refused ? "Loading…" : number < this.world.versions.serving ? "Roll back" : "Use this")),
      h("p", { class: "note" }, facts.join(" · ")),
      news.length ? h("p", { class: "news" }, `learned ${listed(news)}`) : null,
      refused ? h("p", { class: "message error" }, refused.reason) : null,
      this.#trouble(number));
  }

  /** Labels that this version knows and its parent does not. */
  #news(version) {
    const parent = this.world.versions.versions.find((other) => other.version === version.parent);
    const known = new Set(parent?.labels ?? []);
    return version.labels.filter((label) => !known.has(label));
  }

  #trouble(of) {
    if (this.#problem?.of !== of) return null;
    const note = h("p", { class: "message", role: "alert" });
    tell(note, this.#problem.text, true);
    return note;
  }

  async #try(of, work) {
    this.#problem = null;
    try {
      await work();
    } catch (problem) {
      this.#problem = { of, text: problem.message };
    }
    this.#draw();
    await this.world.refresh();
  }
}

const listed = (labels) =>
  labels.slice(0, NAMED).join(", ") + (labels.length > NAMED ? ` and ${labels.length - NAMED} more` : "");
