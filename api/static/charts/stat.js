// A card with one number: the number, how it compares with the period before, a small chart.

import { el } from "../dom.js";
import { integer, percent } from "../lib/format.js";
import { timeChart } from "./time-chart.js";

const MANIFOLD = 10; // from here on it is said how many times as much, not how many per cent more

/**
 * The badge of a change. `better` is "up", "down" or null (neither is good or bad); the period
 * before has no data: null.
 */
export function badge(now, before, { better = null, show, period }) {
  if (before === null || before === undefined || now === null || now === undefined) return el("span", null, "nothing to compare with yet");
  const title = `${show(before)} in the ${period} before`;
  if (before === 0) return el("span", { class: "delta", title }, now === 0 ? "unchanged at 0" : "new: 0 before");
  const change = now / before - 1;
  if (Math.abs(change) < 0.0005) return el("span", { class: "delta", title }, "unchanged");
  const up = change > 0;
  const tone = better === null ? "" : (better === "up") === up ? "good" : "bad";
  return el(
    "span",
    { class: `delta ${tone}`, title },
    el("span", { "aria-hidden": "true" }, up ? "▲" : "▼"),
    el("span", { class: "sr-only" }, up ? "up" : "down"),
    now / before < MANIFOLD ? percent(Math.abs(change)) : `${integer(now / before)} times`,
  );
}

/** Fill a stat card: value (a text, null: nothing to say), under it `notes`, below the chart. */
export function stat(host, { value, missing = "no data", notes = [], chart = null }) {
  if (!host.querySelector(".stat-top")) host.replaceChildren(el("div", { class: "stat-top" }), el("div", { class: "stat-chart" }));
  const [top, below] = host.children;
  top.replaceChildren(
    el("p", { class: value === null ? "value missing" : "value" }, value ?? missing),
    el("div", { class: "under" }, notes.flat().filter(Boolean)),
  );
  if (chart) timeChart(below, { bare: true, kind: "line", height: 64, ...chart });
  else below.replaceChildren();
}
