// Latency as this page sees it, throughput as the server counts it.

import { classify, metricsText } from "./api.js";
import { byId, h, milliseconds, svg } from "./dom.js";
import { samples } from "./metrics.js";

const POLL_MS = 2000;
const KEPT = 100;
const RUNS = 100;
const AT_ONCE = 4;

export class Speed {
  #latencies = []; // ms, newest last
  #rates = []; // answers a second
  #last = null; // {at, buckets, count}

  constructor(ask) {
    this.ask = ask;
    this.latency = new Chart("Latency", "ms there and back, by request");
    this.throughput = new Chart("Throughput", "answers a second, by the server’s count");
    this.tail = h("p", { class: "note" }, "The server’s own percentiles come with the next requests.");
    byId("charts").append(this.latency.element, this.throughput.element, h("div", { class: "tail" }, this.tail));
    ask.addEventListener("answer", (event) => {
      byId("speed-run").disabled = false;
      this.#note(event.detail.ms);
    });
    byId("speed-run").addEventListener("click", () => this.#run());
    let visible = false;
    new IntersectionObserver(([entry]) => (visible = entry.isIntersecting)).observe(byId("speed"));
    setInterval(() => visible && !document.hidden && this.#poll(), POLL_MS);
  }

  #note(ms) {
    this.#latencies = [...this.#latencies, ms].slice(-KEPT);
    const sorted = [...this.#latencies].sort((a, b) => a - b);
    const [half, most] = [0.5, 0.95].map((share) => milliseconds(sorted[Math.floor(share * (sorted.length - 1))]));
    this.latency.draw(this.#latencies, `${milliseconds(ms)} ms`, `half within ${half} ms, 95 % within ${most} ms`);
  }

  async #poll() {
    let now;
    try {
      now = readHistogram(await metricsText());
    } catch {
      return; // the status line says so already
    }
    const before = this.#last;
    this.#last = now;
    if (!before || now.count < before.count) return;
    const rate = ((now.count - before.count) * 1000) / (now.at - before.at);
    this.#rates = [...this.#rates, rate].slice(-KEPT);
    this.throughput.draw(this.#rates, `${rate.toFixed(1)} / s`, `${now.count.toLocaleString("en")} answers so far`);
    if (now.count === before.count) return;
    const [half, most] = [0.5, 0.95].map((share) => milliseconds(1000 * quantile(before, now, share)));
    this.tail.textContent = `Inside the server, lately: half within ${half} ms, 95 % within ${most} ms.`;
  }

  async #run() {
    const button = byId("speed-run");
    const { image, budget } = this.ask;
    button.disabled = true;
    let left = RUNS;
    const worker = async () => {
      while (left-- > 0) this.#note((await classify(image, budget)).ms);
    };
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, worker));
    } catch (problem) {
      left = 0;
      this.tail.textContent = problem.message;
    }
    button.disabled = false;
    this.#poll();
  }
}

/** A sparkline with its newest value in words. */
class Chart {
  constructor(title, unit) {
    this.value = h("b", {}, "–");
    this.note = h("p", { class: "note" }, "Nothing yet.");
    this.line = svg("polyline", { class: "line" });
    this.area = svg("polygon", { class: "area" });
    this.top = h("span", { class: "note" });
    this.element = h("figure", { class: "card chart" },
      h("figcaption", {}, h("span", {}, title, h("small", {}, unit)), this.value),
      svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" }, this.area, this.line),
      h("div", { class: "row" }, this.note, this.top));
  }

  draw(values, newest, note) {
    const most = Math.max(...values, 1e-9) * 1.08;
    const step = 100 / Math.max(1, values.length - 1);
    const points = values.map((value, place) => `${(place * step).toFixed(2)},${(40 - (40 * value) / most).toFixed(2)}`);
    if (points.length === 1) points.push(points[0].replace(/^0\.00/, "100"));
    this.line.setAttribute("points", points.join(" "));
    this.area.setAttribute("points", ["0,40", ...points, "100,40"].join(" "));
    this.value.textContent = newest;
    this.note.textContent = note;
    this.top.textContent = `peak ${milliseconds(Math.max(...values))}`;
  }
}

/** Successful requests to /classify: {at: ms, count, buckets: Map of upper bound in s to how many lay below}. */
function readHistogram(text) {
  const ours = { route: "/classify", code: "200" };
  const bounds = samples(text, "hippotune_request_duration_seconds_bucket", ours);
  const buckets = new Map(bounds.map(({ labels: { le }, value }) => [le === "+Inf" ? Infinity : Number(le), value]));
  const [counted] = samples(text, "hippotune_request_duration_seconds_count", ours);
  return { at: performance.now(), count: counted?.value ?? 0, buckets };
}

/** Seconds within which a share of the requests between two readings lay: linear inside a bucket. */
function quantile(before, now, share) {
  const wanted = share * (now.count - before.count);
  let [below, lower] = [0, 0];
  for (const [bound, value] of now.buckets) {
    const here = value - (before.buckets.get(bound) ?? 0);
    if (here >= wanted) {
      if (bound === Infinity) return lower;
      return lower + ((bound - lower) * (wanted - below)) / Math.max(1, here - below);
    }
    [below, lower] = [here, bound];
  }
  return lower;
}
