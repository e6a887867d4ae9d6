// What the server has: tasks and versions, kept up to date and told to whoever shows them.

import { follow, json } from "./api.js";

const POLL_MS = 3000;
const MOST_STREAMS = 2; // a browser opens six connections to a host; the others are for asking
const [DARKEST, LIGHTEST] = [-0.08, 0.16]; // shades on which the text stays readable
const ENDED = new Set(["consolidated", "failed", "cancelled", "forgotten"]);

export const hasEnded = (task) => ENDED.has(task.state);

/** Tells "change" when tasks or versions did, and "lost" when the server cannot be reached. */
export class World extends EventTarget {
  tasks = []; // newest first
  versions = { current: null, serving: null, budget: null, versions: [], refused: [] };
  #streams = new Map();
  #seen = "";

  start() {
    this.refresh();
    setInterval(() => document.hidden || this.refresh(), POLL_MS);
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  async refresh() {
    try {
      const [listed, versions] = await Promise.all([json("tasks?limit=200"), json("versions?labels=false")]);
      const seen = JSON.stringify([listed, versions]);
      if (seen === this.#seen) return;
      this.#seen = seen;
      this.tasks = listed.tasks;
      this.versions = versions;
      this.#followUnfinished();
      this.dispatchEvent(new Event("change"));
    } catch (problem) {
      this.#seen = "";
      this.dispatchEvent(new CustomEvent("lost", { detail: problem.message }));
    }
  }

  /** The version that answers, null before anything was learned. */
  get serving() {
    return this.versions.versions.find((version) => version.serving) ?? null;
  }

  /** What people call a task. */
  nameOf(id) {
    return this.tasks.find((task) => task.id === id)?.name ?? `task ${id.slice(0, 8)}`;
  }

  /** A colour for a task, the same for as long as it lives: hues a golden angle apart; shades of it for its slots. */
  colourOf(id, slot = null) {
    const known = this.serving ? [...this.serving.consolidated, ...this.serving.fast] : [];
    const hue = (262 + Math.max(0, known.indexOf(id)) * 137.5) % 360;
    const shade = slot === null ? 0 : DARKEST + (LIGHTEST - DARKEST) * ((slot * 0.618) % 1);
    return `oklch(calc(var(--task-light) + ${shade.toFixed(3)}) var(--task-chroma) ${hue})`;
  }

  #followUnfinished() {
    for (const [id, stream] of this.#streams) {
      const task = this.tasks.find((other) => other.id === id);
      if (stream.closed || !task || hasEnded(task)) this.#stop(id);
    }
    const oldestFirst = this.tasks.filter((task) => !hasEnded(task)).reverse();
    for (const task of oldestFirst) {
      if (this.#streams.size >= MOST_STREAMS) return;
      if (!this.#streams.has(task.id)) this.#streams.set(task.id, follow(task.id, (news) => this.#learn(news)));
    }
  }

  #learn(news) {
    const place = this.tasks.findIndex((task) => task.id === news.id);
    if (place < 0 || this.tasks[place].updated_at > news.updated_at) return;
    const before = this.tasks[place];
    this.tasks[place] = news;
    this.dispatchEvent(new Event("change"));
    if (hasEnded(news)) this.#stop(news.id);
    if (hasEnded(news) || news.version !== before.version) this.refresh();
  }

  #stop(id) {
    this.#streams.get(id)?.close();
    this.#streams.delete(id);
  }
}
