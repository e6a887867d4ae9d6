// A list that is redrawn as the world changes: the newest first, more on demand, a problem beside what it concerns.

import { byId, h, tell } from "./dom.js";

const SHOWN = 8;
const NAMED = 8;

export class Listing {
  #all = false;
  #problem = null; // {of: key of the item it concerns, text}

  /** row: item -> element. most: how many are shown before somebody wants all. */
  constructor(id, world, row, most = SHOWN) {
    Object.assign(this, { list: byId(id), world, row, most, items: [], empty: "" });
  }

  draw(items = this.items, empty = this.empty) {
    Object.assign(this, { items, empty });
    const { key, of } = this.list.contains(document.activeElement) ? document.activeElement.dataset : {};
    const shown = this.#all ? items : items.slice(0, this.most);
    const more = () => {
      this.#all = true;
      this.draw();
    };
    this.list.replaceChildren(
      ...shown.map(this.row),
      ...(items.length ? [] : [h("li", { class: "message" }, empty)]),
      ...(shown.length < items.length
        ? [h("li", {}, h("button", { type: "button", class: "quiet", "data-key": "more", onclick: more },
          `Show ${items.length - shown.length} older`))]
        : []),
    );
    if (!key) return;
    // Redrawn while somebody is on a button: they stay there, or with its item; after "Forget" on "Keep it".
    const buttons = [...this.list.querySelectorAll("[data-key]")];
    const same = buttons.find((one) => one.dataset.key === key);
    (same ?? buttons.findLast((one) => one.dataset.of === of))?.focus();
  }

  /** A button that does `work` about the item `of`. */
  button(of, words, work, properties = {}) {
    const known = { "data-key": `${words} ${of}`, "data-of": of };
    return h("button", { type: "button", ...known, onclick: () => this.attempt(of, work), ...properties }, words);
  }

  trouble(of) {
    if (this.#problem?.of !== of) return null;
    const note = h("p", { class: "message", role: "alert" });
    tell(note, this.#problem.text, true);
    return note;
  }

  /** Do `work` about the item `of`, and show beside it what goes wrong. */
  async attempt(of, work) {
    this.#problem = null;
    try {
      await work();
    } catch (problem) {
      this.#problem = { of, text: problem.message };
    }
    this.draw();
    await this.world.refresh();
  }
}

/** The first of some labels. most: how many to name; of: how many there are, where these are not all. */
export function listed(labels, { most = NAMED, of = labels.length } = {}) {
  const named = labels.slice(0, most);
  return named.join(", ") + (of > named.length ? ` and ${of - named.length} more` : "");
}
