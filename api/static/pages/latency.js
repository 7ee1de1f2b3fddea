// Latency: how long answers take, and how little of it is Metrion.

import { badge, stat } from "../charts/stat.js";
import { timeChart } from "../charts/time-chart.js";
import { el } from "../dom.js";
import { pageWith } from "../lib/filters.js";
import { duration, integer } from "../lib/format.js";
import "../lib/shell.js";
import { missing, table } from "../lib/table.js";
import { slot, usagePage } from "../lib/usage-page.js";

const PERCENTILES = [
  ["p50", "c0"],
  ["p95", "c2"],
  ["p99", "c4"],
];

function drawNumbers({ overall }, { period }) {
  for (const [name] of PERCENTILES) {
    const value = overall[name];
    const before = overall[`previous_${name}`]; // not every percentile is compared
    const note = before === undefined ? "of all requests in this time" : badge(value, before, { better: "down", show: duration, period });
    stat(slot(name), { value: value === null ? null : duration(value), notes: [note] });
  }
}

function drawPercentiles(data, { times, timestamps }) {
  const series = PERCENTILES.map(([name, color]) => ({ name, color, values: data[name] }));
  timeChart(slot("percentiles"), { label: "Latency over time", kind: "line", height: 290, times, timestamps, show: duration, series });
}

function drawParts({ ttfb, overhead }, { times, timestamps }) {
  const parts = [
    ["ttfb", "Time to first byte", ttfb, "c1"],
    ["overhead", "Metrion’s own share", overhead, "c3"],
  ];
  for (const [name, label, { average_ms: average, values }, color] of parts) {
    const host = slot(name);
    if (!host.querySelector(".chart-place")) host.replaceChildren(el("p", { class: "stat" }, el("span", { class: "value" })), el("div", { class: "chart-place" }));
    host.querySelector(".value").textContent = average === null ? "no data" : duration(average);
    timeChart(host.children[1], { label, kind: "line", height: 170, times, timestamps, show: duration, series: [{ name: "average", color, values }] });
  }
}

function drawModels({ by_model: models }) {
  const time = (title, name) => ({ title, right: true, value: (row) => row[name], cell: (row) => (row[name] === null ? missing("no data") : duration(row[name])) });
  const columns = [
    { title: "Model", wide: true, value: ({ model }) => model, cell: ({ model }) => (model ? el("a", { class: "link", href: pageWith("/logs", { model: [model] }), title: model }, model) : missing("not known")) },
    { title: "Provider", value: ({ provider }) => provider, cell: ({ provider }) => provider ?? "" },
    { title: "Requests", right: true, value: ({ requests }) => requests, cell: ({ requests }) => integer(requests) },
    time("First byte, p50", "ttfb_p50"),
    time("p50", "p50"),
    time("p95", "p95"),
    time("p99", "p99"),
  ];
  table(slot("models"), columns, models, { label: "Latency by model", sort: 2 });
}

usagePage("latency", {
  isEmpty: ({ by_model: models }) => models.length === 0,
  draw(data, context) {
    for (const part of [drawNumbers, drawPercentiles, drawParts, drawModels]) part(data, context);
  },
});
