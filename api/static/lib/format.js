// Numbers, money, durations and times as people read them, in the browser's language.
// Null is never shown as 0: it is *not reported* (tokens), *unknown* (prices), or a dash in charts.

const numbers = new Map();

function format(options, value) {
  const name = JSON.stringify(options);
  if (!numbers.has(name)) numbers.set(name, new Intl.NumberFormat(undefined, options));
  return numbers.get(name).format(value);
}

/** A formatter of moments, made when it is needed first: that takes milliseconds. */
function moment(options) {
  let made = null;
  return (when) => (made ??= new Intl.DateTimeFormat(undefined, options)).format(when);
}

export const DASH = "–";

const orDash = (show) => (value) => (value === null || value === undefined ? DASH : show(value));

/** 1,234,567 */
export const integer = orDash((value) => format({ maximumFractionDigits: 0 }, value));

/** "1 request", "2,000 requests" */
export const counted = (count, one, many = `${one}s`) => `${integer(count)} ${count === 1 ? one : many}`;

/** 1.2M: for axes and tight places. */
export const compact = orDash((value) => format({ notation: "compact", maximumFractionDigits: 1 }, value));

/** A share between 0 and 1 as a percentage; what is there is never shown as 0 %. */
export const percent = orDash((share) => {
  const small = share !== 0 && Math.abs(share) < 0.001;
  const digits = share === 0 || Math.abs(share) === 1 ? 0 : 1;
  return format({ style: "percent", ...(small ? { maximumSignificantDigits: 1 } : { minimumFractionDigits: digits, maximumFractionDigits: 1 }) }, share);
});

/** Milliseconds, in the unit that fits. */
export const duration = orDash((ms) => {
  // what would read 1,000 ms is a second
  if (ms >= 60_000) return `${format({ maximumFractionDigits: 1 }, ms / 60_000)} min`;
  if (ms >= 999.5) return `${format({ minimumFractionDigits: 2, maximumFractionDigits: 2 }, ms / 1000)} s`;
  if (ms >= 10 || ms === 0) return `${format({ maximumFractionDigits: 0 }, ms)} ms`;
  return `${format({ maximumSignificantDigits: 2 }, ms)} ms`;
});

/** Formatters of US dollar amounts in the account's currency, `{code, rate, date}`. */
export function money(currency) {
  const { code, rate } = currency;
  const show = (options) => orDash((usd) => format({ style: "currency", currency: code, ...options(Math.abs(usd * rate)) }, usd * rate));
  return {
    unit: rate,
    full: show((amount) => (amount > 0 && amount < 0.1 ? { minimumSignificantDigits: 2, maximumSignificantDigits: 2 } : {})),
    axis: show((amount) => (amount < 10 && amount % 1 ? { maximumSignificantDigits: 2, minimumFractionDigits: 0 } : { notation: "compact", minimumFractionDigits: 0, maximumFractionDigits: 1 })),
  };
}

/** US dollars with the digits that one request's cost needs: $0.000155. */
export const dollars = orDash((usd) => format({ style: "currency", currency: "USD", minimumFractionDigits: usd ? 6 : 2, maximumFractionDigits: 6 }, usd));

// A day in the records is a UTC day, so it is shown as one; hours and moments are local.
const day = moment({ month: "short", day: "numeric", timeZone: "UTC" });
const longDay = moment({ weekday: "short", month: "short", day: "numeric", year: "numeric", timeZone: "UTC" });
const hour = moment({ hour: "2-digit", minute: "2-digit" });
const dayHour = moment({ month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const second = moment({ month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const whole = moment({ dateStyle: "medium", timeStyle: "medium" });
const date = moment({ dateStyle: "medium" });

/** The labels of a time axis: `{ axis, full }` for seconds since 1970 in steps of hours or days. */
export function timeLabels(step) {
  const from = (show) => (seconds) => show(seconds * 1000);
  return step === "day" ? { axis: from(day), full: (t) => `${from(longDay)(t)} (UTC)` } : { axis: from(hour), full: from(dayHour) };
}

export const momentText = (text) => second(new Date(text));
export const wholeMoment = (text) => whole(new Date(text));
export const dateText = (text) => date(new Date(text));

/** "3 minutes ago" */
export function ago(text) {
  const seconds = (new Date(text) - Date.now()) / 1000;
  const units = [["day", 86_400], ["hour", 3600], ["minute", 60]];
  const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  const words = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
  return words.format(Math.round(seconds / size), unit);
}
