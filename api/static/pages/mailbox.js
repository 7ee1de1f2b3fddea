// The mailbox of a Metrion without a mail server: the mails to the account's address.

import { el } from "../dom.js";
import { ask } from "../lib/api.js";
import { wholeMoment } from "../lib/format.js";
import "../lib/shell.js";
import { empty, failure } from "../lib/states.js";

const place = document.querySelector('[data-slot="mails"]');
const SECONDS = 3;
let shown = "";

function letter({ name, subject, text, sent_at: sentAt }) {
  const when = sentAt ? el("p", { class: "note" }, wholeMoment(sentAt)) : null;
  return el("section", { class: "card", "aria-label": subject, "data-mail": name }, el("div", { class: "card-head" }, el("h2", null, subject), when), el("pre", { class: "letter", tabindex: "0", role: "region", "aria-label": `Text of: ${subject}` }, text));
}

async function load() {
  if (document.hidden) return;
  try {
    const { items } = await ask("mailbox");
    const names = items.map(({ name }) => name).join();
    if (names === shown && place.querySelector("[data-mail]")) return;
    shown = names;
    const none = empty({ glyph: "mailbox", title: "No mail yet", text: "Codes for signing in and alerts that would be mailed to your address are shown here as soon as there are some.", actions: [el("a", { class: "button", href: "/alerts" }, "Alert rules")] });
    place.replaceChildren(...(items.length ? items.map(letter) : [none]));
  } catch (problem) {
    shown = "";
    place.replaceChildren(failure(problem, load));
  }
}

async function run() {
  await load();
  setTimeout(run, SECONDS * 1000);
}

document.addEventListener("visibilitychange", load);
run();
