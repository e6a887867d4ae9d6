// The API reference, drawn from the server's own OpenAPI document.

import { byId, h, tell } from "./dom.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

let schemas = {};

function show(document_) {
  schemas = document_.components?.schemas ?? {};
  byId("about").replaceChildren(...prose(document_.info.description ?? ""));
  const groups = Map.groupBy(calls(document_.paths), ({ tag }) => tag);
  byId("tags").replaceChildren(...[...groups.keys()].map((tag) => h("a", { href: `#${tag}` }, tag)));
  byId("calls").replaceChildren(
    ...[...groups].map(([tag, group]) =>
      h("section", { id: tag, "aria-labelledby": `${tag}-title` },
        h("h2", { id: `${tag}-title` }, tag), ...group.map(drawn))));
  if (location.hash) byId(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

function calls(paths) {
  return Object.entries(paths).flatMap(([path, item]) =>
    METHODS.filter((method) => method in item).map((method) => {
      const operation = item[method];
      return { method, path, tag: operation.tags?.[0] ?? "other", operation };
    }));
}

function drawn({ method, path, operation }) {
  const { summary, description, parameters = [], requestBody, responses } = operation;
  return h("details", { class: "card call" },
    h("summary", {}, h("span", { class: `method ${method}` }, method.toUpperCase()), h("code", {}, path),
      h("span", { class: "note" }, summary ?? "")),
    h("div", {},
      description ? h("p", {}, ...prose(description)) : null,
      h("pre", {}, curl(method, path, requestBody)),
      parameters.length ? part("Parameters", table(parameters.map(parameter))) : null,
      requestBody ? part("Body", requestBody.description ? h("p", { class: "note" }, ...prose(requestBody.description)) : null,
        table(Object.entries(requestBody.content).map(([kind, { schema }]) => [kind, typed(schema)]))) : null,
      part("Answers", table(Object.entries(responses).map(answer)))));
}

const part = (title, ...content) => h("div", {}, h("h3", {}, title), ...content);

const table = (rows) =>
  h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, ...rows.map(([name, ...cells]) =>
    h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)), ...cells.map((cell) => h("td", {}, ...[cell].flat())))))));

function parameter({ name, in: place, required, schema, description }) {
  return [name, [`${place}${required ? ", required" : ""}`], typed(schema), prose(description ?? schema?.description ?? "")];
}

function answer([status, { description, content }]) {
  const { schema, example } = Object.values(content ?? {})[0] ?? {};
  return [status, [...prose(description ?? ""), example ? shown(example) : null], schema ? typed(schema) : ""];
}

const shown = (example) => h("details", {}, h("summary", {}, "example"),
  h("pre", {}, typeof example === "string" ? example : JSON.stringify(example, null, 2)));

/** A schema in words; what has parts can be opened. */
function typed(schema, depth = 0) {
  if (schema?.anyOf?.some(({ $ref }) => $ref)) return h("div", {}, ...schema.anyOf.map((one) => typed(one, depth)));
  const found = resolve(schema);
  const parts = (found.items ? resolve(found.items) : found).properties;
  if (!parts || depth > 3) return word(schema);
  const rows = Object.entries(parts).map(([name, inner]) =>
    [name, typed(inner, depth + 1), prose(inner.description ?? "")]);
  return h("details", {}, h("summary", {}, word(schema)), table(rows));
}

const resolve = (schema) => (schema?.$ref ? schemas[schema.$ref.split("/").at(-1)] ?? {} : schema ?? {});

function word(schema) {
  if (schema?.$ref) return schema.$ref.split("/").at(-1);
  const { type, format, items, anyOf, enum: values, minimum, maximum, pattern } = schema ?? {};
  if (anyOf) return anyOf.map(word).join(" or ");
  if (values) return values.join(", ");
  if (type === "array") return `list of ${word(items)}`;
  const range = minimum !== undefined || maximum !== undefined ? ` ${minimum ?? ""}..${maximum ?? ""}` : "";
  return [type === "null" ? "null" : format ?? type ?? "anything", range, pattern ? ` ${pattern}` : ""].join("");
}

function curl(method, path, body) {
  const kinds = Object.keys(body?.content ?? {});
  const data = kinds.includes("image/jpeg") ? " -H 'Content-Type: image/jpeg' --data-binary @image.jpg"
    : kinds.includes("multipart/form-data") ? " -F files=@image.jpg -F labels=rose"
    : kinds.includes("application/json") ? " -H 'Content-Type: application/json' -d '{…}'" : "";
  const verb = method === "get" || data ? "" : ` -X ${method.toUpperCase()}`;
  return `curl${verb}${data} '${new URL(path.slice(1), location.href.replace(/[^/]*$/, "")).href.replaceAll("%7B", "{").replaceAll("%7D", "}")}'`;
}

/** Text with `code` in it. */
function prose(text) {
  return text.split(/(`[^`]+`)/).map((piece) => (piece.startsWith("`") ? h("code", {}, piece.slice(1, -1)) : piece));
}

try {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  show(await response.json());
  tell(byId("message"), "");
} catch (problem) {
  tell(byId("message"), problem.message, true);
}
