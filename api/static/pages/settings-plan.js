// Settings, Plan: what the plan gives, how much of the month is used.

import { el } from "../dom.js";
import { integer, percent } from "../lib/format.js";
import { account } from "../lib/shell.js";
import { failure } from "../lib/states.js";

const PLANS = [
  ["free", "Free", ["10,000 requests a month", "Log rows for 7 days", "Daily records without end"]],
  ["pro", "Pro", ["No monthly limit", "Log rows for 90 days", "Daily records without end"]],
];
const place = document.querySelector('[data-slot="plan"]');

function used({ month_requests: count, month_limit: limit }) {
  if (limit === null) return el("p", null, `${integer(count)} requests this month. There is no limit.`);
  const share = Math.min(1, count / limit);
  const full = count >= limit ? el("div", { class: "notice mild" }, el("p", null, "The month is used up: requests are refused until the 1st, 00:00 UTC. What was recorded stays readable.")) : null;
  return el(
    "div",
    { class: "stack" },
    el("p", null, el("strong", null, integer(count)), ` of ${integer(limit)} requests this month (${percent(share)})`),
    el("div", { class: "meter", role: "meter", "aria-label": "Requests this month", "aria-valuemin": 0, "aria-valuemax": limit, "aria-valuenow": Math.min(count, limit) }, el("span", { style: { "--w": `${100 * share}%` } })),
    full,
    el("p", { class: "hint" }, "Counted anew from the 1st of each month, 00:00 UTC."),
  );
}

function planCard(mine, [name, title, gives]) {
  const isMine = name === mine;
  return el("div", { class: "plan-card", "data-mine": isMine ? "" : null }, el("h3", null, title, isMine ? el("span", { class: "plan" }, "yours") : null), el("ul", { class: "plain" }, gives.map((each) => el("li", null, each))));
}

try {
  const mine = await account;
  place.replaceChildren(
    el("div", { class: "stack" }, used(mine), el("div", { class: "plans" }, PLANS.map((each) => planCard(mine.plan, each))), el("p", { class: "hint" }, "Whoever runs this Metrion can change your plan.")),
  );
} catch (problem) {
  place.replaceChildren(failure(problem, () => location.reload()));
}
