// What it knows: the classes of the version that answers, to be looked for, renamed, merged and forgotten.

import { forgetLabel, labels, renameLabel } from "./api.js";
import { byId, count, debounce, h, tell } from "./dom.js";
import { listed, Listing } from "./listing.js";
import { hasEnded } from "./world.js";

const [SHOWN, MORE] = [20, 100]; // at first, and with every click on more
const MOST = 10_000; // the server lists no more at once
const QUIET_MS = 150;
const NAMED = 2;

export class Classes {
  #found = { count: 0, labels: [] };
  #limit = SHOWN;
  #asked = null; // what was asked for last
  #changing = null; // {label, how}: the class that is about to be changed
  #drawn = "";

  constructor(world) {
    this.world = world;
    this.listing = new Listing("known", world, (known) => this.#class(known), Infinity);
    byId("classes-find").addEventListener("input", debounce(QUIET_MS, () => {
      this.#limit = SHOWN;
      this.#look();
    }));
    byId("classes-more").addEventListener("click", () => {
      this.#limit = Math.min(MOST, this.#found.labels.length + MORE);
      this.#look();
    });
    world.addEventListener("change", () => this.#look());
  }

  /** What is on show is asked for again only once something else would be answered. */
  async #look() {
    const version = this.world.serving?.version ?? null;
    const query = { contains: byId("classes-find").value.trim(), limit: this.#limit };
    const asked = JSON.stringify([version, query]);
    if (asked !== this.#asked) {
      this.#asked = asked;
      try {
        const found = version === null ? { count: 0, labels: [] } : await labels({ ...query, version });
        if (asked !== this.#asked) return; // something else was asked for since
        this.#found = found;
      } catch (problem) {
        if (asked !== this.#asked) return;
        this.#asked = null; // again with the next change
        tell(byId("classes-message"), problem.message, true);
      }
    }
    this.#draw();
  }

  #draw() {
    const { labels: shown, count: all } = this.#found;
    const wanted = byId("classes-find").value.trim();
    byId("classes-bar").hidden = !this.world.serving;
    byId("classes-count").textContent = count(all, "class", "classes");
    byId("classes-more").hidden = shown.length === all || shown.length === MOST;
    byId("classes-more").textContent = `Show ${Math.min(MORE, all - shown.length)} more`;
    if (!shown.some(({ label }) => label === this.#changing?.label)) this.#changing = null;
    const { form: _, ...changing } = this.#changing ?? {};
    const drawn = JSON.stringify([shown, wanted, changing, [...this.#orders()], this.world.tasks.map(({ name }) => name)]);
    if (drawn === this.#drawn) return; // nobody is disturbed while they type
    this.#drawn = drawn;
    this.listing.draw(shown, wanted ? `No class has “${wanted}” in its name.` : "Nothing is known yet.");
  }

  /** Orders that wait or are being carried out, by the label that each changes. */
  #orders() {
    const open = this.world.tasks.filter((task) => task.change && !hasEnded(task));
    return new Map(open.map(({ change }) => [change.label, change]));
  }

  #change(changing) {
    this.#changing = changing;
    tell(byId("classes-message"), "");
    this.#draw();
  }

  #class(known) {
    const { label, images, tasks } = known;
    const order = this.#orders().get(label);
    const taught = (tasks ?? []).map((id) => this.world.nameOf(id));
    const facts = [images === null ? null : count(images, "image"), listed(taught, { most: NAMED })].filter(Boolean);
    return h("li", {},
      h("div", { class: "row" }, h("b", { class: "name", title: label }, label), order ? waiting(order) : this.#choices(label)),
      facts.length ? h("p", { class: "note", title: taught.join(", ") }, facts.join(" · ")) : null,
      this.#changing?.label === label && !order ? this.#asking(known) : null,
      this.listing.trouble(label));
  }

  #choices(label) {
    if (this.#changing?.label === label) return null;
    const button = (words, how) =>
      this.listing.button(label, words, how, { class: "quiet", "aria-label": `${words} class ${label}` });
    return h("span", { class: "choices" },
      button("Rename", () => this.#edit(label)), button("Forget", () => this.#change({ label, how: "forget" })));
  }

  #asking({ label }) {
    const { how, form, becomes, told } = this.#changing;
    if (how === "rename") return form;
    if (how === "merge") {
      return this.#confirm(label, told, ["Merge them", () => this.#order(renameLabel(label, becomes))], "Keep both");
    }
    return this.#confirm(label, "What was learned of it goes; all other classes stay as they are. Only going back to an "
      + "older version, or teaching it again, brings it back.", ["Forget it", () => this.#order(forgetLabel(label))], "Keep it");
  }

  #confirm(label, told, [yes, work], no) {
    const button = (words, does, kind) =>
      this.listing.button(label, words, does, { class: kind, "aria-label": `${words} class ${label}` });
    return h("div", { class: "choices" }, h("span", { class: "note" }, told), button(yes, work, "danger"),
      button(no, () => this.#change(null), "quiet"));
  }

  /** A form instead of the buttons. It is made once, so that what was typed outlives a redraw. */
  #edit(label) {
    const known = (words) => ({ "data-key": `${words} ${label}`, "data-of": label });
    const input = h("input", { type: "text", value: label, required: true, maxlength: 200, autocomplete: "off",
      list: "known-labels",
      "aria-label": `New name of ${label}`, ...known("name") });
    const close = () => {
      this.#change(null);
      byId("known").querySelector(`[data-key="${CSS.escape(`Rename ${label}`)}"]`)?.focus();
    };
    const form = h("form", {
      class: "renaming",
      onsubmit: (event) => {
        event.preventDefault();
        this.listing.attempt(label, () => this.#rename(label, input.value));
      },
      onkeydown: (event) => event.key === "Escape" && close(),
    }, input, h("button", { type: "submit", ...known("Save") }, "Rename"),
      h("button", { type: "button", class: "quiet", onclick: close, ...known("Cancel") }, "Cancel"));
    this.#change({ label, how: "rename", form });
    input.select();
  }

  /** A name that another class has makes one of the two, which is asked for first. */
  async #rename(label, typed) {
    const becomes = typed.trim().normalize("NFC");
    if (becomes === label) return this.#change(null);
    const known = await labels({ contains: becomes, limit: MOST });
    if (!known.labels.some((other) => other.label === becomes)) return this.#order(renameLabel(label, becomes));
    const told = `“${becomes}” is known already. The two become one class; only going back takes them apart.`;
    return this.#change({ label, how: "merge", becomes, told });
  }

  async #order(sent) {
    const { name } = await sent;
    this.#change(null);
    tell(byId("classes-message"), `Ordered: ${name}. Its progress is below.`);
  }
}

function waiting({ becomes }) {
  const words = becomes === null ? "to be forgotten" : `to be called ${becomes}`;
  return h("span", { class: "state learning", title: words }, words);
}
