// Settings, General: currency, appearance, what is kept and for how long.

import { el } from "../dom.js";
import { ask } from "../lib/api.js";
import { dateText, integer } from "../lib/format.js";
import { account } from "../lib/shell.js";
import { failure } from "../lib/states.js";
import { toast } from "../lib/toast.js";

const CURRENCIES = { USD: "US dollar", EUR: "Euro", CHF: "Swiss franc" };
const THEMES = [
  ["system", "As the system"],
  ["light", "Light"],
  ["dark", "Dark"],
];
const slot = (name) => document.querySelector(`[data-slot="${name}"]`);

function rateText({ code, rate, date }) {
  if (code === "USD") return "as recorded";
  return `1 USD = ${rate} ${code}${date ? `, ${dateText(date)}` : ""}`;
}

function choices(name, options, chosen, change) {
  const choice = ([value, title, hint]) =>
    el("label", { class: "choice" }, el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => change(value) }), el("b", null, title), hint ? el("span", { class: "hint" }, hint) : null);
  return el("fieldset", { class: "choices" }, el("legend", { class: "sr-only" }, name), options.map(choice));
}

function drawCurrency({ currency }, { currencies }) {
  async function change(code) {
    try {
      await ask("account", { method: "PATCH", body: { currency: code } });
      toast(`Amounts are shown in ${code} now. Logs stay in USD.`);
    } catch (problem) {
      slot("currency").prepend(failure(problem, () => location.reload()));
    }
  }
  const options = currencies.map((each) => [each.code, `${CURRENCIES[each.code]} (${each.code})`, rateText(each)]);
  slot("currency").replaceChildren(choices("Currency", options, currency, change));
}

function drawTheme() {
  const remembered = (() => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // forbidden: the system's theme
    }
  })();
  const change = (theme) => dispatchEvent(new CustomEvent("theme", { detail: theme }));
  slot("theme").replaceChildren(choices("Theme", THEMES, remembered ?? "system", change));
}

function drawData({ region, retention_days: days, plan }) {
  const facts = [
    ["Kept in", region],
    ["Log rows", `${integer(days)} days on the ${plan === "pro" ? "Pro" : "Free"} plan`],
    ["Daily records", "until the account is deleted"],
    ["Never kept", "what was asked or answered"],
  ];
  slot("data").replaceChildren(el("dl", { class: "facts" }, facts.flatMap(([name, value]) => [el("dt", null, name), el("dd", null, value)])));
}

drawTheme();
try {
  const [mine, meta] = await Promise.all([account, ask("meta")]);
  drawCurrency(mine, meta);
  drawData(mine);
} catch (problem) {
  slot("currency").replaceChildren(failure(problem, () => location.reload()));
  slot("data").replaceChildren();
}
