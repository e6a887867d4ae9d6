// The time line of versions, with the way back.

import { activate } from "./api.js";
import { clock, count, h, percent } from "./dom.js";
import { listed, Listing } from "./listing.js";

const FIRST_SHARE = 0.1;

export class Versions {
  constructor(world) {
    this.world = world;
    this.listing = new Listing("versions", world, (version) => this.#version(version));
    world.addEventListener("change", () => this.listing.draw(world.versions.versions, "No version yet."));
  }

  #version(version) {
    const { version: number, new_labels: news, new_label_count: of } = version;
    const refused = this.world.versions.refused.find((refusal) => refusal.version === number);
    const canary = this.world.versions.canary?.version === number ? this.world.versions.canary : null;
    const choices = version.serving || canary ? [] : this.#choices(version, refused);
    const facts = [count(version.label_count, "class", "classes"), count(version.slots, "slot")];
    if ("accuracy" in version.metrics) facts.push(`accuracy ${percent(version.metrics.accuracy)}`);
    if ("forgetting" in version.metrics) facts.push(`forgetting ${percent(version.metrics.forgetting)}`);
    return h("li", { class: `version ${version.kind}`, value: number, "aria-current": version.serving ? "true" : null },
      h("div", { class: "row" },
        h("b", {}, `v${number}`),
        h("span", { class: "state" }, version.kind),
        h("time", { class: "note" }, clock(version.created_at)),
        canary ? h("span", { class: "state" }, `canary, ${percent(canary.share)}`) : null,
        version.serving ? h("span", { class: "state serving" }, "answering") : null,
        choices.length ? h("span", { class: "choices" }, ...choices) : null),
      h("p", { class: "note" }, facts.join(" · ")),
      of ? h("p", { class: "news clamped", title: listed(news, { most: of, of }) }, `new: ${listed(news, { of })}`) : null,
      refused ? h("p", { class: "message error" }, refused.reason) : null,
      this.listing.trouble(number));
  }

  #choices({ version, current }, refused) {
    const loading = current && !refused;
    const words = loading ? "Loading…" : version < this.world.versions.serving ? "Roll back" : "Use this";
    const use = this.listing.button(version, words, () => activate(version), {
      "data-key": String(version), "aria-label": `Answer with version ${version}`, disabled: loading,
    });
    const canary = this.listing.button(version, "Canary", () => activate(version, FIRST_SHARE), {
      class: "quiet", "aria-label": `Canary: try version ${version} on ${percent(FIRST_SHARE)} of the requests`,
    });
    return loading ? [use] : [canary, use];
  }
}
