// An image in, predictions and the time they took out; every move of a slider asks again.

import { classify } from "./api.js";
import { byId, count, debounce, h, milliseconds, percent, tell } from "./dom.js";
import { dropped, isImage, readable, takesDrops } from "./images.js";

const KNOWS_NOTHING = "It knows nothing yet. Teach it below, and it answers seconds later.";
const STRANGE = 0.01; // one in a hundred images of known classes looks stranger
const QUIET_MS = 60;
const TINY_PX = 64; // enlarged so much, pixels say more than a blur
const SHARES = [["read", "read"], ["decode", "decode"], ["queue", "wait"], ["compute", "compute"]];

/** Tells "image" when there is another, then "answer" ({image, budget, answer, ms}), or "unanswered" for none. */
export class Ask extends EventTarget {
  image = null;
  #pending = null;
  #touched = new Set();
  #reached = false;
  #version = undefined; // the one asked last, null when there was none
  #sliders = ["tmax", "epsilon", "topk", "keep"].map(byId);
  #time = byId("budget_ms");
  #ask = debounce(QUIET_MS, () => this.#classify());

  constructor(world, onCorrect) {
    super();
    this.world = world;
    for (const slider of this.#sliders) {
      slider.addEventListener("input", () => {
        this.#touched.add(slider.id);
        this.#write(slider);
        this.#ask();
      });
    }
    this.#time.addEventListener("input", () => this.#time.checkValidity() && this.#ask());
    byId("budget-reset").addEventListener("click", () => {
      this.#touched.clear();
      this.#time.value = "";
      this.#limit();
      this.#ask();
    });
    byId("ask-correct").addEventListener("click", () => onCorrect(this.image));
    byId("ask-file").addEventListener("change", (event) => this.#take([...event.target.files]));
    takesDrops(byId("ask-drop"), async (transfer) => this.#take((await dropped(transfer)).map(({ file }) => file)));
    document.addEventListener("paste", (event) => this.#take([...event.clipboardData.files]));
    world.addEventListener("change", () => this.#follow());
    for (const slider of this.#sliders) this.#write(slider);
  }

  /** The budget as set, in the words of the API. */
  get budget() {
    const budget = Object.fromEntries(this.#sliders.map((slider) => [slider.id, slider.value]));
    const hurried = this.#time.value && this.#time.checkValidity();
    return hurried ? { ...budget, budget_ms: this.#time.value } : budget;
  }

  /** Let the epsilon slider reach the largest move a step was seen to make. */
  reach(moved) {
    const slider = byId("epsilon");
    const digits = 10 ** Math.floor(Math.log10(moved || 1));
    const most = Math.ceil(moved / digits) * digits;
    if (this.#reached && most <= Number(slider.max)) return;
    this.#reached = true;
    slider.max = most;
    slider.step = most / 100;
    this.#write(slider);
  }

  #follow() {
    const { serving } = this.world;
    const version = serving?.version ?? null;
    this.#limit();
    if (version === this.#version) return;
    this.#version = version;
    if (this.image) this.#ask();
    else if (!serving) tell(byId("ask-message"), KNOWS_NOTHING);
    else tell(byId("ask-message"), `It knows ${count(serving.label_count, "class", "classes")}. Show it something.`);
  }

  #limit() {
    const { budget } = this.world.versions;
    if (!budget) return;
    byId("tmax").max = budget.tmax;
    byId("topk").max = budget.topk;
    byId("keep").min = budget.least_keep;
    for (const slider of this.#sliders) {
      if (!this.#touched.has(slider.id)) slider.value = budget[`default_${slider.id}`];
      this.#write(slider);
    }
  }

  #write(slider) {
    const value = Number(slider.value);
    const words = { epsilon: value ? value.toPrecision(2) : "off", keep: percent(value) };
    byId(`${slider.id}-value`).textContent = words[slider.id] ?? String(value);
  }

  async #take(files) {
    if (!files.length) return;
    const file = files.find(isImage) ?? files[0];
    try {
      const image = await readable(file);
      (await createImageBitmap(image)).close();
      this.image = image;
    } catch {
      tell(byId("ask-message"), `${file.name} is no image that this browser can read.`, true);
      return;
    }
    const shown = byId("ask-image");
    URL.revokeObjectURL(shown.src);
    shown.src = URL.createObjectURL(this.image);
    shown.onload = () => shown.classList.toggle("tiny", shown.naturalWidth < TINY_PX);
    shown.hidden = false;
    byId("ask-hint").hidden = true;
    byId("ask-correct").hidden = false;
    this.dispatchEvent(new Event("image"));
    this.#classify();
  }

  async #classify() {
    if (!this.image) return;
    this.#pending?.abort();
    const { signal } = (this.#pending = new AbortController());
    const { image, budget } = this;
    try {
      const { answer, ms } = await classify(image, budget, { signal });
      const strange = answer.familiarity !== null && answer.familiarity < STRANGE;
      tell(byId("ask-message"), strange ? "It looks like nothing it was taught." : "");
      this.#show(answer, ms);
      this.dispatchEvent(new CustomEvent("answer", { detail: { image, budget, answer, ms } }));
    } catch (problem) {
      if (problem.name === "AbortError") return;
      byId("ask-bars").replaceChildren();
      byId("ask-time").hidden = true;
      const empty = problem.status === 409 && !this.world.serving;
      tell(byId("ask-message"), empty ? KNOWS_NOTHING : problem.message, !empty);
      this.dispatchEvent(new Event("unanswered"));
    }
  }

  #show(answer, ms) {
    byId("ask-bars").replaceChildren(...answer.predictions.map(bar));
    const spent = SHARES.map(([stage, name]) => [name, answer.timings_ms[stage]]);
    const rest = ms - spent.reduce((sum, [, each]) => sum + each, 0);
    spent.push(["network", Math.max(0, rest)]);
    const steps = answer.steps.reduce((sum, each) => sum + each, 0);
    const kept = answer.budget.keep < 1 ? `, ${percent(answer.budget.keep)} of the tokens kept` : "";
    byId("ask-time").hidden = false;
    byId("ask-time").replaceChildren(
      h("p", {}, h("b", {}, milliseconds(ms)), " ms there and back, ", `${steps} steps in ${answer.steps.length} layers${kept}, by v${answer.version}`),
      h("div", { class: "shares", "aria-hidden": "true" },
        ...spent.map(([name, each]) => h("span", { class: name, "--share": each / ms }))),
      h("ul", { class: "legend", "aria-label": "Where the time went" },
        ...spent.map(([name, each]) => h("li", {}, h("i", { class: name }), `${name} ${milliseconds(each)}`))),
    );
  }
}

function bar({ label, score }) {
  return h("li", {}, h("span", { class: "label" }, label), h("span", { class: "score" }, percent(score)),
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { "--share": score })));
}
