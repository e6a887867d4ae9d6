// The right label for the answer on show: the server still has its features, the image need not be sent again.

import { correct } from "./api.js";
import { byId, h, tell } from "./dom.js";

export class Correct {
  #id = null; // of the answer

  constructor(world, ask) {
    this.world = world;
    ask.addEventListener("answer", (event) => this.#offer(event.detail.answer));
    ask.addEventListener("image", () => tell(byId("correct-message"), ""));
    world.addEventListener("change", () => this.#know());
    byId("correct").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(byId("correct-label").value.trim());
    });
  }

  #offer({ id }) {
    this.#id = id;
    byId("correct").hidden = false;
  }

  #know() {
    const labels = this.world.serving?.labels ?? [];
    byId("known-labels").replaceChildren(...labels.map((label) => h("option", { value: label })));
  }

  async #send(label) {
    try {
      await correct(this.#id, label);
      byId("correct-label").value = "";
      tell(byId("correct-message"), `Noted as “${label}”. It asks again once that is learned.`);
      this.world.refresh();
    } catch (problem) {
      tell(byId("correct-message"), problem.message, true);
    }
  }
}
