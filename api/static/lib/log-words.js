// How a log row's status, tokens and cost are said, in the table and in the details alike.

import { el } from "../dom.js";
import { statusTone } from "./colors.js";
import { dollars, integer } from "./format.js";
import { missing } from "./table.js";

export const OUTCOMES = {
  ok: "answered",
  provider_error: "the provider refused or failed",
  refused: "refused by Metrion",
  timeout: "the provider was silent for too long",
  client_closed: "the client left before the end",
  upstream_closed: "the provider broke off",
};

/** The status as a coloured badge, with "Cached" beside it. */
export function statusBadge({ status, outcome, cached }) {
  const badge = el("span", { class: `pill ${statusTone(status)}`, title: OUTCOMES[outcome] ?? outcome }, status === null ? "none" : String(status));
  return [badge, cached ? el("span", { class: "pill cached" }, "Cached") : null];
}

export const tokens = (count) => (count === null ? missing("not reported") : integer(count));
export const cost = (usd) => (usd === null ? missing("unknown") : dollars(usd));
