// Overview: what happened, what it cost, where to look next.

import { bars } from "../charts/bars.js";
import { shareBar } from "../charts/share.js";
import { badge, stat } from "../charts/stat.js";
import { timeChart } from "../charts/time-chart.js";
import { el } from "../dom.js";
import { colorsOf, statusColor } from "../lib/colors.js";
import { pageWith } from "../lib/filters.js";
import { compact, duration, integer, percent } from "../lib/format.js";
import { isPaid, nothingPaid } from "../lib/paid.js";
import "../lib/shell.js";
import { nothing } from "../lib/states.js";
import { slot, usagePage } from "../lib/usage-page.js";

const TOKEN_CLASSES = [
  ["input", "Input", "c0"],
  ["output", "Output", "c1"],
];
const TOKEN_PARTS = [
  ["cache_read", "cache read"],
  ["cache_write", "cache write"],
  ["reasoning", "reasoning"],
];

const sum = (values) => values.reduce((total, each) => total + (each ?? 0), 0);

function drawRequests({ requests }, { times, timestamps, period }) {
  const errors = sum(requests.errors);
  stat(slot("requests"), {
    value: integer(requests.total),
    notes: [badge(requests.total, requests.previous, { better: "up", show: integer, period }), `${compact(sum(requests.ok))} ok · ${compact(errors)} ${errors === 1 ? "error" : "errors"}`],
    chart: {
      label: "Requests",
      times,
      timestamps,
      show: integer,
      series: [
        { name: "ok", color: "ok", values: requests.ok },
        { name: "errors", color: "s5", values: requests.errors },
      ],
    },
  });
}

function drawModels({ requests_by_model: models }) {
  const items = models.map(({ model, provider, requests }) => ({
    name: model ?? "not known",
    note: provider,
    value: requests,
    href: model ? pageWith("/logs", { model: [model] }) : null,
  }));
  bars(slot("models"), items, { label: "Requests by model", show: integer, most: 5, head: "Requests" });
}

function drawErrors({ errors }, { period }) {
  const { total, rate, previous_rate: before, by_status: statuses } = errors;
  const place = slot("errors");
  stat(place, { value: integer(total), notes: [badge(rate, before, { better: "down", show: percent, period }), `${percent(rate)} of requests`] });
  const items = statuses.map(({ status, count }) => ({
    name: status === null ? "no answer" : String(status),
    value: count,
    color: statusColor(status),
    href: pageWith("/errors", { status: [status === null ? "none" : `${Math.floor(status / 100)}xx`] }),
  }));
  if (items.length) bars(place.children[1], items, { label: "Errors by status", show: integer, most: 4, head: "Errors" });
  else place.children[1].replaceChildren(nothing("No request failed in this time."));
}

function drawTokens({ tokens }, { times, timestamps }) {
  const parts = TOKEN_PARTS.map(([name, words]) => [sum(tokens[name]), words]).filter(([count]) => count);
  const host = slot("tokens");
  if (!host.querySelector(".chart-place")) host.replaceChildren(el("div", { class: "chart-place" }), el("p", { class: "note" }));
  timeChart(host.children[0], {
    label: "Tokens over time",
    times,
    timestamps,
    stacked: true,
    show: integer,
    showAxis: compact,
    series: TOKEN_CLASSES.map(([name, title, color]) => ({ name: title, color, values: tokens[name] })),
  });
  host.children[1].textContent = parts.length ? `Of these: ${parts.map(([count, words]) => `${compact(count)} ${words}`).join(" · ")}` : "";
}

function drawCosts({ cost_by_model, cost, providers, currency }, { times, timestamps, money, period }) {
  const models = cost_by_model.filter(isPaid);
  const colors = colorsOf(models.map(({ model }) => model));
  if (!models.length) slot("cost-by-model").replaceChildren(nothing(nothingPaid(cost)));
  else timeChart(slot("cost-by-model"), {
    label: "Cost by model",
    times,
    timestamps,
    stacked: true,
    show: money.full,
    showAxis: money.axis,
    unit: money.unit,
    series: models.map(({ model, values }) => ({ name: model ?? "not known", color: colors.get(model), values })),
  });
  const items = providers.map((each, index) => ({ name: each.provider, value: each.cost, color: `c${index % 8}`, href: pageWith("/costs", { provider: [each.provider] }) }));
  shareBar(slot("providers"), items, { label: "Top providers", show: money.full, head: `Cost in ${currency.code}` });
  const unknown = cost.unpriced ? `${integer(cost.unpriced)} with unknown price` : null;
  stat(slot("cost"), {
    value: cost.total === null ? null : money.full(cost.total),
    missing: "price unknown",
    notes: [badge(cost.total, cost.previous, { better: "down", show: money.full, period }), unknown],
    chart: cost.total === null ? null : { label: "Cost", times, timestamps, show: money.full, series: [{ name: "Cost", color: "c0", values: cost.values }] },
  });
}

function drawRequesters({ requesters }, { times, timestamps, period }) {
  stat(slot("requesters"), {
    value: integer(requesters.total),
    notes: requesters.total ? [badge(requesters.total, requesters.previous, { show: integer, period })] : [el("span", null, "Send ", el("code", null, "x-metrion-user"), " to tell them apart")],
    chart: { label: "Requesters", times, timestamps, show: integer, series: [{ name: "Requesters", color: "c1", values: requesters.values }] },
  });
}

function drawLatency({ latency }, { times, timestamps, period }) {
  stat(slot("latency"), {
    value: latency.average_ms === null ? null : duration(latency.average_ms),
    notes: [badge(latency.average_ms, latency.previous_ms, { better: "down", show: duration, period })],
    chart: { label: "Average latency", times, timestamps, show: duration, series: [{ name: "Average", color: "c5", values: latency.values }] },
  });
}

usagePage("overview", {
  isEmpty: ({ requests }) => requests.total === 0,
  draw(data, context) {
    for (const part of [drawRequests, drawModels, drawErrors, drawTokens, drawCosts, drawRequesters, drawLatency]) part(data, context);
  },
});
