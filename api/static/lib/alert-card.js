// One alert rule: how it stands, how it came there, what was mailed, what can be done.

import { timeChart } from "../charts/time-chart.js";
import { el } from "../dom.js";
import { amounts, periodText, REASONS, STATES, titleOf, TYPES } from "./alert-words.js";
import { ago, counted, percent, timeLabels, wholeMoment } from "./format.js";

const LEVELS = { warning: "Warning", alert: "Alert", test: "Test" };
const MAILED = { waiting: "on its way", sent: "sent", failed: "could not be sent" };

/** The card of a rule; `update(rule)` shows it anew. `act(action, rule, button)` does what buttons say. */
export function ruleCard(rule, act) {
  const id = `rule-${rule.id}`;
  const head = el("div", { class: "card-head" });
  const value = el("div", { class: "rule-value" });
  const chart = el("div", { class: "chart-place" });
  const facts = el("div");
  const tools = el("div", { class: "row" });
  const element = el("section", { class: "card rule", id, "aria-labelledby": `${id}-title`, "data-rule": rule.id }, head, el("div", { class: "rule-body" }, el("div", { class: "stack" }, value, facts), chart), tools);
  const buttons = new Map();

  function button(name, words, title, { kind = "", disabled = false } = {}) {
    if (!buttons.has(name)) buttons.set(name, el("button", { type: "button", onclick: (event) => act(name, card.rule, event.currentTarget) }));
    const made = buttons.get(name);
    made.className = `button small ${kind}`;
    made.textContent = words;
    made.setAttribute("aria-label", `${words}: ${title}`);
    made.disabled = disabled;
    return made;
  }

  function update(now) {
    card.rule = now;
    const title = titleOf(now);
    const [words, tone] = STATES[now.present.state];
    head.replaceChildren(el("h2", { id: `${id}-title` }, title), el("span", { class: `pill ${tone}` }, words), el("p", { class: "note" }, `${TYPES[now.type].title}, ${periodText(now.period)}, ${now.providers.join(", ") || "all providers"}`));
    value.replaceChildren(...valueOf(now));
    facts.replaceChildren(mailsOf(now));
    drawChart(chart, now, title);
    const wait = now.test_possible_at ? { disabled: true } : {};
    const wanted = [
      button("edit", "Edit", title),
      button("pause", now.paused ? "Resume" : "Pause", title),
      button("test", now.test_possible_at ? "Test sent" : "Send a test", title, wait),
      button("delete", "Delete", title, { kind: "danger" }),
    ];
    // the buttons stay the same ones: whoever is on one by keyboard stays there
    if (!tools.hasChildNodes()) tools.replaceChildren(...wanted, el("span", { class: "hint" }));
    tools.lastChild.textContent = now.test_possible_at ? `The next test: ${wholeMoment(now.test_possible_at)}.` : "";
  }

  const card = { element, rule, update };
  update(rule);
  return card;
}

function valueOf(rule) {
  const { value, share, at_least: atLeast, unknown, state } = rule.present;
  const show = amounts(rule).full;
  if (value === null) return [el("p", { class: "value missing" }, "no value"), el("p", { class: "hint" }, REASONS[state] ?? REASONS.no_data, ` The threshold is ${show(rule.threshold)}.`)];
  const tone = share >= 1 ? "bad" : share >= 0.9 ? "warn" : "fine";
  const meter = el("div", { class: `meter ${tone}`, role: "meter", "aria-label": `${titleOf(rule)}: share of the threshold`, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.min(100, Math.floor(100 * share)) }, el("span", { style: { "--w": `${Math.min(100, 100 * share)}%` } }));
  const notes = [];
  if (atLeast) notes.push(`At least: the cost of ${counted(unknown, "request is", "requests are")} not known.`);
  if (rule.quiet_until && !rule.paused) notes.push(`Mailed; not again before ${wholeMoment(rule.quiet_until)}.`);
  return [
    el("p", null, el("span", { class: "value" }, atLeast ? "≥ " : "", show(value)), el("span", { class: "dim" }, ` of ${show(rule.threshold)} (${shareText(share)})`)),
    meter,
    ...notes.map((each) => el("p", { class: "hint" }, each)),
  ];
}

/** Rounded down: 99.96 % have not reached 100 %. */
const shareText = (share) => percent(share < 0.001 ? share : Math.floor(1000 * share) / 1000);

function mailsOf({ mails, unit, type }) {
  if (!mails.length) return el("p", { class: "hint" }, "No mail yet.");
  const line = (mail) => {
    const what = mail.value === null ? "" : ` at ${mail.at_least ? "≥ " : ""}${amounts({ unit: mail.unit ?? unit, type }).full(mail.value)}`;
    return el("li", null, el("strong", null, LEVELS[mail.level]), what, el("span", { title: wholeMoment(mail.created_at) }, `, ${ago(mail.created_at)}`), mail.state === "sent" ? null : `, ${MAILED[mail.state]}`);
  };
  return el("ul", { class: "plain", "aria-label": "Last mails" }, mails.map(line));
}

function drawChart(host, rule, title) {
  const { timestamps, values, step } = rule.series;
  const { full, axis } = amounts(rule);
  // Of a count, a moment's part says nothing beside the threshold of the whole period.
  const isWhole = rule.type === "budget" || rule.unit === "percent" || rule.unit === "ms";
  const name = rule.type === "budget" ? "spent" : TYPES[rule.type].title.toLowerCase();
  const series = [{ name, color: "c0", values }];
  if (isWhole) series.push({ name: "threshold", color: "s5", values: timestamps.map(() => rule.threshold) });
  timeChart(host, { label: `${title}, by ${step}`, kind: isWhole ? "line" : "column", height: 150, times: timeLabels(step), timestamps, show: full, showAxis: axis, series });
}
