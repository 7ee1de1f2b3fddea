// JSON schemas as people read them: type names, field tables, examples.

import { code, el, inline } from "./dom.js";

const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Follow a `$ref` into the document. */
export function resolve(document_, schema) {
  if (!schema?.$ref) return schema ?? {};
  const path = schema.$ref.replace(/^#\//, "").split("/");
  return path.reduce((place, key) => place[key], document_);
}

/** Say what a value may be, in a few words. */
export function typeName(document_, schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map((each) => typeName(document_, each)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" or ");
  if (schema.type === "array") return `list of ${typeName(document_, schema.items ?? {})}`;
  return [schema.type ?? "anything", formatOf(schema), boundsOf(schema)].filter(Boolean).join(", ");
}

function formatOf(schema) {
  return { "date-time": "RFC 3339 time", uuid: "UUID" }[schema.format] ?? schema.format;
}

function boundsOf(schema) {
  const { minimum, maximum, maxLength } = schema;
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`;
  if (minimum !== undefined) return `at least ${minimum}`;
  if (maximum !== undefined) return `at most ${maximum}`;
  return maxLength === undefined ? "" : `at most ${maxLength} characters`;
}

/** Return an example: the schema's own, or one put together of its fields'. */
export function exampleOf(document_, schema) {
  const own = resolve(document_, schema);
  if (own.examples?.length) return inOrder(own, own.examples[0]);
  if (own.const !== undefined) return own.const;
  if (own.default !== undefined) return own.default;
  if (own.enum) return own.enum[0];
  const choices = own.anyOf ?? own.oneOf;
  if (choices) return exampleOf(document_, choices[0]);
  if (own.type === "array") return [exampleOf(document_, own.items ?? {})];
  if (own.properties) {
    const fields = Object.entries(own.properties);
    return Object.fromEntries(fields.map(([name, field]) => [name, exampleOf(document_, field)]));
  }
  return { string: "…", integer: 1, number: 1.5, boolean: true }[own.type] ?? null;
}

// The document has lost the order of an example's fields, and those that are null.
function inOrder(schema, example) {
  if (!schema.properties) return example;
  const names = Object.keys(schema.properties);
  return Object.fromEntries(names.map((name) => [name, example[name] ?? null]));
}

/** Show a JSON value, coloured. */
export function jsonExample(value, label) {
  const text = JSON.stringify(value, null, 2);
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    const kind = match[2] ? "key" : match[1] ? "string" : "literal";
    const token = match[1] ?? match[0];
    parts.push(text.slice(end, match.index), el("span", { class: kind }, token));
    end = match.index + token.length;
  }
  return code([...parts, text.slice(end)], text, label);
}

/** Make a table of rows of name, type, note and description. */
export function fieldTable(rows, caption) {
  const head = ["Name", "Type", "Meaning"].map((title) => el("th", { scope: "col" }, title));
  const body = rows.map(({ name, type, note, description }) =>
    el(
      "tr",
      null,
      el("th", { scope: "row" }, name, note ? el("span", { class: "required" }, ` ${note}`) : null),
      el("td", { class: "type" }, type),
      el("td", null, inline(description ?? "")),
    ),
  );
  const table = el(
    "table",
    { class: "fields", "aria-label": caption },
    el("thead", null, el("tr", null, head)),
    el("tbody", null, body),
  );
  return el("div", { class: "scroll" }, table);
}

/** List the fields of an object schema, those of objects in it after them. */
export function schemaFields(document_, schema, seen = new Set()) {
  const own = resolve(document_, schema);
  if (own.type === "array") return schemaFields(document_, own.items, seen);
  if (!own.properties || seen.has(own)) return [];
  seen.add(own);
  const rows = Object.entries(own.properties).map(([name, field]) => ({
    name,
    type: typeName(document_, field),
    description: field.description ?? "",
  }));
  const inner = Object.values(own.properties).flatMap((field) =>
    [field, ...(field.anyOf ?? [])].flatMap((each) => schemaFields(document_, each, seen)),
  );
  return [{ title: own.title, description: own.description, rows }, ...inner];
}
