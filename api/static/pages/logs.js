// Logs: every request, never its content.

import { el } from "../dom.js";
import { ask } from "../lib/api.js";
import { showFilterBar } from "../lib/filter-bar.js";
import { changeFilters, filterQuery, isNarrowed, onFilters, rangeName, readFilters } from "../lib/filters.js";
import { counted, duration, integer, momentText, wholeMoment } from "../lib/format.js";
import { watch } from "../lib/live.js";
import { closeDetails, openDetails } from "../lib/log-details.js";
import { cost, statusBadge, tokens } from "../lib/log-words.js";
import "../lib/shell.js";
import { empty, failure } from "../lib/states.js";
import { missing } from "../lib/table.js";

const PAGE = 50;
const SEARCH_MS = 250;
const main = document.querySelector("#main");
const place = main.querySelector('[data-slot="log"]');
const search = document.querySelector("#search");
const csv = document.querySelector("[data-csv]");
let cursor = null; // null: the newest page
let first = 1; // the number of the first row on the page
let underWay = null;

function query() {
  const wanted = filterQuery(readFilters());
  if (search.value.trim()) wanted.set("q", search.value.trim());
  return wanted;
}

async function load() {
  underWay?.abort();
  underWay = new AbortController();
  const { signal } = underWay;
  main.setAttribute("aria-busy", "true");
  const wanted = query();
  csv.href = `/api/v1/logs.csv?${wanted}`;
  wanted.set("limit", PAGE);
  if (cursor) wanted.set("cursor", cursor);
  try {
    const page = await ask(`logs?${wanted}`, { signal });
    if (signal.aborted) return;
    place.replaceChildren(page.items.length ? logCard(page) : emptyLog());
  } catch (problem) {
    if (problem.name === "AbortError") return;
    place.replaceChildren(failure(problem, load));
  }
  main.removeAttribute("aria-busy");
}

function logCard(page) {
  const withRequester = page.items.some(({ requester }) => requester !== null);
  const heads = [["Status"], ["Time"], withRequester ? ["Requester", "apart"] : null, ["Model"], ["Provider", "apart"], ["Input", "right apart"], ["Output", "right apart"], ["Total", "right apart"], ["Cost", "right"], ["Latency", "right apart"]].filter(Boolean);
  const head = el("tr", null, heads.map(([title, kind]) => el("th", { scope: "col", class: kind }, title)));
  const rows = page.items.map((row) => logLine(row, withRequester));
  const body = el("table", { class: "table" }, el("thead", null, head), el("tbody", null, rows));
  return el("section", { class: "card log-card", "aria-label": "Requests" }, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Requests, the newest first" }, body), foot(page));
}

// What is apart is in the details only on a phone.
function logLine(row, withRequester) {
  const open = el("button", { type: "button", class: "open", title: wholeMoment(row.created_at), "aria-haspopup": "dialog" }, momentText(row.created_at));
  return el(
    "tr",
    { onclick: () => openDetails(row) },
    el("td", null, statusBadge(row)),
    el("td", null, open),
    withRequester ? el("td", { class: "wide apart", title: row.requester ?? "" }, row.requester ?? "") : null,
    el("td", { class: "wide model", title: row.model ?? "" }, el("span", { class: "clamp" }, row.model ?? missing("not known"))),
    el("td", { class: "apart" }, row.provider),
    ...tokenCells(row),
    el("td", { class: "right" }, cost(row.cost_usd)),
    el("td", { class: "right apart" }, duration(row.latency_ms)),
  );
}

function tokenCells({ input_tokens: input, output_tokens: output, total_tokens: total }) {
  const counts = [input, output, total];
  // One sentence instead of three times the same.
  if (counts.every((each) => each === null)) return [el("td", { class: "right apart", colspan: 3 }, missing("tokens not reported"))];
  return counts.map((each) => el("td", { class: "right apart" }, tokens(each)));
}

function foot({ items, total, next_cursor: next, previous_cursor: previous }) {
  const turn = (to, by) => () => {
    cursor = to;
    first = Math.max(1, first + by);
    load().then(() => main.querySelector(`[data-turn="${by < 0 ? "previous" : "next"}"]:not(:disabled), [data-turn]:not(:disabled)`)?.focus());
    scrollTo({ top: 0 });
  };
  const button = (words, name, to, by) => el("button", { type: "button", class: "button small", disabled: !to, "data-turn": name, onclick: turn(to, by) }, words);
  return el(
    "div",
    { class: "log-foot" },
    el("p", { class: "dim", role: "status" }, `${integer(first)}–${integer(first + items.length - 1)} of ${counted(total, "request")} · costs in USD`),
    button("Previous", "previous", first > 1 ? previous : null, -PAGE),
    button("Next", "next", next, PAGE),
  );
}

function emptyLog() {
  const filters = readFilters();
  if (search.value.trim() || isNarrowed(filters)) {
    const clear = () => {
      search.value = "";
      changeFilters({ provider: [], model: [], requester: [], status: [], cached: null });
    };
    return empty({ glyph: "search", title: "Nothing fits", text: "No request fits the search and the filters that you chose.", actions: [el("button", { type: "button", class: "button primary", onclick: clear }, "Clear search and filters")] });
  }
  return empty({
    glyph: "logs",
    title: `No requests in the last ${rangeName(filters)}`,
    text: "Each request that goes through Metrion gets a line here: its status, model, tokens, cost and time. Never what was asked or answered.",
    actions: [el("a", { class: "button primary", href: "/integrate" }, "Make your first request")],
  });
}

function loadFromStart() {
  cursor = null;
  first = 1;
  return load();
}

/** A link to one request: `?log=<id>`. */
async function openLinked() {
  const id = new URLSearchParams(location.search).get("log");
  if (!id) return;
  try {
    openDetails(await ask(`logs/${encodeURIComponent(id)}`));
  } catch (problem) {
    place.before(failure(problem, openLinked));
  }
}

let waiting = 0;
search.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(loadFromStart, SEARCH_MS);
});
showFilterBar();
onFilters(() => {
  closeDetails();
  loadFromStart();
});
watch(() => (cursor === null ? load() : undefined));
loadFromStart();
openLinked();
