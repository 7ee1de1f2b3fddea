// Draws /api/openapi.json: what there is, how to ask for it, what comes back, what can go wrong.

import { code, el, inline, prose } from "./dom.js";
import { exampleOf, fieldTable, jsonExample, resolve, schemaFields, typeName } from "./schema.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

function operationsOf(api) {
  return Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, ...item[method] })),
  );
}

function groupByTag(operations) {
  const groups = new Map();
  for (const operation of operations) {
    const tag = operation.tags?.[0] ?? "Other";
    groups.set(tag, [...(groups.get(tag) ?? []), operation]);
  }
  return groups;
}

function drawIntroduction(api) {
  return el(
    "section",
    { class: "card", id: "introduction" },
    el("p", { class: "lead" }, api.info.summary ?? ""),
    prose(api.info.description ?? ""),
    el("div", { class: "prose" }, el("p", null, "For programs: ", el("a", { href: "/api/openapi.json" }, "openapi.json"), ".")),
  );
}

function drawParameters(api, operation) {
  const rows = (operation.parameters ?? []).map((each) => ({
    name: each.name,
    note: each.required ? "required" : null,
    type: [typeName(api, each.schema), defaultOf(each.schema)].filter(Boolean).join(", "),
    description: each.description ?? each.schema.description,
  }));
  return rows.length ? block("Parameters", fieldTable(rows, "Parameters")) : null;
}

function defaultOf(schema) {
  return schema.default === undefined || schema.default === null ? "" : `default ${schema.default}`;
}

function drawRequestBody(api, operation) {
  const schema = operation.requestBody?.content?.["application/json"]?.schema;
  if (!schema) return null;
  const tables = schemaFields(api, schema).map(({ title, rows }) => fieldTable(rows, title));
  return block("Body", jsonExample(exampleOf(api, schema), "Example of a body"), ...tables);
}

function drawCurl(api, operation) {
  const lines = [`curl ${location.origin}${operation.path}`];
  if (operation.method !== "get") lines[0] += ` --request ${operation.method.toUpperCase()}`;
  if (operation.security?.length) lines.push(`--header "Authorization: Bearer sk-metrion-…"`);
  const schema = operation.requestBody?.content?.["application/json"]?.schema;
  if (schema) lines.push(`--json '${JSON.stringify(exampleOf(api, schema))}'`);
  const text = lines.join(" \\\n  ");
  return block("Request", code([text], text, "Example of a request"));
}

function drawAnswer(api, operation) {
  const [status, answer] = Object.entries(operation.responses).find(([each]) => each < 400) ?? [];
  const schema = answer?.content?.["application/json"]?.schema;
  const title = [el("span", { class: "badge ok" }, status), " Answer"];
  if (!schema) return block(title, el("p", null, inline(answer?.description ?? "")));
  const fields = schemaFields(api, schema);
  const tables = fields.map((each) =>
    el(
      "details",
      { open: "" },
      el("summary", null, `Fields of ${each.title}`),
      each.description ? prose(each.description) : null,
      fieldTable(each.rows, `Fields of ${each.title}`),
    ),
  );
  return block(title, jsonExample(exampleOf(api, schema), "Example of an answer"), ...tables);
}

function drawErrors(api, operation) {
  const kinds = new Map((api["x-problems"] ?? []).map((each) => [each.kind, each]));
  const errors = Object.entries(operation.responses).filter(([status]) => status >= 400);
  if (!errors.length) return null;
  const rows = errors.map(([status, { description }]) => {
    const named = [...description.matchAll(/`([^`]+)`/g)].map((match) => match[1]);
    const links = named
      .filter((kind) => kinds.has(kind))
      .map((kind) => el("a", { href: `#problem-${kind}` }, kinds.get(kind).title));
    return el(
      "div",
      null,
      el("dt", null, el("span", { class: "badge error" }, status)),
      el("dd", null, links.length ? links : inline(description)),
    );
  });
  return block("Errors", el("dl", { class: "errors" }, rows));
}

function block(title, ...children) {
  return el("div", { class: "block" }, el("h4", null, title), ...children);
}

function drawOperation(api, operation) {
  const access = operation.security?.length ? "Metrion Key" : "no token needed";
  return el(
    "article",
    { class: "card operation", id: operation.operationId },
    el("h3", null, operation.summary),
    el(
      "div",
      { class: "path" },
      el("span", { class: `badge ${operation.method}` }, operation.method.toUpperCase()),
      el("code", null, operation.path),
      el("span", { class: "badge plain" }, access),
    ),
    operation.description ? prose(operation.description) : null,
    drawParameters(api, operation),
    drawRequestBody(api, operation),
    drawCurl(api, operation),
    drawAnswer(api, operation),
    drawErrors(api, operation),
  );
}

function drawProblems(api) {
  const problem = api.components?.schemas?.Problem;
  const cards = (api["x-problems"] ?? []).map(({ kind, status, title, hint }) =>
    el(
      "article",
      { class: "card problem", id: `problem-${kind}` },
      el(
        "h3",
        null,
        el("span", { class: "badge error" }, String(status)),
        title,
        el("code", null, kind),
      ),
      el("p", null, inline(hint)),
    ),
  );
  const shape = problem
    ? el(
        "div",
        { class: "card operation" },
        prose(
          "Every error is an `application/problem+json` document. Its `type` ends in one of the names below; that is what a program should look at.",
        ),
        jsonExample(exampleOf(api, problem), "Example of a problem"),
        fieldTable(schemaFields(api, problem)[0].rows, "Fields of a problem"),
      )
    : null;
  return el("section", { id: "problems" }, el("h2", null, "Errors"), shape, cards);
}

function drawContents(groups) {
  const link = (id, text) => el("a", { class: "nav", href: `#${id}` }, text);
  const lists = [...groups].flatMap(([tag, operations]) => [
    el("h2", null, tag),
    ...operations.map((each) => link(each.operationId, each.summary)),
  ]);
  return [link("introduction", "Introduction"), ...lists, el("h2", null, "When it fails"), link("problems", "Errors")];
}

async function draw() {
  const response = await fetch("/api/openapi.json");
  if (!response.ok) throw new Error(`openapi.json: ${response.status}`);
  const api = await response.json();
  const groups = groupByTag(operationsOf(api));
  const sections = [...groups].map(([tag, operations]) =>
    el("section", null, el("h2", null, tag), operations.map((each) => drawOperation(api, each))),
  );
  document.querySelector(".head h1").append(" ", el("span", { class: "version" }, api.info.version));
  document.querySelector(".side").append(...drawContents(groups));
  document.querySelector("main").replaceChildren(drawIntroduction(api), ...sections, drawProblems(api));
  // The place that the address names exists only now.
  if (location.hash) location.replace(location.hash);
}

try {
  await draw();
} catch (error) {
  const sentence = `The description of the API could not be loaded (${error.message}). Load the page again.`;
  document.querySelector("main").replaceChildren(el("p", { class: "notice", role: "alert" }, sentence));
}
