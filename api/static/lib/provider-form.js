// Pasting a provider's key: sent once, then forgotten by the page.

import { el } from "../dom.js";
import { ask } from "./api.js";
import { confirmed } from "./dialog.js";
import { busy } from "./states.js";
import { icon } from "./svg.js";
import { toast } from "./toast.js";

/** A link to a provider's own page of keys. */
export function keyPage({ title, key_page: page }, words) {
  return el("a", { class: "link", href: page, target: "_blank", rel: "noopener noreferrer" }, words ?? `Keys at ${title}`, el("span", { class: "sr-only" }, " (opens in a new tab)"));
}

/** The form for one provider; `saved(item)` is called with what the API answered. */
export function keyForm(provider, saved) {
  const id = `key-${provider.provider}`;
  const input = el("input", { type: "password", id, autocomplete: "off", spellcheck: "false", required: "", maxlength: "4096", placeholder: `Paste a key of ${provider.title}`, "aria-describedby": `${id}-wrong` });
  const wrong = el("p", { class: "wrong", role: "alert", id: `${id}-wrong` });
  const button = el("button", { class: "button primary" }, "Save");

  function save(event) {
    event.preventDefault();
    wrong.textContent = "";
    const key = input.value.trim();
    return busy(button, async () => {
      try {
        const item = await ask(`provider-keys/${provider.provider}`, { method: "PUT", body: { key } });
        input.value = "";
        toast(`Key of ${provider.title} saved: it ends in ${item.last_four}.`);
        if (item.warning) toast(item.warning);
        saved(item);
      } catch (problem) {
        wrong.textContent = problem.message;
        input.focus();
      }
    });
  }

  const label = el("label", { for: id, class: "sr-only" }, `Key of ${provider.title}`);
  return el("form", { class: "field", onsubmit: save }, label, el("div", { class: "row" }, el("div", { class: "grow" }, input), button), wrong);
}

/** Ask, then delete a stored key; `deleted()` is called when it is gone. */
export async function deleteKey(provider, deleted) {
  const { title } = provider;
  const text = `Requests that use it are refused from now on. The key still works at ${title} itself: revoke it there too.`;
  if (!(await confirmed({ title: `Delete the key of ${title}?`, text, action: "Delete" }))) return;
  try {
    await ask(`provider-keys/${provider.provider}`, { method: "DELETE" });
    toast(`Key of ${title} deleted.`);
    deleted();
  } catch (problem) {
    toast(problem.message);
  }
}

/** What is known of a stored key: its last four characters. */
export function storedHint({ last_four: lastFour }) {
  return lastFour ? el("span", { class: "hint" }, el("span", { class: "has" }, icon("check")), `…${lastFour}`) : el("span", { class: "hint" }, "no key yet");
}
