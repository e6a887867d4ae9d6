// One layer up close: its query's way, and step by step what it recalled and how far that moved.

import { byId, h, percent } from "./dom.js";
import { scaleFor, way } from "./way.js";

const SIZE = { width: 360, height: 190, margin: 28 };
const NAMED = 3;

export class CloseUp {
  constructor(world) {
    this.world = world;
  }

  clear() {
    byId("closeup").hidden = true;
  }

  show(layer) {
    byId("closeup").hidden = false;
    byId("closeup").replaceChildren(
      h("figcaption", {}, h("b", {}, `Layer ${layer.layer} up close`),
        h("span", { class: "note" }, "Choose another by its number.")),
      h("div", { class: "way large" }, way(layer, scaleFor([layer], SIZE), SIZE, true)),
      h("div", { class: "scroll" },
        h("table", { class: "steps" },
          h("thead", {}, h("tr", {},
            ...["Step", "Recalled most", "Moved", "Cosine"].map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", {}, ...layer.steps.map((mixed, step) => this.#step(layer, mixed, step))))));
  }

  #step({ moved, cosines }, mixed, step) {
    return h("tr", {}, h("th", { scope: "row" }, String(step + 1)),
      h("td", {}, h("ul", {}, ...mixed.slice(0, NAMED).map(({ slot, task, weight }) =>
        h("li", {}, h("span", { class: "swatch", "--colour": this.world.colourOf(task, slot) }),
          `${this.world.nameOf(task)} `, h("span", { class: "note" }, `slot ${slot}, ${percent(weight)}`))))),
      // |v_t - v_t-1|, what epsilon is compared with; the first step has nothing to move from.
      h("td", {}, step ? moved[step].toPrecision(2) : "–"),
      h("td", {}, cosines[step].toFixed(2)));
  }
}
