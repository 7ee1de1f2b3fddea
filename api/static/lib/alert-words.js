// What alert rules are called, and how their numbers are written.

import { compact, duration, integer, money } from "./format.js";

export const TYPES = {
  budget: { title: "Budget", hint: "what requests cost", units: ["usd", "eur", "chf"], periods: ["month", "created", "since"] },
  error_rate: { title: "Error rate", hint: "statuses from 400 on", units: ["percent", "count"], periods: ["rolling", "dates"] },
  latency_p95: { title: "Latency p95", hint: "95 of 100 are faster", units: ["ms"], periods: ["rolling", "dates"] },
  request_volume: { title: "Request volume", hint: "how many there are", units: ["count"], periods: ["rolling", "dates"] },
};
export const UNITS = { usd: "USD", eur: "EUR", chf: "CHF", percent: "percent", count: "count", ms: "milliseconds" };
export const PERIODS = { month: "This month", created: "Since the rule was made", since: "Since a day", dates: "From day to day", rolling: "Rolling window" };
export const HOURS = { 1: "this hour", 6: "last 6 hours", 24: "last 24 hours", 168: "last 7 days", 720: "last 30 days" };
/** What a state is called, and the tone of its badge. */
export const STATES = {
  ok: ["Fine", "s2"],
  warning: ["Warning", "s4"],
  alert: ["Reached", "s5"],
  paused: ["Paused", ""],
  no_data: ["No data yet", ""],
  unknown_prices: ["Prices unknown", ""],
  not_begun: ["Not begun", ""],
  ended: ["Ended", ""],
};
/** Why a rule has no value; it is not 0. */
export const REASONS = {
  no_data: "Cannot be judged yet: nothing is recorded for it.",
  unknown_prices: "Cannot be judged: no price is known of its requests.",
  not_begun: "Cannot be judged yet: its period has not begun.",
  paused: "Paused, and nothing is recorded for it.",
};

const CURRENCIES = new Set(["usd", "eur", "chf"]);
const utcDay = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" });
const dayText = (day) => utcDay.format(new Date(`${day}T00:00:00Z`));
const tenths = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

/** Formatters for a rule's numbers: `full` and, for axes, `axis`. */
export function amounts({ unit }) {
  if (CURRENCIES.has(unit)) {
    const currency = unit.toUpperCase();
    const { full, axis } = money({ code: currency, rate: 1 });
    // beside its threshold, 0.00195 is not 0.002
    const small = new Intl.NumberFormat(undefined, { style: "currency", currency, maximumSignificantDigits: 3 });
    return { full: (value) => (value > 0 && value < 0.1 ? small.format(value) : full(value)), axis };
  }
  const orDash = (show) => (value) => (value === null || value === undefined ? "–" : show(value));
  if (unit === "percent") return { full: orDash((value) => `${tenths.format(value)} %`), axis: orDash((value) => `${tenths.format(value)} %`) };
  if (unit === "ms") return { full: duration, axis: duration };
  return { full: integer, axis: compact };
}

/** "last 24 hours", "this month", "since Jan 1, 2026" */
export function periodText({ kind, from, to, hours }) {
  if (kind === "rolling") return HOURS[hours] ?? `last ${hours} hours`;
  if (kind === "since") return `since ${dayText(from)}`;
  if (kind === "dates") return `${dayText(from)} to ${dayText(to)}`;
  return PERIODS[kind].toLowerCase();
}

/** The rule's name, or what it watches. */
export const titleOf = (rule) => rule.name || `${TYPES[rule.type].title}, ${periodText(rule.period)}`;
