// The HTTP API, as far as the page needs it. Addresses are relative, so that it works behind a path prefix.

import { anotherKey, authorization, currentKey } from "./key.js";

const RECONNECT_MS = 2000;

/** An answer other than success, in the words of its problem document. */
class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function call(path, options = {}) {
  for (;;) {
    const key = currentKey();
    let response;
    try {
      response = await fetch(path, { ...options, headers: { ...options.headers, ...authorization(key) } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "The server cannot be reached.");
    }
    if (response.ok) return response;
    if (response.status !== 401) throw new Problem(response.status, detailOf(await response.text(), response.status));
    await anotherKey(key);
  }
}

function detailOf(text, status) {
  try {
    return JSON.parse(text).detail ?? `The server answered ${status}.`;
  } catch {
    return `The server answered ${status}.`;
  }
}

export const json = async (path, options) => (await call(path, options)).json();

export const metricsText = async () => (await call("metrics")).text();

/** Ask about one image (a Blob in a format the server reads). Answers {answer, ms}: the round trip as seen here. */
export async function classify(image, budget, { explain = false, signal } = {}) {
  const query = new URLSearchParams(budget);
  if (explain) query.set("explain", "true");
  const began = performance.now();
  const headers = { "Content-Type": image.type };
  const answer = await json(`classify?${query}`, { method: "POST", body: image, headers, signal });
  return { answer, ms: performance.now() - began };
}

/** Hand in labelled images [{file, label}]. */
export async function submit(samples, name, idempotencyKey, onProgress) {
  for (;;) {
    const key = currentKey();
    const { status, responseText } = await send(samples, name, { "Idempotency-Key": idempotencyKey, ...authorization(key) },
      onProgress);
    if (status === 202) return JSON.parse(responseText);
    if (status !== 401) throw new Problem(status, detailOf(responseText, status));
    await anotherKey(key);
  }
}

/** fetch cannot tell how much was sent, hence the older interface. */
function send(samples, name, headers, onProgress) {
  const form = new FormData();
  for (const { file } of samples) form.append("files", file, file.name || "image");
  for (const { label } of samples) form.append("labels", label);
  const request = new XMLHttpRequest();
  request.open("POST", name ? `tasks?${new URLSearchParams({ name })}` : "tasks");
  for (const [header, value] of Object.entries(headers)) request.setRequestHeader(header, value);
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) onProgress(event.loaded / event.total);
  });
  return new Promise((resolve, reject) => {
    request.addEventListener("load", () => resolve(request));
    request.addEventListener("error", () => reject(new Problem(0, "The server cannot be reached.")));
    request.send(form);
  });
}

/** Say what the image of an answer really shows. */
export const correct = (id, label) =>
  json("feedback", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ id, label }) });

/** Cancel what is queued, forget what was learned. */
export const remove = (id) => json(`tasks/${encodeURIComponent(id)}`, { method: "DELETE" });

export const retry = (id) => json(`tasks/${encodeURIComponent(id)}/retry`, { method: "POST" });

/** Classes of a version, sorted: {version, count, labels: [{label, images, tasks}]}. query: contains, limit, version. */
export const labels = (query) => json(`labels?${new URLSearchParams(query)}`);

/** Have a class called otherwise, or merged with the one that is called so already. Answers the order, a task. */
export const renameLabel = (label, becomes) =>
  json(pathOf(label), { method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ label: becomes }) });

/** Have a class forgotten. Answers the order, a task. */
export const forgetLabel = (label) => json(pathOf(label), { method: "DELETE" });

/** A blank, which the server trims, behind what would be no name in a path but a way. */
const pathOf = (label) => `labels/${encodeURIComponent(label)}${[".", ".."].includes(label) ? "%20" : ""}`;

/** Answer with a version; with a share it is the canary for that share of the requests, and 0 ends that. */
export const activate = (version, share = null) =>
  json(`versions/${version}/activate${share === null ? "" : `?canary=${share}`}`, { method: "POST" });

/** Follow a task until it has ended. Answers the open stream. */
export const follow = (id, onTask) => new TaskStream(`tasks/${encodeURIComponent(id)}/events`, onTask);

/** Server-sent events by fetch, since an EventSource cannot send a key. Connects again as one would. */
class TaskStream {
  closed = false;
  #abort = new AbortController();
  #last = null; // id of the last event

  constructor(path, onTask) {
    this.#run(path, onTask);
  }

  close() {
    this.closed = true;
    this.#abort.abort();
  }

  async #run(path, onTask) {
    while (!this.closed) {
      try {
        await this.#read(path, onTask);
      } catch (problem) {
        if (problem.status) this.close();
      }
      await new Promise((resume) => setTimeout(resume, RECONNECT_MS));
    }
  }

  async #read(path, onTask) {
    const headers = this.#last ? { "Last-Event-ID": this.#last } : {};
    const response = await call(path, { headers, signal: this.#abort.signal });
    if (response.status === 204) return this.close(); // all is told
    let text = "";
    for await (const piece of pieces(response.body.pipeThrough(new TextDecoderStream()))) {
      const events = (text + piece).replaceAll("\r\n", "\n").split("\n\n");
      text = events.pop();
      for (const event of events) this.#tell(event, onTask);
    }
  }

  #tell(event, onTask) {
    const fields = Object.fromEntries(event.split("\n").map((line) => line.split(/: ?(.*)/s)));
    if (fields.id) this.#last = fields.id;
    if (fields.event === "task" && !this.closed) onTask(JSON.parse(fields.data));
  }
}

/** What a stream gives, in browsers too that cannot iterate over one. */
async function* pieces(stream) {
  const reader = stream.getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
}
