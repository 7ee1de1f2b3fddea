// What a place shows when it has nothing to show: empty (and what to do next), or failed.

import { el } from "../dom.js";
import { icon } from "./svg.js";

/** An empty state: why there is nothing, and the next step. */
export function empty({ glyph = "chart", title, text, actions = [] }) {
  return el("div", { class: "card empty s12" }, icon(glyph), el("h2", null, title), el("p", null, text), el("div", { class: "row" }, actions));
}

/** One quiet sentence in a card that has nothing to draw. */
export function nothing(sentence) {
  return el("p", { class: "nothing" }, sentence);
}

/** A failure, with a button that tries again. */
export function failure(problem, retry) {
  const again = el("button", { type: "button", class: "button small", onclick: retry }, "Try again");
  const where = problem.requestId ? el("span", { class: "hint" }, `Request ${problem.requestId}`) : null;
  return el("div", { class: "notice", role: "alert" }, el("p", null, problem.message), where, again);
}

/** Run what a button does: it cannot be pressed twice, and tells screen readers that it works. */
export async function busy(button, work) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await work();
  } finally {
    button.removeAttribute("aria-busy");
  }
}
