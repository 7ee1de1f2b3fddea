// Integrate: from nothing to the first request, without leaving the page.

import { el } from "../dom.js";
import { ask } from "../lib/api.js";
import { ago, counted, dollars } from "../lib/format.js";
import { statusBadge } from "../lib/log-words.js";
import { deleteKey, keyForm, keyPage, storedHint } from "../lib/provider-form.js";
import "../lib/shell.js";
import { LANGUAGES, snippet } from "../lib/snippets.js";
import { busy, failure } from "../lib/states.js";
import { missing } from "../lib/table.js";
import { copy, toast } from "../lib/toast.js";
import { revealed, showToken } from "../lib/token-box.js";

const POLL_MS = 2000;
const DEFAULT_PROXY_PORT = 8080;
const slot = (name) => document.querySelector(`[data-slot="${name}"]`);
const state = { providers: [], chosen: "openai", language: "python", masked: "sk-metrion-…", proxy: null };

function done(name, isDone) {
  slot(name).closest(".step").toggleAttribute("data-done", isDone);
}

const chosenProvider = () => state.providers.find(({ provider }) => provider === state.chosen);

function drawProviders() {
  const choice = (each) =>
    el(
      "label",
      { class: "choice" },
      el("input", { type: "radio", name: "provider", value: each.provider, checked: each.provider === state.chosen, onchange: () => choose(each.provider) }),
      el("b", null, each.title),
      storedHint(each),
    );
  const place = slot("providers");
  place.replaceChildren(el("fieldset", { class: "choices" }, el("legend", { class: "sr-only" }, "Provider"), state.providers.map(choice)), el("div", { class: "stack", "data-key": "" }));
  drawKey();
}

function choose(name) {
  state.chosen = name;
  drawKey();
  drawSnippets();
}

function drawKey(revoke = null) {
  const provider = chosenProvider();
  const saved = (item) => {
    replaceProvider(item);
    drawProviders();
    drawSnippets();
    slot("snippets").querySelector("[role=tab]")?.focus();
  };
  const remove = () =>
    deleteKey(provider, () => {
      replaceProvider({ ...provider, last_four: null, created_at: null });
      drawProviders();
      drawKey(provider);
      drawSnippets();
    });
  const parts = provider.last_four
    ? [el("div", { class: "row" }, el("p", { class: "grow" }, "A key that ends in ", el("code", null, `…${provider.last_four}`), " is stored. Paste another to replace it."), el("button", { type: "button", class: "button danger small", onclick: remove }, "Delete"))]
    : [];
  const notice = revoke ? el("div", { class: "notice mild", role: "status" }, el("p", null, `Deleted here. It still works at ${revoke.title}.`), keyPage(revoke, `Revoke it at ${revoke.title}`)) : null;
  document.querySelector("[data-key]").replaceChildren(...[notice, ...parts, keyForm(provider, saved), el("p", { class: "hint" }, "No key yet? ", keyPage(provider, `Make one at ${provider.title}`))].filter(Boolean));
  done("providers", Boolean(provider.last_four));
}

function replaceProvider(item) {
  state.providers = state.providers.map((each) => (each.provider === item.provider ? { ...each, ...item } : each));
}

function drawSnippets() {
  const provider = chosenProvider();
  const place = slot("snippets");
  if (!provider.last_four) {
    place.replaceChildren(el("div", { class: "locked" }, el("p", null, `Save a key of ${provider.title} first: then the code for it is here.`)));
    return;
  }
  const tab = ([name, title]) => el("button", { type: "button", role: "tab", id: `tab-${name}`, class: "key", "aria-selected": String(name === state.language), "aria-controls": "code", tabindex: name === state.language ? "0" : "-1", onclick: () => pick(name) }, title);
  const tabs = el("div", { class: "seg-tabs", role: "tablist", "aria-label": "Language", onkeydown: steer }, LANGUAGES.map(tab));
  const text = snippet(provider.provider, state.language, state.proxy.address, state.masked);
  const copyButton = el("button", { type: "button", class: "button small" }, "Copy with key");
  copyButton.addEventListener("click", () => busy(copyButton, () => copySnippet(provider)));
  const body = el("pre", { tabindex: "0", role: "region", "aria-label": "Code" }, el("code", null, marked(text)));
  const guess = state.proxy.isGuess ? el("p", { class: "hint" }, "The address of the proxy is a guess: whoever runs this Metrion knows it.") : null;
  place.replaceChildren(...[tabs, el("div", { class: "code", role: "tabpanel", id: "code", "aria-labelledby": `tab-${state.language}` }, body, copyButton), guess].filter(Boolean));
}

/** The two values that change stand out. */
function marked(text) {
  const own = [state.masked, state.proxy.address];
  return text.split(/("[^"\n]*"|\S+)/).map((part) => (own.some((each) => part.includes(each)) ? el("span", { class: "own" }, part) : part));
}

async function copySnippet({ provider }) {
  try {
    await copy(snippet(provider, state.language, state.proxy.address, await revealed()), "Code");
  } catch (problem) {
    toast(problem.message);
  }
}

function pick(language) {
  state.language = language;
  drawSnippets();
  document.querySelector(`#tab-${language}`).focus();
}

function steer(event) {
  const names = LANGUAGES.map(([name]) => name);
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  event.preventDefault();
  pick(names[(names.indexOf(state.language) + by + names.length) % names.length]);
}

/** Look for the newest request every other second, as long as somebody looks at the page. */
async function followRequests() {
  const place = slot("request");
  let before; // the newest request when the page was opened; undefined: not asked yet
  let shown = null;

  async function look() {
    const { items } = await ask("logs?range=7d&limit=1");
    const newest = items[0] ?? null;
    if (before === undefined) {
      before = newest?.id ?? null;
      place.replaceChildren(waiting(newest));
    }
    if (newest && newest.id !== before && newest.id !== shown) {
      shown = newest.id;
      place.replaceChildren(arrived(newest));
      done("request", hasWorked(newest));
    }
  }

  async function run() {
    try {
      if (!document.hidden) await look();
    } catch (problem) {
      if (before === undefined) place.replaceChildren(failure(problem, look));
    }
    setTimeout(run, POLL_MS);
  }
  run();
}

function waiting(last) {
  const words = last ? ["Waiting for the next request. The last one came ", ago(last.created_at), "."] : ["Waiting. Run the code above: it shows here within seconds."];
  return el("div", { class: "waiting" }, el("span", { class: "pulse", "aria-hidden": "true" }), el("p", null, words));
}

const hasWorked = ({ status }) => status !== null && status < 400;

function arrived(row) {
  const title = hasWorked(row) ? "It works: your request arrived." : "A request arrived, and failed.";
  const { total_tokens: tokens, cost_usd: cost } = row;
  const facts = [row.model ?? row.provider, " · ", tokens === null ? missing("tokens not reported") : counted(tokens, "token"), " · ", cost === null ? missing("price unknown") : dollars(cost)];
  return el(
    "div",
    { class: hasWorked(row) ? "arrived" : "arrived bad" },
    el("p", null, el("strong", null, title)),
    el("p", null, statusBadge(row), " ", facts),
    row.error ? el("p", null, row.error) : null,
    el("div", { class: "row" }, el("a", { class: "button primary", href: "/overview?range=24h" }, "See it on Overview"), el("a", { class: "button", href: `/logs?range=24h&log=${row.id}` }, "Its line in Logs")),
  );
}

function proxyOf({ proxy_url: address }) {
  return address ? { address: address.replace(/\/$/, ""), isGuess: false } : { address: `${location.protocol}//${location.hostname}:${DEFAULT_PROXY_PORT}`, isGuess: true };
}

async function open() {
  try {
    const [{ items }, meta, { masked }] = await Promise.all([ask("provider-keys"), ask("meta"), ask("token")]);
    state.providers = items;
    state.proxy = proxyOf(meta);
    state.masked = masked;
    state.chosen = (items.find(({ last_four: lastFour }) => lastFour) ?? items.find(({ provider }) => provider === state.chosen) ?? items[0]).provider;
    drawProviders();
    drawSnippets();
  } catch (problem) {
    slot("providers").replaceChildren(failure(problem, open));
    slot("snippets").replaceChildren(el("div", { class: "locked" }, el("p", null, "The code follows when the providers are known.")));
  }
}

showToken(slot("token"), () => done("token", true));
open();
followRequests();
