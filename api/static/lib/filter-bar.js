// The bar of filters: the range, and a menu for each list. What there is to choose is asked
// when a menu is opened first.

import { el } from "../dom.js";
import { ask } from "./api.js";
import { changeFilters, filterQuery, isNarrowed, LISTS, onFilters, RANGES, readFilters } from "./filters.js";
import { icon } from "./svg.js";

const TITLES = { provider: "Provider", model: "Model", requester: "Requester", status: "Status", cached: "Cached" };
const STATUSES = [
  ["2xx", "2xx", "success"],
  ["4xx", "4xx", "refused or wrong"],
  ["5xx", "5xx", "failed"],
  ["none", "none", "left before an answer"],
];
const CACHED = [
  ["true", "From Metrion’s cache"],
  ["false", "From the provider"],
];
const MOST_SHOWN = 60;

let bar = null;
let known = null; // what can be chosen, with the range it was asked for

/** Draw the bar, and draw it anew when the filters change. */
export function showFilterBar() {
  bar = document.querySelector("[data-filters]");
  draw();
  onFilters(draw);
}

function draw() {
  const filters = readFilters();
  const focused = document.activeElement?.dataset?.focus;
  const clear = el("button", { type: "button", class: "button quiet small", "data-focus": "clear", onclick: clearAll }, "Clear filters");
  bar.replaceChildren(ranges(filters), ...LISTS.map((name) => menu(name, filters[name])), menu("cached", filters.cached ? [filters.cached] : []), ...(isNarrowed(filters) ? [clear] : []));
  if (focused) bar.querySelector(`[data-focus="${focused}"]`)?.focus();
}

function clearAll() {
  changeFilters({ provider: [], model: [], requester: [], status: [], cached: null });
  bar.querySelector("input:checked, .pick")?.focus();
}

function ranges(filters) {
  const option = ([value, title]) =>
    el(
      "label",
      { title: `The last ${title}` },
      el("input", { type: "radio", name: "range", value, checked: value === filters.range, "data-focus": `range-${value}`, "aria-label": title, onchange: () => changeFilters({ range: value, from: null, to: null }) }),
      value,
    );
  return el("div", { class: "row" }, el("fieldset", { class: "seg" }, el("legend", { class: "sr-only" }, "Time range"), RANGES.map(option)), customRange(filters));
}

function customRange(filters) {
  const local = (text) => (text ? new Date(new Date(text) - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 16) : "");
  const from = el("input", { type: "datetime-local", id: "range-from", value: local(filters.from), required: "" });
  const to = el("input", { type: "datetime-local", id: "range-to", value: local(filters.to), required: "" });
  const wrong = el("p", { class: "wrong", role: "alert" });
  const apply = (event) => {
    event.preventDefault();
    const [start, end] = [new Date(from.value), new Date(to.value)];
    if (!(start < end)) return void (wrong.textContent = "The end has to be after the start.");
    changeFilters({ range: "custom", from: start.toISOString(), to: end.toISOString() });
  };
  const form = el(
    "form",
    { class: "stack", onsubmit: apply },
    el("div", { class: "field" }, el("label", { for: "range-from" }, "From"), from),
    el("div", { class: "field" }, el("label", { for: "range-to" }, "To"), to),
    wrong,
    el("button", { class: "button primary" }, "Show"),
  );
  const isOn = filters.range === "custom";
  const short = (text) => new Date(text).toLocaleDateString(undefined, { month: "short", day: "numeric" });
  return popup("custom", isOn ? `${short(filters.from)} – ${short(filters.to)}` : "Custom", isOn, () => [form]);
}

function menu(name, chosen) {
  const text = chosen.length === 0 ? TITLES[name] : chosen.length === 1 ? `${TITLES[name]}: ${labelOf(name, chosen[0])}` : `${TITLES[name]}: ${chosen.length}`;
  return popup(name, text, chosen.length > 0, (close) => [chooser(name, new Set(chosen), close)]);
}

function labelOf(name, value) {
  return name === "cached" ? (value === "true" ? "yes" : "no") : value;
}

/** A button with a box below it; the box's content is made when it opens. */
function popup(name, text, isOn, content) {
  const box = el("div", { class: "menu-box", popover: "auto", id: `menu-${name}`, role: "dialog", "aria-label": `Filter: ${TITLES[name] ?? "range"}` });
  const button = el("button", { type: "button", class: `pick ${isOn ? "on" : ""}`, popovertarget: box.id, "aria-haspopup": "dialog", "data-focus": `menu-${name}`, title: text }, el("span", { class: "cut" }, text), icon("down"));
  box.addEventListener("beforetoggle", (event) => {
    if (event.newState !== "open") return;
    const place = button.getBoundingClientRect();
    box.style.top = `${place.bottom + 6}px`;
    box.style.left = `${Math.max(10, Math.min(place.left, innerWidth - 300))}px`;
    box.replaceChildren(...content(() => box.hidePopover()));
  });
  box.addEventListener("toggle", (event) => {
    if (event.newState === "open") box.querySelector("input, button")?.focus();
  });
  return el("div", { class: "popup" }, button, box);
}

async function choices(name) {
  if (name === "status") return STATUSES;
  if (name === "cached") return CACHED;
  const filters = readFilters();
  const range = filterQuery({ ...filters, provider: [], model: [], requester: [], status: [], cached: null }).toString();
  if (known?.range !== range) known = { range, values: await ask(`usage/filters?${range}`) };
  const { providers, models, requesters } = known.values;
  if (name === "provider") return providers.map((each) => [each, each]);
  if (name === "model") return oncePerModel(models);
  return requesters.map((each) => [each, each]);
}

/** One model can come from several providers; it is one choice. */
function oncePerModel(models) {
  const providers = new Map();
  for (const { model, provider } of models) providers.set(model, [...(providers.get(model) ?? []), provider]);
  return [...providers].map(([model, names]) => [model, model, names.join(", ")]);
}

function chooser(name, chosen, close) {
  const single = name === "cached";
  const options = el("div", { class: "options", role: "group", "aria-label": TITLES[name] }, el("p", { class: "nothing" }, "Loading…"));
  const search = el("input", { type: "search", placeholder: `Find a ${TITLES[name].toLowerCase()}`, "aria-label": `Find a ${TITLES[name].toLowerCase()}`, autocomplete: "off" });
  let all = [];

  function option([value, label, hint]) {
    const change = (event) => {
      if (single) chosen.clear();
      if (event.target.checked) chosen.add(value);
      else chosen.delete(value);
    };
    return el("label", { class: "option" }, el("input", { type: single ? "radio" : "checkbox", name: `option-${name}`, checked: chosen.has(value), onchange: change }), el("span", { class: "cut", title: label }, label), hint ? el("span", { class: "hint" }, hint) : null);
  }

  function list() {
    const wanted = search.value.trim().toLowerCase();
    const fitting = all.filter(([, label]) => label.toLowerCase().includes(wanted));
    const rest = fitting.length - MOST_SHOWN;
    const more = rest > 0 ? el("p", { class: "hint" }, `and ${rest} more: type to find them`) : null;
    const none = fitting.length ? null : el("p", { class: "nothing" }, wanted ? "Nothing with that name in this range." : "Nothing to choose in this range.");
    options.replaceChildren(...[...fitting.slice(0, MOST_SHOWN).map(option), more, none].filter(Boolean));
  }

  async function load() {
    try {
      const found = await choices(name);
      // What is chosen can always be taken off again, also when the range has nothing of it.
      const missing = [...chosen].filter((value) => !found.some(([each]) => each === value));
      all = [...missing.map((value) => [value, value, "not in this range"]), ...found];
      list();
    } catch (problem) {
      options.replaceChildren(el("p", { class: "wrong", role: "alert" }, problem.message));
    }
  }

  function apply(event) {
    event.preventDefault();
    close();
    changeFilters({ [name]: single ? ([...chosen][0] ?? null) : [...chosen] });
  }

  function reset() {
    chosen.clear();
    list();
  }

  search.addEventListener("input", list);
  load();
  const needsSearch = name === "model" || name === "requester";
  const foot = el("div", { class: "foot" }, el("button", { type: "button", class: "button quiet small", onclick: reset }, "Reset"), el("button", { class: "button primary small" }, "Apply"));
  return el("form", { onsubmit: apply }, needsSearch ? search : null, options, foot);
}
