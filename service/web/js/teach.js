// Folders and images become labelled groups, groups become a task.

import { submit } from "./api.js";
import { byId, count, h, percent, tell } from "./dom.js";
import { chosen, dropped, isImage, readable, takesDrops } from "./images.js";

const SHOWN = 5;

export class Teach {
  #groups = []; // {label, files}
  #key = "";
  #sending = false;

  constructor(world) {
    this.world = world;
    for (const kind of ["folder", "images"]) {
      const input = byId(`teach-${kind}`);
      byId(`teach-${kind}-button`).addEventListener("click", () => input.click());
      input.addEventListener("change", () => {
        this.#add(chosen(input.files));
        input.value = "";
      });
    }
    takesDrops(byId("teach-drop"), async (transfer) => this.#add(await dropped(transfer)));
    byId("teach-clear").addEventListener("click", () => this.#clear());
    byId("teach-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** Take one image whose label is still to be typed. */
  correct(image) {
    this.#add([{ file: image, folder: "" }]);
    byId("teach").scrollIntoView();
    byId("teach-groups").querySelector("li:last-child input").focus();
  }

  #add(found) {
    const images = found.filter(({ file }) => isImage(file) && !file.name.startsWith("."));
    const left = found.length - images.length;
    tell(byId("teach-message"), left ? `${count(left, "file")} left out: no images.` : "", Boolean(left));
    const byLabel = Map.groupBy(images, ({ folder }) => folder);
    for (const [label, items] of byLabel) {
      const files = items.map(({ file }) => file);
      const known = label && this.#groups.find((group) => group.label === label);
      if (known) known.files.push(...files);
      else this.#groups.push({ label, files });
    }
    this.#draw();
  }

  #clear() {
    this.#groups = [];
    byId("teach-name").value = "";
    this.#draw();
  }

  #draw() {
    this.#key = randomKey();
    const list = byId("teach-groups");
    for (const image of list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    list.replaceChildren(...this.#groups.map((group) => this.#row(group)));
    byId("teach-form").hidden = !this.#groups.length;
    this.#ready();
  }

  #row(group) {
    const label = h("input", {
      type: "text", value: group.label, required: true, maxlength: 200, placeholder: "label", autocomplete: "off",
      "aria-label": `Label of ${count(group.files.length, "image")}`,
      oninput: () => {
        group.label = label.value;
        this.#key = randomKey();
        this.#ready();
      },
    });
    const remove = () => {
      this.#groups = this.#groups.filter((other) => other !== group);
      this.#draw();
    };
    return h("li", {},
      label,
      h("span", { class: "thumbs", "aria-hidden": "true" },
        ...group.files.slice(0, SHOWN).map((file) => h("img", { src: URL.createObjectURL(file), alt: "" }))),
      h("span", { class: "note" }, count(group.files.length, "image")),
      h("button", { type: "button", class: "quiet", "aria-label": `Leave out ${group.label || "these images"}`,
        onclick: remove }, "✕"));
  }

  #ready() {
    const images = this.#groups.reduce((sum, group) => sum + group.files.length, 0);
    byId("teach-submit").disabled = this.#sending || this.#groups.some((group) => !group.label.trim());
    byId("teach-submit").textContent = `Teach ${count(images, "image")}`;
  }

  async #submit() {
    const message = byId("teach-message");
    const sent = this.#groups.map((group) => ({ group, label: group.label.trim(), files: [...group.files] }));
    this.#sending = true;
    this.#ready();
    try {
      const samples = await samplesOf(sent);
      const told = (share) => tell(message, share < 1 ? `Sending ${percent(share)}` : "Checking every image…");
      const task = await submit(samples, byId("teach-name").value.trim(), this.#key, told);
      tell(message, `“${task.name}” is handed in and safe. Its progress is below.`);
      this.#leaveOut(sent);
      this.world.refresh();
    } catch (problem) {
      tell(message, problem.message, true); // the same key goes with the next try, so that nothing is taught twice
    } finally {
      this.#sending = false;
      this.#ready();
    }
  }

  /** What was added while these were sent stays for the next task. */
  #leaveOut(sent) {
    for (const { group, files } of sent) group.files.splice(0, files.length);
    this.#groups = this.#groups.filter(({ files }) => files.length);
    byId("teach-name").value = "";
    this.#draw();
  }
}

async function samplesOf(groups) {
  const samples = [];
  for (const { label, files } of groups) {
    for (const file of files) {
      try {
        samples.push({ file: await readable(file), label });
      } catch {
        throw new Error(`${file.name} is no image that this browser can read.`);
      }
    }
  }
  return samples;
}

/** crypto.randomUUID is missing on pages that come over plain HTTP from another machine. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
