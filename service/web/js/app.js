// Puts the page together.

import { Ask } from "./ask.js";
import { Classes } from "./classes.js";
import { Correct } from "./correct.js";
import { byId, count } from "./dom.js";
import { showKept } from "./kept.js";
import { Recall } from "./recall.js";
import { Speed } from "./speed.js";
import { Tasks } from "./tasks.js";
import { Teach } from "./teach.js";
import { Canary } from "./canary.js";
import { Versions } from "./versions.js";
import { World } from "./world.js";

const world = new World();
const teach = new Teach(world);
const ask = new Ask(world, (image) => teach.correct(image));

new Correct(world, ask);
new Recall(world, ask);
new Speed(ask);
new Classes(world);
new Tasks(world);
new Canary(world);
new Versions(world);
world.addEventListener("change", () => showKept(world));
world.addEventListener("change", showStatus);
world.addEventListener("lost", (event) => {
  byId("status").textContent = event.detail;
  byId("status").dataset.state = "lost";
});
// A file dropped beside a target must not replace the page.
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
world.start();

function showStatus() {
  const { serving } = world;
  const classes = serving ? count(serving.label_count, "class", "classes") : "nothing learned yet";
  byId("status").textContent = serving ? `version ${serving.version}, ${classes}` : classes;
  byId("status").dataset.state = serving ? "ready" : "empty";
}
