// The HTTP API, as far as the page needs it. Addresses are relative, so that it works behind a path prefix.

/** An answer other than success, in the words of its problem document. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server cannot be reached.");
  }
  if (response.ok) return response;
  throw new Problem(response.status, detailOf(await response.text(), response.status));
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

/** Hand in labelled images [{file, label}]. fetch cannot tell how much was sent, hence the older interface. */
export function submit(samples, name, key, onProgress) {
  const form = new FormData();
  for (const { file } of samples) form.append("files", file, file.name || "image");
  for (const { label } of samples) form.append("labels", label);
  const request = new XMLHttpRequest();
  request.open("POST", name ? `tasks?${new URLSearchParams({ name })}` : "tasks");
  request.setRequestHeader("Idempotency-Key", key);
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) onProgress(event.loaded / event.total);
  });
  return new Promise((resolve, reject) => {
    request.addEventListener("load", () => {
      const { status, responseText } = request;
      if (status === 202) resolve(JSON.parse(responseText));
      else reject(new Problem(status, detailOf(responseText, status)));
    });
    request.addEventListener("error", () => reject(new Problem(0, "The server cannot be reached.")));
    request.send(form);
  });
}

/** Cancel what is queued, forget what was learned. */
export const remove = (id) => json(`tasks/${encodeURIComponent(id)}`, { method: "DELETE" });

export const retry = (id) => json(`tasks/${encodeURIComponent(id)}/retry`, { method: "POST" });

export const activate = (version) => json(`versions/${version}/activate`, { method: "POST" });

/** Follow a task until it has ended. Answers the open stream. */
export function follow(id, onTask) {
  const stream = new EventSource(`tasks/${encodeURIComponent(id)}/events`);
  stream.addEventListener("task", (event) => onTask(JSON.parse(event.data)));
  return stream;
}
