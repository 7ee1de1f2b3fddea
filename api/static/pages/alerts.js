// Alerts: the rules, how they stand, and what can be done with them.

import { el } from "../dom.js";
import { ruleCard } from "../lib/alert-card.js";
import { editRule } from "../lib/alert-form.js";
import { titleOf } from "../lib/alert-words.js";
import { ask } from "../lib/api.js";
import { confirmed } from "../lib/dialog.js";
import { watch } from "../lib/live.js";
import "../lib/shell.js";
import { busy, empty, failure } from "../lib/states.js";
import { toast } from "../lib/toast.js";

const main = document.querySelector("#main");
const slot = (name) => main.querySelector(`[data-slot="${name}"]`);
const newRule = document.querySelector("[data-new]");
const cards = new Map();
const meta = ask("meta");
meta.catch(() => {}); // it is said when a rule is to be made

async function load() {
  main.setAttribute("aria-busy", "true");
  try {
    draw(await ask("alerts"));
    showNotice(null);
    performance.mark("drawn");
  } catch (problem) {
    slot("rules").querySelector(".skeleton")?.remove();
    showNotice(failure(problem, load));
  }
  main.removeAttribute("aria-busy");
}

function draw({ items, most, email }) {
  newRule.hidden = items.length === 0;
  for (const id of [...cards.keys()].filter((each) => !items.some((rule) => rule.id === each))) cards.delete(id);
  for (const rule of items) {
    if (cards.has(rule.id)) cards.get(rule.id).update(rule);
    else cards.set(rule.id, ruleCard(rule, act));
  }
  const wanted = items.length ? items.map(({ id }) => cards.get(id).element) : [noRules()];
  const shown = [...slot("rules").children];
  if (shown.length !== wanted.length || wanted.some((each, index) => each !== shown[index])) slot("rules").replaceChildren(...wanted);
  const notes = [`Mails go to ${email}.`, "Each level of a rule is mailed at most once in 24 hours.", `${items.length} of ${most} rules.`, "Days and months are UTC."];
  slot("footnote").replaceChildren(...notes.map((each) => el("span", null, each)));
}

function noRules() {
  const make = el("button", { type: "button", class: "button primary", onclick: () => open(null) }, "Make the first rule");
  return empty({
    glyph: "alerts",
    title: "Nothing is watched yet",
    text: "A rule watches a budget, the error rate, the latency or the number of requests, and mails you at 90 % and at 100 % of its threshold: before the money is gone.",
    actions: [make],
  });
}

function showNotice(notice) {
  slot("notice").hidden = notice === null;
  slot("notice").replaceChildren(...(notice ? [notice] : []));
}

async function open(rule) {
  try {
    const { providers } = await meta;
    editRule(rule, providers, (saved) => {
      toast(rule ? "The rule is changed." : "The rule is made: it is watched from now on.");
      load().then(() => document.querySelector(`#rule-${saved.id} button`)?.focus());
    });
  } catch (problem) {
    showNotice(failure(problem, () => location.reload()));
  }
}

const ACTIONS = {
  edit: (rule) => open(rule),
  async pause(rule) {
    await ask(`alerts/${rule.id}`, { method: "PATCH", body: { paused: !rule.paused } });
    toast(rule.paused ? "The rule is watched again." : "The rule is paused: nothing is mailed.");
    await load();
  },
  async test(rule) {
    await ask(`alerts/${rule.id}/test`, { method: "POST" });
    toast("A test mail is on its way.");
    await load();
    main.querySelector(`#rule-${rule.id} button`)?.focus(); // the button it was is disabled now
  },
  async delete(rule) {
    if (!(await confirmed({ title: `Delete “${titleOf(rule)}”?`, text: "It is no longer watched, and the list of its mails goes too.", action: "Delete" }))) return;
    await ask(`alerts/${rule.id}`, { method: "DELETE" });
    toast("The rule is deleted.");
    await load();
    (newRule.hidden ? slot("rules").querySelector("button") : newRule)?.focus();
  },
};

function act(name, rule, button) {
  return busy(button, async () => {
    try {
      await ACTIONS[name](rule);
    } catch (problem) {
      toast(problem.message);
      await load();
    }
  });
}

newRule.addEventListener("click", () => open(null));
watch(load);
load();
