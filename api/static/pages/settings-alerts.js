// Settings, Alerts: where mails go, and which rules there are, in short.

import { el } from "../dom.js";
import { amounts, periodText, STATES, titleOf, TYPES } from "../lib/alert-words.js";
import { ask } from "../lib/api.js";
import "../lib/shell.js";
import { busy, failure } from "../lib/states.js";
import { toast } from "../lib/toast.js";

const slot = (name) => document.querySelector(`[data-slot="${name}"]`);

function drawMails({ email }) {
  const facts = [
    ["Mails go to", email],
    ["Warning", "at 90 % of a rule’s threshold"],
    ["Alert", "at 100 %"],
    ["How often", "each at most once in 24 hours and rule"],
  ];
  slot("mails").replaceChildren(el("dl", { class: "facts" }, facts.flatMap(([name, value]) => [el("dt", null, name), el("dd", null, value)])));
}

function line(rule) {
  const title = titleOf(rule);
  const [words, tone] = STATES[rule.present.state];
  const pause = el("button", { type: "button", class: "button small", "aria-label": `${rule.paused ? "Resume" : "Pause"}: ${title}`, onclick: () => busy(pause, () => toggle(rule)) }, rule.paused ? "Resume" : "Pause");
  const about = `${TYPES[rule.type].title}, ${periodText(rule.period)}: ${amounts(rule).full(rule.threshold)}`;
  return el("div", { class: "provider", "data-rule": rule.id }, el("div", { class: "row" }, el("div", { class: "who" }, el("b", null, title), el("span", { class: "hint" }, about)), el("span", { class: `pill ${tone}` }, words), pause));
}

async function toggle({ id, paused }) {
  try {
    await ask(`alerts/${id}`, { method: "PATCH", body: { paused: !paused } });
    await load();
    document.querySelector(`[data-rule="${id}"] button`)?.focus();
  } catch (problem) {
    toast(problem.message);
  }
}

async function load() {
  try {
    const { items, most, email } = await ask("alerts");
    drawMails({ email });
    const link = el("a", { class: "button", href: "/alerts" }, items.length ? "Edit rules and see how they stand" : "Make the first rule");
    const count = el("p", { class: "hint" }, items.length ? `${items.length} of ${most} rules of your plan.` : `Nothing is watched yet. Your plan has ${most} rules.`);
    slot("rules").replaceChildren(...items.map(line), el("div", { class: "row" }, link, count));
  } catch (problem) {
    slot("mails").replaceChildren();
    slot("rules").replaceChildren(failure(problem, load));
  }
}

load();
