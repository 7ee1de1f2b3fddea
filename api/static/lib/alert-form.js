// The drawer in which a rule is made or edited.

import { el } from "../dom.js";
import { HOURS, PERIODS, TYPES, UNITS } from "./alert-words.js";
import { ask } from "./api.js";
import { busy } from "./states.js";
import { icon } from "./svg.js";

const drawer = document.querySelector("[data-editor]");
const NEW = { name: "", type: "budget", unit: "usd", threshold: "", providers: [], period: { kind: "month", from: null, to: null, hours: null } };

/** Open the drawer for a rule, or a new one; `saved(rule)` is called with what the API answered. */
export function editRule(rule, providers, saved) {
  const state = structuredClone(rule ?? NEW);
  const body = el("div", { class: "stack" });
  const wrong = el("p", { class: "wrong", role: "alert" });
  const button = el("button", { class: "button primary" }, rule ? "Save" : "Make the rule");
  const cancel = el("button", { type: "button", class: "button", onclick: () => drawer.close() }, "Cancel");
  const close = el("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => drawer.close() }, icon("close"));

  function draw(focus) {
    body.replaceChildren(...fields(state, providers, draw));
    if (focus) body.querySelector(focus)?.focus();
  }

  function save(event) {
    event.preventDefault();
    wrong.textContent = "";
    if (!(Number(state.threshold) > 0)) {
      wrong.textContent = "The threshold has to be a number above 0.";
      return body.querySelector("#threshold").focus();
    }
    return busy(button, async () => {
      try {
        const body = requestOf(state);
        saved(await ask(rule ? `alerts/${rule.id}` : "alerts", { method: rule ? "PATCH" : "POST", body }));
        drawer.close();
      } catch (problem) {
        wrong.textContent = problem.message;
        wrong.scrollIntoView({ block: "nearest" });
      }
    });
  }

  draw();
  const form = el("form", { class: "stack", onsubmit: save }, body, wrong, el("div", { class: "row" }, button, cancel));
  const head = el("div", { class: "drawer-head" }, el("h2", { id: "editor-title" }, rule ? "Edit the rule" : "New rule"), close);
  drawer.replaceChildren(head, form);
  drawer.showModal();
  body.querySelector("input:checked")?.focus();
}

function requestOf({ name, type, unit, threshold, providers, period }) {
  return { name, type, unit, threshold: Number(threshold), providers, period };
}

function fields(state, providers, draw) {
  const type = TYPES[state.type];
  return [typeChoice(state, draw), thresholdField(state, type), periodField(state, type, draw), providerField(state, providers), nameField(state)];
}

function typeChoice(state, draw) {
  function change(name) {
    state.type = name;
    const { units, periods } = TYPES[name];
    if (!units.includes(state.unit)) state.unit = units[0];
    if (!periods.includes(state.period.kind)) state.period = periodOf(periods[0]);
    draw(`[value="${name}"]`);
  }
  const choice = ([value, { title, hint }]) =>
    el("label", { class: "choice" }, el("input", { type: "radio", name: "type", value, checked: value === state.type, onchange: () => change(value) }), el("b", null, title), el("span", { class: "hint" }, hint));
  return el("fieldset", { class: "choices" }, el("legend", { class: "label" }, "What to watch"), Object.entries(TYPES).map(choice));
}

const today = () => new Date().toISOString().slice(0, 10);

function periodOf(kind) {
  return { kind, from: kind === "since" || kind === "dates" ? today() : null, to: kind === "dates" ? today() : null, hours: kind === "rolling" ? 24 : null };
}

function labelled(id, title, control, hint) {
  return el("div", { class: "field grow" }, el("label", { for: id }, title), control, hint ? el("p", { class: "hint", id: `${id}-hint` }, hint) : null);
}

function thresholdField(state, { units }) {
  const input = el("input", { type: "number", id: "threshold", required: "", min: "0", step: "any", inputmode: "decimal", "aria-describedby": "threshold-hint", oninput: ({ target }) => (state.threshold = target.value) });
  input.value = state.threshold;
  const select = el("select", { id: "unit", onchange: ({ target }) => (state.unit = target.value) }, units.map((each) => el("option", { value: each, selected: each === state.unit ? "" : null }, UNITS[each])));
  const hint = "You get a warning at 90\u00a0% of it, an alert at 100\u00a0%.";
  return el("div", { class: "row top" }, labelled("threshold", "Threshold", input, hint), labelled("unit", "Unit", select));
}

function periodField(state, { periods }, draw) {
  const kind = el("select", { id: "period", onchange: ({ target }) => ((state.period = periodOf(target.value)), draw("#period")) }, periods.map((each) => el("option", { value: each, selected: each === state.period.kind ? "" : null }, PERIODS[each])));
  const day = (name, title) => {
    const input = el("input", { type: "date", id: `period-${name}`, required: "", onchange: ({ target }) => (state.period[name] = target.value || null) });
    input.value = state.period[name] ?? "";
    return labelled(`period-${name}`, title, input);
  };
  const parts = {
    since: () => [day("from", "First day (UTC)")],
    dates: () => [day("from", "First day (UTC)"), day("to", "Last day (UTC)")],
    rolling: () => {
      const option = ([value, words]) => el("option", { value, selected: Number(value) === state.period.hours ? "" : null }, words);
      return [labelled("hours", "How long", el("select", { id: "hours", onchange: ({ target }) => (state.period.hours = Number(target.value)) }, Object.entries(HOURS).map(option)))];
    },
  };
  return el("div", { class: "row top" }, labelled("period", "Period", kind), ...(parts[state.period.kind]?.() ?? []));
}

function providerField(state, providers) {
  function toggle(name, isOn) {
    state.providers = isOn ? [...state.providers, name] : state.providers.filter((each) => each !== name);
  }
  const option = ({ name, title }) => el("label", { class: "check" }, el("input", { type: "checkbox", value: name, checked: state.providers.includes(name), onchange: ({ target }) => toggle(name, target.checked) }), title);
  return el("fieldset", { class: "checks" }, el("legend", { class: "label" }, "Providers"), providers.map(option), el("p", { class: "hint" }, "None chosen: all of them count."));
}

function nameField(state) {
  const input = el("input", { type: "text", id: "rule-name", maxlength: "100", autocomplete: "off", placeholder: "What the mail’s subject says", oninput: ({ target }) => (state.name = target.value) });
  input.value = state.name;
  return labelled("rule-name", "Name (optional)", input);
}
