// Asking "are you sure?" in the page's own words.

import { el } from "../dom.js";

/** Ask; resolves to whether the person agreed. Escape and *Cancel* mean no. */
export function confirmed({ title, text, action }) {
  const { promise, resolve } = Promise.withResolvers();
  const cancel = el("button", { class: "button", value: "", autofocus: "" }, "Cancel");
  const agree = el("button", { class: "button danger", value: "yes" }, action);
  const dialog = el(
    "dialog",
    { class: "ask", "aria-labelledby": "ask-title", "aria-describedby": "ask-text" },
    el("h2", { id: "ask-title" }, title),
    el("p", { id: "ask-text" }, text),
    el("form", { method: "dialog", class: "row" }, cancel, agree),
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.returnValue === "yes");
  });
  document.body.append(dialog);
  dialog.showModal();
  return promise;
}
