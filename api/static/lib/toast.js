// A short word that something was done; read out by screen readers, gone after some seconds.

import { el } from "../dom.js";

/** Show a sentence for a while. */
export function toast(sentence) {
  const note = el("p", { class: "toast" }, sentence);
  document.querySelector("[data-toasts]")?.append(note);
  setTimeout(() => note.remove(), 5000);
}

/** Copy a text, and say so. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied.`);
  } catch {
    toast("The browser does not let the page copy. Select the text and copy it by hand.");
  }
}
