// How it remembered: the same image with one step and with as many as the budget allows, side by side.

import { classify } from "./api.js";
import { CloseUp } from "./closeup.js";
import { byId, count, debounce, h, percent } from "./dom.js";
import { scaleFor, way } from "./way.js";

const NOTHING = "Ask about an image above to see which memories answered.";
const QUIET_MS = 150;
const MOST_NAMED = 12;
const ANSWERS = 3;
const [VISIBLE, NUMBERED] = [0.01, 0.22]; // weights that have room for a stripe, and for a number on it
const SIZE = { width: 96, height: 36, margin: 5 };

export class Recall {
  #pending = null;
  #explain = debounce(QUIET_MS, (asked) => this.#run(asked));
  #layer = null; // the one looked at closely

  constructor(world, ask) {
    this.world = world;
    this.ask = ask;
    this.closeUp = new CloseUp(world);
    this.#say(NOTHING);
    ask.addEventListener("answer", (event) => this.#explain(event.detail));
    ask.addEventListener("unanswered", () => this.#explain(null));
  }

  #say(text) {
    byId("recall").replaceChildren(h("p", { class: "message" }, text));
    byId("recall-legend").replaceChildren();
    byId("recall-difference").textContent = "";
    this.closeUp.clear();
  }

  async #run(asked) {
    this.#pending?.abort();
    if (!asked) {
      this.#say(NOTHING);
      return;
    }
    const { image, budget: { budget_ms: _, ...set }, answer } = asked;
    const budget = { ...set, keep: answer.budget.keep }; // as granted: two passes of different detail compare nothing
    const { signal } = (this.#pending = new AbortController());
    const deep = Number(budget.tmax) > 1 ? budget.tmax : (this.world.versions.budget?.tmax ?? budget.tmax);
    try {
      const [one, many] = await Promise.all(
        [1, deep].map((tmax) => classify(image, { ...budget, tmax }, { explain: true, signal })),
      );
      this.#show(one.answer, many.answer, Number(deep));
    } catch (problem) {
      if (problem.name !== "AbortError") this.#say(problem.message);
    }
  }

  #show(one, many, deep) {
    if (!many.trace.length) {
      this.#say("What it knows sits in the head so far: its memory has no slots until the first task is consolidated.");
      return;
    }
    this.ask.reach(Math.max(...many.trace.flatMap((layer) => layer.moved)));
    byId("recall").replaceChildren(this.#panel(one, 1, false), this.#panel(many, deep, true));
    byId("recall-difference").textContent = difference(one, many);
    this.#legend(many.trace);
    const seen = many.trace.some(({ layer }) => layer === this.#layer);
    if (!seen) this.#layer = many.trace.reduce((most, layer) => (turned(layer) > turned(most) ? layer : most)).layer;
    this.#lookAt(this.#layer, many.trace);
  }

  #lookAt(layer, trace) {
    this.#layer = layer;
    for (const button of byId("recall").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.textContent) === layer));
    }
    this.closeUp.show(trace.find((other) => other.layer === layer));
  }

  #panel(answer, tmax, withPaths) {
    const steps = Array.from({ length: tmax }, (_, step) => step);
    const scale = scaleFor(answer.trace, SIZE);
    const head = h("tr", {}, h("th", { scope: "col" }, "Layer"),
      ...steps.map((step) => h("th", { scope: "col" }, h("span", { class: "word" }, "Step "), String(step + 1))),
      withPaths ? h("th", { scope: "col", class: "way" }, "Query’s way", h("span", { class: "word" }, ", cosine")) : null);
    const rows = answer.trace.map((layer) =>
      h("tr", {}, h("th", { scope: "row" }, withPaths ? this.#chooser(layer, answer.trace) : String(layer.layer)),
        ...steps.map((step) => this.#cell(layer, step)),
        withPaths ? h("td", { class: "way", title: "The queries on a plane, and the last one’s cosine with the first" },
          way(layer, scale, SIZE), h("span", { class: "note" }, layer.cosines.at(-1).toFixed(2))) : null));
    return h("figure", { class: "card" },
      h("figcaption", {}, h("span", { class: "tag" }, `tmax ${tmax}`),
        h("ol", { class: "says", "aria-label": `Best answers with tmax ${tmax}` },
          ...answer.predictions.slice(0, ANSWERS).map(({ label, score }) =>
            h("li", { title: label }, h("b", {}, label), ` ${percent(score)}`)))),
      h("table", { class: "heat" }, h("thead", {}, head), h("tbody", {}, ...rows)));
  }

  #chooser({ layer }, trace) {
    return h("button", { type: "button", class: "choose", "aria-label": `Layer ${layer} up close`,
      onclick: () => this.#lookAt(layer, trace) }, String(layer));
  }

  #cell(layer, step) {
    const mixed = layer.steps[step];
    if (!mixed) return h("td", {}, h("span", { class: "mix stopped", title: "Stopped before this step" }, ""));
    const shares = [...shareOf(mixed)];
    const told = mixed
      .map(({ slot, task, weight }) => `slot ${slot} of ${this.world.nameOf(task)} ${percent(weight)}`)
      .join("\n");
    const spoken = shares.map(([task, share]) => `${this.world.nameOf(task)} ${percent(share)}`).join(", ");
    const seen = mixed.filter(({ weight }) => weight > VISIBLE);
    const inOrder = seen.toSorted((a, b) => a.slot - b.slot); // each slot at its place in every step
    return h("td", {},
      h("span", { class: "mix", role: "img", "aria-label": spoken, title: told },
        ...inOrder.map(({ slot, task, weight }) =>
          h("span", { "--share": weight, "--colour": this.world.colourOf(task, slot) },
            weight > NUMBERED ? String(slot) : ""))));
  }

  #legend(trace) {
    const steps = trace.flatMap((layer) => layer.steps);
    const all = [...shareOf(steps.flat())].slice(0, MOST_NAMED);
    byId("recall-legend").replaceChildren(
      ...all.map(([task, weight]) =>
        h("li", {}, h("i", { "--colour": this.world.colourOf(task) }), this.world.nameOf(task),
          h("span", { class: "note" }, percent(weight / steps.length)))));
  }
}

/** Weight by task, largest first. */
function shareOf(mixed) {
  const shares = new Map();
  for (const { task, weight } of mixed) shares.set(task, (shares.get(task) ?? 0) + weight);
  return new Map([...shares].sort(([, a], [, b]) => b - a));
}

/** Share of the weight that the last step of a layer puts on other slots than its first: 0..1. */
function turned({ steps }) {
  const first = new Map(steps[0].map(({ slot, weight }) => [slot, weight]));
  const kept = steps.at(-1).reduce((sum, { slot, weight }) => sum + Math.min(weight, first.get(slot) ?? 0), 0);
  return 1 - kept;
}

/** What more steps did, in a sentence. */
function difference(one, many) {
  const [before, after] = [one.predictions[0], many.predictions[0]];
  const change = many.trace.reduce((sum, layer) => sum + turned(layer), 0) / many.trace.length;
  const steps = count(Math.max(...many.steps), "step");
  const same = before.label === after.label;
  const told = same
    ? `With ${steps} instead of 1 it still says ${after.label}, ${percent(before.score)} before and ${percent(after.score)} now.`
    : `With ${steps} instead of 1 it changes its mind from ${before.label} to ${after.label}.`;
  return `${told} By the last step ${percent(change)} of the weight has moved to other slots.`;
}
