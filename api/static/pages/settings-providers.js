// Settings, Providers: which keys are stored, replace them, delete them.

import { el } from "../dom.js";
import { ask } from "../lib/api.js";
import { dateText } from "../lib/format.js";
import { deleteKey, keyForm, keyPage } from "../lib/provider-form.js";
import "../lib/shell.js";
import { failure } from "../lib/states.js";

const place = document.querySelector('[data-slot="providers"]');

function line(provider) {
  const item = el("div", { class: "provider", "data-provider": provider.provider });
  const draw = (each, isOpen = false, isDeleted = false) => {
    const { title, last_four: lastFour, created_at: created } = each;
    const about = lastFour ? ["ends in ", el("code", null, `…${lastFour}`), `, saved on ${dateText(created)}`] : ["no key"];
    const edit = el("button", { type: "button", class: "button small", "aria-expanded": String(isOpen), "aria-label": `${lastFour ? "Replace" : "Add"} the key of ${title}`, onclick: () => draw(each, !isOpen) }, isOpen ? "Cancel" : lastFour ? "Replace" : "Add a key");
    const remove = lastFour ? el("button", { type: "button", class: "button danger small", "aria-label": `Delete the key of ${title}`, onclick: () => deleteKey(each, () => draw({ ...each, last_four: null, created_at: null }, false, true)) }, "Delete") : null;
    const revoke = isDeleted ? el("div", { class: "notice mild", role: "status" }, el("p", null, `Deleted here. It still works at ${title}.`), keyPage(each, `Revoke it at ${title}`)) : null;
    const form = isOpen ? [keyForm(each, (saved) => draw({ ...each, ...saved })), el("p", { class: "hint" }, keyPage(each))] : [];
    const head = el("div", { class: "row" }, el("div", { class: "who" }, el("b", null, title), el("span", { class: "hint" }, about)), edit, remove);
    item.replaceChildren(...[head, revoke, ...form].filter(Boolean));
    if (isOpen) item.querySelector("input").focus();
  };
  draw(provider);
  return item;
}

async function load() {
  try {
    const { items } = await ask("provider-keys");
    place.replaceChildren(...items.map(line));
  } catch (problem) {
    place.replaceChildren(failure(problem, load));
  }
}

load();
