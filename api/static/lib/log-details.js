// One request in full: a drawer beside the log.

import { el } from "../dom.js";
import { dollars, duration, integer, wholeMoment } from "./format.js";
import { OUTCOMES, statusBadge } from "./log-words.js";
import { icon, swatch } from "./svg.js";
import { missing } from "./table.js";
import { copy } from "./toast.js";

const drawer = document.querySelector("[data-details]");

/** Show a request; Escape, the button or a click beside it closes. */
export function openDetails(row) {
  const close = el("button", { type: "button", class: "icon", "aria-label": "Close", onclick: closeDetails }, icon("close"));
  drawer.replaceChildren(
    el("div", { class: "drawer-head" }, el("h2", { id: "details-title" }, "Request"), ...statusBadge(row).filter(Boolean), close),
    row.error ? el("p", { class: "quote" }, row.error) : "",
    section("What it was", [
      ["Time", wholeMoment(row.created_at)],
      ["Outcome", OUTCOMES[row.outcome] ?? row.outcome],
      ["Provider", row.provider],
      ["Endpoint", row.endpoint],
      ["Model", row.model ?? missing("not known")],
      ["Requester", row.requester ?? missing("not named")],
      ["Key", row.mode === "stored" ? "stored in Metrion" : "the caller’s own (pass-through)"],
      ["Answer", row.status === null ? "none" : row.cached ? "from Metrion’s cache" : row.streamed ? "a stream" : "in one piece"],
    ]),
    tokensOf(row),
    section("Cost", [["Cost", row.cost_usd === null ? missing("price unknown") : dollars(row.cost_usd)]]),
    section("Time", [
      ["Latency", time(row.latency_ms)],
      ["First byte after", time(row.ttfb_ms)],
      ["Metrion’s share", time(row.overhead_ms)],
    ]),
    idOf(row),
  );
  if (!drawer.open) drawer.showModal();
}

export function closeDetails() {
  if (drawer.open) drawer.close();
}

drawer.addEventListener("click", (event) => {
  if (event.target === drawer && event.clientX < drawer.getBoundingClientRect().left) closeDetails();
});

const time = (ms) => (ms === null ? missing("not known") : duration(ms));
const count = (tokens) => (tokens === null ? missing("not reported") : integer(tokens));

function section(title, facts) {
  return el("section", null, el("h3", null, title), factList(facts));
}

function factList(facts) {
  return el("dl", { class: "facts" }, facts.flatMap(([name, value]) => [el("dt", null, name), el("dd", null, value)]));
}

function tokensOf(row) {
  const { input_tokens: input, cache_read_tokens: read, cache_write_tokens: written, output_tokens: output, reasoning_tokens: reasoning } = row;
  const parts = [
    ["c0", (input ?? 0) - (read ?? 0) - (written ?? 0)],
    ["c1", read ?? 0],
    ["c2", written ?? 0],
    ["c3", (output ?? 0) - (reasoning ?? 0)],
    ["c5", reasoning ?? 0],
  ].filter(([, tokens]) => tokens > 0);
  const all = [input, output, row.total_tokens];
  if (all.every((each) => each === null)) return el("section", null, el("h3", null, "Tokens"), el("p", null, missing("not reported")));
  const bar = parts.map(([color, tokens]) => el("span", { style: { "--w": tokens, "--c": `var(--${color})` } }));
  const named = (color, words) => [swatch(color), ` ${words}`];
  const facts = [
    [named("c0", "Input"), count(input)],
    [named("c1", "of it read from cache"), count(read)],
    [named("c2", "of it written to cache"), count(written)],
    [named("c3", "Output"), count(output)],
    [named("c5", "of it reasoning"), count(reasoning)],
    ["Total", count(row.total_tokens)],
  ];
  return el("section", null, el("h3", null, "Tokens"), parts.length ? el("div", { class: "parts", "aria-hidden": "true" }, bar) : null, factList(facts));
}

function idOf({ id }) {
  return el("section", null, el("h3", null, "Id"), el("div", { class: "secret" }, el("code", null, id), el("button", { type: "button", class: "button small", onclick: () => copy(id, "Id") }, "Copy")), el("p", { class: "hint" }, "The header x-metrion-request-id of its answer."));
}
