// What it kept: accuracy on held-out images, a row a consolidated version, a column a task; and both sums over time.

import { byId, count, h, percent, svg } from "./dom.js";

const OF_A_TASK = "accuracy.";
const PLOT = { width: 320, height: 160, left: 42, right: 8, top: 8, bottom: 22 };

export function showKept(world) {
  const measured = world.versions.versions
    .filter((version) => Object.keys(version.metrics).some((name) => name.startsWith(OF_A_TASK)))
    .reverse();
  byId("accuracy").hidden = !measured.length;
  if (!measured.length) return;
  const box = byId("matrix");
  const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
  box.replaceChildren(matrix(world, measured));
  if (atEnd) box.scrollTop = box.scrollHeight; // the newest row, unless somebody is reading older ones
  byId("curve").replaceChildren(curve(measured), legend(measured.at(-1)));
}

function matrix(world, measured) {
  const newest = measured.at(-1);
  const tasks = newest.consolidated.filter((id) => measured.some((version) => OF_A_TASK + id in version.metrics));
  const head = h("tr", {}, h("th", { scope: "col" }, "Version"),
    h("th", { scope: "col" }, "Average"), h("th", { scope: "col" }, "Forgetting"),
    ...tasks.map((id) => h("th", { scope: "col", title: world.nameOf(id) },
      h("span", { class: "swatch", "--colour": world.colourOf(id) }), world.nameOf(id))));
  const rows = measured.map(({ version, metrics }) =>
    h("tr", {}, h("th", { scope: "row" }, `v${version}`),
      h("td", { class: "sum" }, told(metrics.accuracy)), h("td", { class: "sum" }, told(metrics.forgetting)),
      ...tasks.map((id) => cell(metrics[OF_A_TASK + id]))));
  return h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows));
}

const told = (share) => (share === undefined ? "" : percent(share));

function cell(share) {
  if (share === undefined) return h("td", {});
  return h("td", {}, h("span", { class: "level", "--share": share }, percent(share)));
}

function curve(measured) {
  const { width, height, left, right, top, bottom } = PLOT;
  const x = (place) => left + ((width - left - right) * place) / Math.max(1, measured.length - 1);
  const y = (share) => top + (height - top - bottom) * (1 - share);
  const line = (name, kind) => {
    const points = measured.map(({ metrics }, place) => [x(place), y(metrics[name] ?? 0)]);
    return [
      svg("polyline", { class: kind, points: points.map((point) => point.join()).join(" ") }),
      svg("circle", { class: kind, cx: points.at(-1)[0], cy: points.at(-1)[1], r: 3.5 }),
    ];
  };
  const newest = measured.at(-1);
  const spoken = `After version ${newest.version}: average accuracy ${told(newest.metrics.accuracy)}, `
    + `forgetting ${told(newest.metrics.forgetting)}${basis(newest)}`;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spoken },
    svg("title", {}, spoken),
    ...[0, 0.5, 1].flatMap((share) => [
      svg("line", { x1: left, x2: width - right, y1: y(share), y2: y(share) }),
      svg("text", { x: left - 6, y: y(share) + 4, class: "level-name" }, percent(share)),
    ]),
    svg("text", { x: left, y: height - 4 }, `v${measured[0].version}`),
    measured.length > 1 ? svg("text", { x: width - right, y: height - 4, class: "end" }, `v${newest.version}`) : null,
    ...line("accuracy", "accuracy"), ...line("forgetting", "forgetting"));
}

const legend = (newest) =>
  h("ul", { class: "legend" }, h("li", {}, h("i", { class: "accuracy" }), `average accuracy${basis(newest)}`),
    h("li", {}, h("i", { class: "forgetting" }), "forgetting: mean fall from each task’s best"));

/** What the figures of a version rest on: few images tell little. */
function basis({ metrics }) {
  return "held_out_images" in metrics ? `, on ${count(metrics.held_out_images, "held-out image")}` : "";
}
