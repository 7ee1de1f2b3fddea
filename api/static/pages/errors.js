// Errors: how many, which, since when, and what the last ones said.

import { bars } from "../charts/bars.js";
import { badge, stat } from "../charts/stat.js";
import { timeChart } from "../charts/time-chart.js";
import { el } from "../dom.js";
import { pageWith } from "../lib/filters.js";
import { ago, counted, integer, percent, wholeMoment } from "../lib/format.js";
import { statusBadge } from "../lib/log-words.js";
import "../lib/shell.js";
import { empty, nothing } from "../lib/states.js";
import { missing } from "../lib/table.js";
import { slot, usagePage } from "../lib/usage-page.js";

// Ours and theirs to mend stay apart: ambers and greens for 4xx, reds, purples and blues for 5xx.
const CODE_COLORS = { 429: "c2", 400: "c7", 401: "c6", 404: "c3", 500: "s5", 529: "c5", 502: "c4", 503: "c0", 504: "c1" };
const codeName = (code) => (code === null ? "no answer" : String(code));

function colorOf(code) {
  if (code === null) return "other";
  return CODE_COLORS[code] ?? (code >= 500 ? "s5" : "s4");
}

function drawNumbers({ total, rate, previous, previous_rate: before, requests, by_code: codes }, { period, times, timestamps }) {
  const values = timestamps.map((_, index) => codes.reduce((sum, each) => sum + each.values[index], 0));
  stat(slot("total"), {
    value: integer(total),
    notes: [badge(total, previous, { better: "down", show: integer, period }), `of ${counted(requests, "request")}`],
    chart: { label: "Errors", times, timestamps, show: integer, series: [{ name: "Errors", color: "s5", values }] },
  });
  // of more than a fifth "1 in n" would be far off: 40 % is neither 1 in 2 nor 1 in 3
  const often = total === 0 ? null : rate > 0.2 ? `about ${integer(rate * 10)} in 10` : `about 1 in ${integer(requests / total)}`;
  stat(slot("rate"), { value: percent(rate), notes: [badge(rate, before, { better: "down", show: percent, period }), often] });
}

function drawCodes({ by_code: codes }, { times, timestamps }) {
  const items = codes.map(({ code, total }) => ({ name: codeName(code), value: total, color: colorOf(code) }));
  if (items.length) bars(slot("codes"), items, { label: "Errors by status", show: integer, most: 4, head: "Errors" });
  else slot("codes").replaceChildren(nothing("No request failed in this time."));
  if (!codes.length) slot("over-time").replaceChildren(nothing("No request failed in this time."));
  else timeChart(slot("over-time"), {
    label: "Errors over time",
    kind: "column",
    stacked: true,
    height: 230,
    times,
    timestamps,
    show: integer,
    series: codes.map(({ code, values }) => ({ name: codeName(code), color: colorOf(code), values })),
  });
}

function drawRecent({ recent }) {
  if (!recent.length) {
    slot("recent").replaceChildren(nothing("No request failed in this time."));
    return;
  }
  // What is apart has no column on a phone: there the model stands over the message.
  const heads = [["Status"], ["When"], ["Model", "apart"], ["Provider", "apart"], ["Requester", "apart"], ["Message"]];
  const line = (row) =>
    el(
      "tr",
      null,
      el("td", null, statusBadge(row)),
      el("td", { title: wholeMoment(row.created_at) }, el("a", { class: "link", href: pageWith("/logs", {}) + `&log=${row.id}` }, ago(row.created_at))),
      el("td", { class: "wide apart", title: row.model ?? "" }, row.model ?? missing("not known")),
      el("td", { class: "apart" }, row.provider),
      el("td", { class: "wide apart", title: row.requester ?? "" }, row.requester ?? ""),
      el("td", { class: "message" }, el("span", { class: "short dim" }, row.model ?? row.provider), row.error ?? missing("no message")),
    );
  const body = el("table", { class: "table" }, el("thead", null, el("tr", null, heads.map(([title, kind]) => el("th", { scope: "col", class: kind }, title)))), el("tbody", null, recent.map(line)));
  slot("recent").replaceChildren(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Most recent errors: table" }, body));
}

function drawNone({ requests }) {
  const whole = empty({ glyph: "check", title: "No errors", text: `${counted(requests, "request")} in this time, and none failed.` });
  slot("notice").hidden = false;
  slot("notice").replaceChildren(whole);
}

usagePage("errors", {
  isEmpty: ({ requests }) => requests === 0,
  draw(data, context) {
    if (data.total === 0) drawNone(data);
    for (const part of [drawNumbers, drawCodes, drawRecent]) part(data, context);
  },
});
