// A layer's queries on the plane that keeps most of their way.

import { svg } from "./dom.js";

/** Pixels a unit of the plane, so that the longest way of all these layers fits and they compare. */
export function scaleFor(layers, { width, height, margin }) {
  const most = (axis) => Math.max(...layers.map(({ path }) => span(path, axis)), 1e-6);
  return Math.min((width - 2 * margin) / most(0), (height - 2 * margin) / most(1));
}

const span = (path, axis) => Math.max(...path.map((at) => at[axis])) - Math.min(...path.map((at) => at[axis]));

/** The first query hollow, the last large; numbered where there is room. */
export function way({ path, cosines, layer }, scale, { width, height }, numbered = false) {
  const left = Math.min(...path.map(([x]) => x)) + span(path, 0) / 2;
  const low = Math.min(...path.map(([, y]) => y)) + span(path, 1) / 2;
  const points = path.map(([x, y]) => [width / 2 + (x - left) * scale, height / 2 - (y - low) * scale]);
  const told = `Layer ${layer}: cosine with the first query ${cosines.map((value) => value.toFixed(2)).join(", ")}`;
  const size = numbered ? 2 : 1;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told },
    svg("title", {}, told),
    svg("polyline", { points: points.map((point) => point.join()).join(" ") }),
    ...points.map(([cx, cy], step) =>
      svg("circle", { cx, cy, r: size * (step === points.length - 1 ? 4 : 2.6), class: step === 0 ? "first" : null })),
    ...(numbered ? points.map(([x, y], step) => svg("text", { x, y: y - 12 }, String(step + 1))) : []));
}
