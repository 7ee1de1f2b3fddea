// The Metrion Key: masked, shown for a while on demand, copied without being shown.

import { el } from "../dom.js";
import { ask } from "./api.js";
import { dateText } from "./format.js";
import { busy, failure } from "./states.js";
import { copy } from "./toast.js";

const SHOWN_MS = 60_000;

/** The key in clear; asked for each time, never kept longer than it is used. */
export async function revealed() {
  return (await ask("token/reveal", { method: "POST" })).token;
}

/** Show the key in `host`, then call `shown`. Returns `{ show(token) }` for a key that was just made. */
export async function showToken(host, shown = () => {}) {
  let known;
  try {
    known = await ask("token");
  } catch (problem) {
    host.replaceChildren(failure(problem, () => showToken(host, shown)));
    return { show: () => showToken(host, shown) };
  }
  let timer = 0;
  const text = el("code", { "data-token": "" }, known.masked);
  const reveal = el("button", { type: "button", class: "button", "aria-pressed": "false" }, "Reveal");
  const copyButton = el("button", { type: "button", class: "button primary" }, "Copy");
  const wrong = el("p", { class: "wrong", role: "alert" });
  const since = el("p", { class: "hint" }, `Made on ${dateText(known.created_at)}.`);

  function hide() {
    clearTimeout(timer);
    text.textContent = known.masked;
    reveal.textContent = "Reveal";
    reveal.setAttribute("aria-pressed", "false");
  }

  function show(token) {
    known = { ...known, masked: known.masked.slice(0, -4) + token.slice(-4) };
    text.textContent = token;
    reveal.textContent = "Hide";
    reveal.setAttribute("aria-pressed", "true");
    clearTimeout(timer);
    timer = setTimeout(hide, SHOWN_MS);
  }

  const trying = (button, work) => () =>
    busy(button, async () => {
      wrong.textContent = "";
      try {
        await work();
      } catch (problem) {
        wrong.textContent = problem.message;
      }
    });
  reveal.addEventListener("click", trying(reveal, async () => (reveal.getAttribute("aria-pressed") === "true" ? hide() : show(await revealed()))));
  copyButton.addEventListener("click", trying(copyButton, async () => copy(await revealed(), "Metrion Key")));
  document.addEventListener("visibilitychange", () => document.hidden && hide());
  host.replaceChildren(el("div", { class: "secret" }, text, reveal, copyButton), since, wrong);
  shown();
  return { show };
}
