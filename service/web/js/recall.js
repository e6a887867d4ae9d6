// How it remembered: the same image with one step and with as many as the budget allows, side by side.

import { classify } from "./api.js";
import { byId, debounce, h, percent, svg } from "./dom.js";

const QUIET_MS = 150;
const MOST_NAMED = 12;
const WAY = { width: 96, height: 36, margin: 5 };

export class Recall {
  #pending = null;
  #explain = debounce(QUIET_MS, (asked) => this.#run(asked));

  constructor(world, ask) {
    this.world = world;
    this.ask = ask;
    this.#say("Ask about an image above to see which memories answered.");
    ask.addEventListener("answer", (event) => this.#explain(event.detail));
  }

  #say(text) {
    byId("recall").replaceChildren(h("p", { class: "message" }, text));
    byId("recall-legend").replaceChildren();
  }

  async #run({ image, budget }) {
    this.#pending?.abort();
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
    this.#legend(many.trace);
  }

  #panel(answer, tmax, withPaths) {
    const steps = Array.from({ length: tmax }, (_, step) => step);
    const scale = scaleFor(answer.trace);
    const best = answer.predictions[0];
    const head = h("tr", {}, h("th", { scope: "col" }, "Layer"),
      ...steps.map((step) => h("th", { scope: "col" }, h("span", { class: "word" }, "Step "), String(step + 1))),
      withPaths ? h("th", { scope: "col", class: "way" }, "Query’s way") : null);
    const rows = answer.trace.map((layer) =>
      h("tr", {}, h("th", { scope: "row" }, String(layer.layer)),
        ...steps.map((step) => this.#cell(layer, step)),
        withPaths ? h("td", { class: "way", title: "The queries on a plane, and the last one’s cosine with the first" },
          way(layer, scale), h("span", { class: "note" }, layer.cosines.at(-1).toFixed(2))) : null));
    return h("figure", { class: "card" },
      h("figcaption", {}, h("span", { class: "tag" }, `tmax ${tmax}`),
        h("span", {}, "says ", h("b", {}, best.label), ` ${percent(best.score)}`)),
      h("table", { class: "heat" }, h("thead", {}, head), h("tbody", {}, ...rows)));
  }

  #cell(layer, step) {
    const mixed = layer.steps[step];
    if (!mixed) return h("td", {}, h("span", { class: "mix stopped", title: "Stopped before this step" }, ""));
    const shares = [...shareOf(mixed)];
    const told = mixed
      .map(({ slot, task, weight }) => `slot ${slot} of ${this.world.nameOf(task)} ${percent(weight)}`)
      .join("\n");
    const spoken = shares.map(([task, share]) => `${this.world.nameOf(task)} ${percent(share)}`).join(", ");
    return h("td", {},
      h("span", { class: "mix", role: "img", "aria-label": spoken, title: told },
        ...shares.map(([task, share]) =>
          h("span", { "--share": share, "--colour": this.world.colourOf(task) },
            share > 0.32 ? String(Math.round(100 * share)) : ""))));
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

/** Pixels a unit of the plane, so that the longest way fits and all of them compare. */
function scaleFor(trace) {
  const most = (axis) => Math.max(...trace.map(({ path }) => span(path, axis)), 1e-6);
  return Math.min((WAY.width - 2 * WAY.margin) / most(0), (WAY.height - 2 * WAY.margin) / most(1));
}

const span = (path, axis) => Math.max(...path.map((at) => at[axis])) - Math.min(...path.map((at) => at[axis]));

/** The queries of one layer on their plane: the first hollow, the last large. */
function way({ path, cosines, layer }, scale) {
  const left = Math.min(...path.map(([x]) => x)) + span(path, 0) / 2;
  const low = Math.min(...path.map(([, y]) => y)) + span(path, 1) / 2;
  const points = path.map(([x, y]) => [WAY.width / 2 + (x - left) * scale, WAY.height / 2 - (y - low) * scale]);
  const told = `Layer ${layer}: cosine with the first query ${cosines.map((value) => value.toFixed(2)).join(", ")}`;
  return svg("svg", { viewBox: `0 0 ${WAY.width} ${WAY.height}`, role: "img", "aria-label": told },
    svg("title", {}, told),
    svg("polyline", { points: points.map((point) => point.join()).join(" ") }),
    ...points.map(([cx, cy], step) =>
      svg("circle", { cx, cy, r: step === points.length - 1 ? 4 : 2.6, class: step === 0 ? "first" : null })));
}
