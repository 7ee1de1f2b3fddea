// What the five tabs have in common: one request with the filters of now, drawn into slots;
// again when filters change or new requests came; failures with a way out.

import { el } from "../dom.js";
import { ask } from "./api.js";
import { showFilterBar } from "./filter-bar.js";
import { changeFilters, filterQuery, isNarrowed, onFilters, rangeName, readFilters } from "./filters.js";
import { counted, dateText, money, timeLabels } from "./format.js";
import { watch } from "./live.js";
import { empty, failure } from "./states.js";

const main = document.querySelector("#main");

/** The place of a page with this name. */
export const slot = (name) => main.querySelector(`[data-slot="${name}"]`);

/**
 * Run a tab: ask `usage/<resource>` and call `draw(data, context)`.
 * `isEmpty(data)` decides whether there is anything at all to draw.
 */
export function usagePage(resource, { draw, isEmpty }) {
  let underWay = null;
  let isDrawn = false;
  const whole = [...main.children];

  async function load() {
    underWay?.abort();
    underWay = new AbortController();
    const { signal } = underWay;
    main.setAttribute("aria-busy", "true");
    try {
      const filters = readFilters();
      const data = await ask(`usage/${resource}?${filterQuery(filters)}`, { signal });
      if (signal.aborted) return;
      showNotice(null);
      if (isEmpty(data)) main.replaceChildren(emptyPage(filters));
      else {
        if (!whole[0].isConnected) main.replaceChildren(...whole);
        draw(data, contextOf(data, filters));
        showFootnote(data);
        isDrawn = true;
      }
      // charts are drawn when it is known how large they are: in the next frame
      requestAnimationFrame(() => setTimeout(() => performance.mark("drawn")));
    } catch (problem) {
      if (problem.name === "AbortError") return;
      // What was drawn stays; places that wait for something that does not come do not.
      if (!isDrawn) main.replaceChildren(el("div", { class: "s12" }, failure(problem, load)));
      else {
        if (!whole[0].isConnected) main.replaceChildren(...whole);
        showNotice(failure(problem, load));
      }
    }
    main.removeAttribute("aria-busy");
  }

  load();
  showFilterBar();
  onFilters(load);
  watch(load);
}

function contextOf(data, filters) {
  return {
    filters,
    period: rangeName(filters),
    timestamps: data.timestamps ?? [],
    times: timeLabels(data.range.step),
    money: data.currency ? money(data.currency) : null,
  };
}

function showNotice(notice) {
  const place = slot("notice");
  if (!place) return;
  place.hidden = notice === null;
  place.replaceChildren(...(notice ? [notice] : []));
}

function showFootnote(data) {
  const notes = [];
  const { currency } = data;
  if (currency && currency.code !== "USD") notes.push(`Amounts in ${currency.code}: 1 USD = ${currency.rate} ${currency.code}, ${currency.date ? `the rate of ${dateText(currency.date)}` : "the operator’s rate"}.`);
  const unpriced = data.cost?.unpriced ?? 0;
  if (unpriced) notes.push(`${counted(unpriced, "request has", "requests have")} an unknown price and ${unpriced === 1 ? "is" : "are"} in no amount.`);
  const unreported = data.tokens?.unreported ?? 0;
  if (unreported) notes.push(`${counted(unreported, "request")} did not report tokens.`);
  if (data.range.step === "day") notes.push("Days are UTC days.");
  slot("footnote")?.replaceChildren(...notes.map((each) => el("span", null, each)));
}

function emptyPage(filters) {
  if (isNarrowed(filters)) {
    const clear = el("button", { type: "button", class: "button primary", onclick: () => changeFilters({ provider: [], model: [], requester: [], status: [], cached: null }) }, "Clear the filters");
    return empty({ glyph: "search", title: "Nothing fits these filters", text: `No request of the last ${rangeName(filters)} fits all that you chose.`, actions: [clear] });
  }
  const links = [el("a", { class: "button primary", href: "/integrate" }, "Make your first request")];
  if (filters.range !== "90d") links.push(el("button", { type: "button", class: "button", onclick: () => changeFilters({ range: "90d" }) }, "Look at 90 days"));
  return empty({
    title: `No requests in the last ${rangeName(filters)}`,
    text: "As soon as a request goes through Metrion, this page shows what it used, what it cost and how long it took. Two values change in your code.",
    actions: links,
  });
}
