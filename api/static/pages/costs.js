// Costs: where the money goes, where the month is heading, what caching saved.

import { bars } from "../charts/bars.js";
import { shareBar } from "../charts/share.js";
import { badge, stat } from "../charts/stat.js";
import { timeChart } from "../charts/time-chart.js";
import { el } from "../dom.js";
import { colorsOf } from "../lib/colors.js";
import { pageWith } from "../lib/filters.js";
import { counted, integer } from "../lib/format.js";
import { isPaid, nothingPaid } from "../lib/paid.js";
import "../lib/shell.js";
import { nothing } from "../lib/states.js";
import { missing, table } from "../lib/table.js";
import { slot, usagePage } from "../lib/usage-page.js";

function drawNumbers({ cost, month_to_date: month, projection, cache_saved_usd: saved, cache_answers: cached, cache_unpriced: unknown }, { money, period }) {
  const unpriced = cost.unpriced ? `${integer(cost.unpriced)} with unknown price` : null;
  stat(slot("total"), { value: cost.total === null ? null : money.full(cost.total), missing: "price unknown", notes: [badge(cost.total, cost.previous, { better: "down", show: money.full, period }), unpriced] });
  stat(slot("month"), { value: month === null ? null : money.full(month), missing: "price unknown", notes: ["since the 1st, 00:00 UTC, all filters but the range"] });
  stat(slot("projection"), { value: projection === null ? null : money.full(projection), missing: month === null ? "price unknown" : "too early to say", notes: ["if the rest of the month goes on like this"] });
  stat(slot("saved"), { value: saved === null ? null : money.full(saved), missing: "not known", notes: [el("span", null, `by ${counted(cached, "answer")} from Metrion’s cache`), unknown ? el("span", null, `${integer(unknown)} of unknown price`) : null] });
}

function drawOverTime({ by_model, cost }, { times, timestamps, money }) {
  const models = by_model.filter(isPaid);
  if (!models.length) {
    slot("over-time").replaceChildren(nothing(nothingPaid(cost)));
    return;
  }
  const colors = colorsOf(models.map(({ model }) => model));
  timeChart(slot("over-time"), {
    label: "Cost by model over time",
    kind: "column",
    stacked: true,
    height: 280,
    times,
    timestamps,
    show: money.full,
    showAxis: money.axis,
    unit: money.unit,
    series: models.map(({ model, values }) => ({ name: model ?? "not known", color: colors.get(model), values })),
  });
}

function drawLists(data, { money, times, timestamps }) {
  const steps = data.range.step === "day" ? "Dearest days" : "Dearest hours";
  document.querySelector("#days-title").textContent = steps;
  const providers = data.by_provider.map((each, index) => ({ name: each.provider, value: each.cost, color: `c${index % 8}`, href: pageWith("/costs", { provider: [each.provider] }) }));
  shareBar(slot("providers"), providers, { label: "Cost by provider", show: money.full, head: "Cost" });
  const requesters = data.by_requester.map(({ requester, cost }) => ({ name: requester ?? "no requester", value: cost, href: requester ? pageWith("/costs", { requester: [requester] }) : null }));
  bars(slot("requesters"), requesters, { label: "Cost by requester", show: money.full, head: "Cost" });
  const days = timestamps.map((each, index) => ({ name: times.full(each).replace(" (UTC)", ""), value: data.cost.values[index] })).filter(({ value }) => value > 0);
  days.sort((a, b) => b.value - a.value);
  if (days.length) bars(slot("days"), days, { label: steps, show: money.full, head: "Cost" });
  else slot("days").replaceChildren(nothing(nothingPaid(data.cost)));
}

function drawModels({ models }, { money }) {
  const columns = [
    { title: "Model", wide: true, value: ({ model }) => model, cell: ({ model }) => (model ? el("a", { class: "link", href: pageWith("/logs", { model: [model] }), title: model }, model) : missing("not known")) },
    { title: "Provider", value: ({ provider }) => provider, cell: ({ provider }) => provider ?? "" },
    { title: "Requests", right: true, value: ({ requests }) => requests, cell: ({ requests }) => integer(requests) },
    { title: "Tokens", right: true, value: ({ total_tokens: tokens }) => tokens, cell: ({ total_tokens: tokens }) => (tokens === null ? missing("not reported") : integer(tokens)) },
    { title: "Unknown price", right: true, value: ({ unpriced }) => unpriced, cell: ({ unpriced }) => integer(unpriced) },
    { title: "Per request", right: true, value: perRequest, cell: (row) => (perRequest(row) === null ? missing("unknown") : money.full(perRequest(row))) },
    { title: "Cost", right: true, value: ({ cost }) => cost, cell: ({ cost }) => (cost === null ? missing("price unknown") : money.full(cost)) },
  ];
  table(slot("models"), columns, models, { label: "Cost by model", sort: 6 });
}

function perRequest({ cost, requests, unpriced }) {
  return cost === null || requests <= unpriced ? null : cost / (requests - unpriced);
}

usagePage("costs", {
  isEmpty: ({ models }) => models.length === 0,
  draw(data, context) {
    for (const part of [drawNumbers, drawOverTime, drawLists, drawModels]) part(data, context);
  },
});
