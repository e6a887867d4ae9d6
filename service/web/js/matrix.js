// Accuracy on held-out images: a row a consolidated version, a column a task.

import { byId, h, percent } from "./dom.js";

const OF_A_TASK = "accuracy.";

export function showMatrix(world) {
  const measured = world.versions.versions
    .filter((version) => Object.keys(version.metrics).some((name) => name.startsWith(OF_A_TASK)))
    .reverse();
  byId("accuracy").hidden = !measured.length;
  if (!measured.length) return;
  const newest = measured.at(-1);
  const tasks = newest.consolidated.filter((id) => measured.some((version) => OF_A_TASK + id in version.metrics));
  const head = h("tr", {}, h("th", { scope: "col" }, "Version"),
    ...tasks.map((id) => h("th", { scope: "col", title: world.nameOf(id) },
      h("span", { class: "swatch", "--colour": world.colourOf(id) }), world.nameOf(id))),
    h("th", { scope: "col" }, "Average"), h("th", { scope: "col" }, "Forgetting"));
  const rows = measured.map(({ version, metrics }) =>
    h("tr", {}, h("th", { scope: "row" }, `v${version}`),
      ...tasks.map((id) => cell(metrics[OF_A_TASK + id])),
      h("td", { class: "sum" }, told(metrics.accuracy)), h("td", { class: "sum" }, told(metrics.forgetting))));
  byId("matrix").replaceChildren(h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows)));
}

const told = (share) => (share === undefined ? "" : percent(share));

function cell(share) {
  if (share === undefined) return h("td", {});
  return h("td", {}, h("span", { class: "level", "--share": share }, percent(share)));
}
