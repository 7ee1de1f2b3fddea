// A chart over time: stacked areas, lines or stacked columns, with legend, tooltip, keyboard
// reading and the same numbers as a table. `bare` is the small one of a card: no axes, no legend.

import { el } from "../dom.js";
import { svg, swatch } from "../lib/svg.js";
import { dataTable } from "./data-table.js";
import { areas, axes, columns, lines, pointer } from "./marks.js";
import { layered, makeScale, niceTicks } from "./scale.js";

const MARGIN = { left: 52, right: 10, top: 10, bottom: 24 };
const LETTER = 6.4; // the width of an axis' digit
const BARE_MARGIN = { left: 4, right: 4, top: 6, bottom: 4 };
const charts = new WeakMap();

/**
 * Show a chart in `host`, or give the one that is there new numbers (what is hidden stays so).
 *
 * options: label; times (texts: `{axis, full}` functions of a timestamp); timestamps;
 * series `[{name, color, values}]` (null: no value); kind "area" | "line" | "column";
 * stacked; show and showAxis (number → text); unit: what a value is multiplied with when it is
 * shown (ticks are round in it); height; bare.
 */
export function timeChart(host, options) {
  const there = charts.get(host);
  if (there?.element.isConnected) there.update(options);
  else charts.set(host, new TimeChart(host, options));
}

class TimeChart {
  #hidden = new Set();
  #active = -1;
  #size = null; // not known before the first layout
  #scale = null;
  #layers = [];

  constructor(host, options) {
    this.options = options;
    this.plot = svg("svg", { class: "plot", "aria-hidden": "true" });
    this.marks = svg("g");
    this.pointer = svg("g");
    this.plot.append(this.marks, this.pointer);
    this.tip = el("div", { class: "tip", hidden: true });
    this.box = el(
      "div",
      {
        class: "plot-box",
        role: "slider",
        tabindex: "0",
        style: { "--h": `${options.height ?? 250}px` },
        onpointermove: (event) => this.#pointAt(event),
        onpointerleave: () => this.#leave(),
        onblur: () => this.#leave(),
        onkeydown: (event) => this.#steer(event),
      },
      this.plot,
    );
    // A bare chart's legend is its card; the tip is outside the slider, whose children are not read.
    this.legend = el("div", { class: "legend", role: "group", "aria-label": `${options.label}: series` });
    this.table = el("div");
    const area = el("div", { class: "plot-area" }, this.box, this.tip);
    this.element = el("div", { class: options.bare ? "chart bare" : "chart" }, options.bare ? null : this.legend, area, this.table);
    host.replaceChildren(this.element);
    this.update(options);
    // It tells the first size, too, after the layout: charts that ask for theirs one by one would
    // have the page laid out as often.
    new ResizeObserver(([{ contentRect }]) => {
      this.#size = contentRect;
      this.#draw();
    }).observe(this.box);
  }

  update(options) {
    this.options = options;
    this.#hidden = new Set([...this.#hidden].filter((name) => options.series.some((each) => each.name === name)));
    this.#drawLegend();
    const open = this.table.querySelector("details")?.open;
    this.table.replaceChildren(this.#dataTable());
    if (open) this.table.querySelector("details").open = true;
    const last = options.timestamps.length - 1;
    const attributes = { "aria-label": `${options.label}. Arrow keys read the values.`, "aria-valuemin": 0, "aria-valuemax": Math.max(0, last) };
    for (const [name, value] of Object.entries(attributes)) this.box.setAttribute(name, value);
    this.#active = Math.min(this.#active, last);
    this.#tell(this.#active < 0 ? last : this.#active);
    this.#draw();
  }

  #drawLegend() {
    if (this.options.bare) return;
    const keys = this.options.series.map(({ name, color }) =>
      el(
        "button",
        { type: "button", class: "key", "aria-pressed": String(!this.#hidden.has(name)), title: `${name}: show or hide`, style: { "--c": `var(--${color})` }, onclick: () => this.#toggle(name) },
        swatch(color),
        el("span", null, name),
      ),
    );
    this.legend.replaceChildren(...keys);
  }

  #toggle(name) {
    if (!this.#hidden.delete(name)) this.#hidden.add(name);
    if (this.#hidden.size === this.options.series.length) this.#hidden.clear();
    this.options.series.forEach((each, index) => this.legend.children[index].setAttribute("aria-pressed", String(!this.#hidden.has(each.name))));
    this.#tell(Number(this.box.getAttribute("aria-valuenow")));
    this.#draw();
  }

  #dataTable() {
    const { label, times, timestamps, series, show } = this.options;
    const rows = () => timestamps.map((each, index) => [times.full(each), ...series.map(({ values }) => show(values[index]))]);
    return dataTable(label, ["Time", ...series.map(({ name }) => name)], rows);
  }

  #draw() {
    const { timestamps, series, kind = "area", stacked, bare, show, showAxis = show, times, unit = 1 } = this.options;
    if (!this.#size?.width || !timestamps.length) return;
    const { width, height } = this.#size;
    this.#layers = layered(series.filter(({ name }) => !this.#hidden.has(name)), stacked);
    const largest = Math.max(0, ...this.#layers.flatMap(({ high }) => high.map((each) => each ?? 0)));
    const isWhole = unit === 1 && this.#layers.every(({ high }) => high.every((each) => Number.isInteger(each ?? 0)));
    const ticks = niceTicks(largest * unit, height < 180 ? 4 : 5, isWhole).map((each) => each / unit);
    const top = bare ? largest || 1 : ticks.at(-1);
    const longest = Math.max(...ticks.map((each) => showAxis(each).length));
    const margin = bare ? BARE_MARGIN : { ...MARGIN, left: Math.max(MARGIN.left, 10 + longest * LETTER) };
    this.#scale = makeScale({ width, height, count: timestamps.length, top, margin, banded: kind === "column" });
    const drawn = this.#layers.flatMap((layer) => this.#drawLayer(layer, kind, stacked, bare));
    const frame = bare ? [] : axes(this.#scale, ticks, timestamps.length, showAxis, (index) => times.axis(timestamps[index]));
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.marks.replaceChildren(...frame, ...drawn);
    if (this.#active >= 0) this.#point(this.#active);
  }

  #drawLayer(layer, kind, stacked, bare) {
    if (kind === "column") return columns(layer, this.#scale);
    const line = lines(layer, this.#scale);
    if (stacked) return [...areas(layer, this.#scale), ...line];
    return bare ? [...areas(layer, this.#scale, "bare-area"), ...line] : line;
  }

  #pointAt(event) {
    if (!this.#scale) return;
    this.#point(this.#scale.indexAt(event.clientX - this.box.getBoundingClientRect().left));
  }

  #steer(event) {
    const last = this.options.timestamps.length - 1;
    const from = this.#active < 0 ? last + (event.key === "ArrowLeft" ? 1 : 0) : this.#active;
    const to = { ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1, PageDown: from - 7, PageUp: from + 7, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.#leave();
    if (to === undefined || !this.#scale) return;
    event.preventDefault();
    this.#point(Math.min(last, Math.max(0, to)));
  }

  #point(index) {
    this.#active = index;
    this.#tell(index);
    const layers = this.#layers;
    this.pointer.replaceChildren(...pointer(index, layers, this.#scale, this.options.kind !== "column"));
    this.tip.replaceChildren(...this.#tipLines(index));
    this.tip.hidden = false;
    const x = this.#scale.x(index);
    const { offsetWidth: width } = this.tip;
    const right = x + 16 + width;
    const left = right > this.#scale.width ? x - 16 - width : x + 16;
    const lift = this.options.bare ? -this.tip.offsetHeight - 4 : 4;
    this.tip.style.transform = `translate(${Math.round(Math.max(-8, left))}px, ${lift}px)`;
  }

  #tipLines(index) {
    const { times, timestamps, show, stacked } = this.options;
    const all = this.#layers.toReversed();
    // Of many series the ones with something to say; the table has them all.
    const layers = all.length > 8 ? all.filter(({ values }) => values[index]) : all;
    const items = layers.map((layer) =>
      el("div", { class: "line-item" }, swatch(layer.color), el("span", null, layer.name), el("b", null, show(layer.values[index]))),
    );
    const total = all.reduce((sum, { values }) => sum + (values[index] ?? 0), 0);
    const sum = stacked && all.length > 1 ? el("div", { class: "line-item sum" }, el("span", null, "Total"), el("b", null, show(total))) : null;
    return [el("div", { class: "when" }, times.full(timestamps[index])), ...items, sum].filter(Boolean);
  }

  #tell(index) {
    const { times, timestamps, series, show } = this.options;
    const shown = series.filter(({ name }) => !this.#hidden.has(name));
    const text = timestamps.length ? `${times.full(timestamps[index])}: ${shown.map((each) => `${each.name} ${show(each.values[index])}`).join(", ")}` : "no data";
    this.box.setAttribute("aria-valuenow", Math.max(0, index));
    this.box.setAttribute("aria-valuetext", text);
  }

  #leave() {
    this.#active = -1;
    this.tip.hidden = true;
    this.pointer.replaceChildren();
  }
}
