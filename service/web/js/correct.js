// The right label for the answer on show: the server still has its features, the image need not be sent again, unless
// it was asked within a budget of its own, whose features teach nothing.

import { classify, correct, json } from "./api.js";
import { byId, h, tell } from "./dom.js";

export class Correct {
  #id = null; // of the answer
  #image = null;
  #known = null; // version whose labels are offered

  constructor(world, ask) {
    this.world = world;
    ask.addEventListener("answer", (event) => this.#offer(event.detail));
    ask.addEventListener("image", () => tell(byId("correct-message"), ""));
    // Else the label meant for the image on show would go to the one answered before.
    for (const kind of ["image", "unanswered"]) ask.addEventListener(kind, () => (byId("correct").hidden = true));
    world.addEventListener("change", () => this.#know());
    byId("correct").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(byId("correct-label").value.trim());
    });
  }

  #offer({ answer, image }) {
    this.#id = answer.id;
    this.#image = image;
    byId("correct").hidden = false;
  }

  /** Offers the labels of the version that answers. There may be thousands, so they are asked for once. */
  async #know() {
    const version = this.world.serving?.version ?? null;
    if (version === this.#known) return;
    this.#known = version;
    try {
      const { labels } = version === null ? { labels: [] } : await json(`versions/${version}`);
      if (version !== this.#known) return; // another one answers since
      byId("known-labels").replaceChildren(...labels.map((label) => h("option", { value: label })));
    } catch {
      if (version === this.#known) this.#known = null; // again with the next change
    }
  }

  async #send(label) {
    try {
      await this.#correct(label);
      byId("correct").reset(); // emptied by hand, the field would be marked as left out
      tell(byId("correct-message"), `Noted as “${label}”. It asks again once that is learned.`);
      this.world.refresh();
    } catch (problem) {
      tell(byId("correct-message"), problem.message, true);
    }
  }

  async #correct(label) {
    const [id, image] = [this.#id, this.#image]; // another answer may come meanwhile
    try {
      await correct(id, label);
    } catch (problem) {
      if (problem.status !== 422) throw problem;
      const { answer } = await classify(image, {}, { explain: true }); // in full, whatever the runtime
      await correct(answer.id, label);
    }
  }
}
