// What is drawn in a plot: areas, lines, columns, grid and labels, as SVG elements.

import { svg } from "../lib/svg.js";
import { labelled } from "./scale.js";

const colored = (color) => ({ style: { "--c": `var(--${color})` } });
const place = (number) => number.toFixed(1);

/** Runs of points that are there: a null breaks a line. */
function runs(values) {
  const found = [];
  let current = null;
  values.forEach((value, index) => {
    if (value === null || value === undefined) current = null;
    else if (current) current.push(index);
    else found.push((current = [index]));
  });
  return found;
}

export function lines(layer, scale) {
  return runs(layer.high).map((run) => {
    if (run.length === 1) {
      const [only] = run;
      return svg("circle", { class: "alone", cx: scale.x(only), cy: scale.y(layer.high[only]), r: 3, ...colored(layer.color) });
    }
    const path = run.map((index) => `${place(scale.x(index))},${place(scale.y(layer.high[index]))}`).join("L");
    return svg("path", { class: "line", d: `M${path}`, ...colored(layer.color) });
  });
}

export function areas(layer, scale, kind = "area") {
  return runs(layer.high)
    .filter((run) => run.length > 1)
    .map((run) => {
      const up = run.map((index) => `${place(scale.x(index))},${place(scale.y(layer.high[index]))}`);
      const back = run.toReversed().map((index) => `${place(scale.x(index))},${place(scale.y(layer.low[index]))}`);
      return svg("path", { class: kind, d: `M${up.join("L")}L${back.join("L")}Z`, ...colored(layer.color) });
    });
}

export function columns(layer, scale) {
  const width = Math.max(1, Math.min(38, scale.band * 0.72));
  return layer.high.flatMap((high, index) => {
    const low = layer.low[index] ?? 0;
    if (!(high > low)) return [];
    const top = scale.y(high);
    const height = Math.max(1, scale.y(low) - top);
    return svg("rect", { class: "column", x: place(scale.x(index) - width / 2), y: place(top), width: place(width), height: place(height), rx: Math.min(2, width / 4), ...colored(layer.color) });
  });
}

export function axes(scale, ticks, count, showValue, showTime) {
  const { margin, width, height } = scale;
  const horizontal = ticks.flatMap((tick) => {
    const y = Math.round(scale.y(tick));
    return [
      svg("line", { class: tick ? "grid-line" : "axis", x1: margin.left, x2: width - margin.right, y1: y, y2: y }),
      svg("text", { class: "lab", x: margin.left - 8, y: y + 4, "text-anchor": "end" }, showValue(tick)),
    ];
  });
  const times = labelled(count, width - margin.left).map((index) => {
    const x = scale.x(index);
    const anchor = x < margin.left + 20 ? "start" : x > width - 36 ? "end" : "middle";
    return svg("text", { class: "lab", x: anchor === "start" ? margin.left : x, y: height - 6, "text-anchor": anchor }, showTime(index));
  });
  return [...horizontal, ...times];
}

/** The cross-hair and dots at one point in time. */
export function pointer(index, layers, scale, withDots) {
  const x = scale.x(index);
  const line = svg("line", { class: "cross", x1: x, x2: x, y1: scale.margin.top, y2: scale.bottom });
  const dots = layers
    .filter((layer) => withDots && layer.high[index] !== null && layer.high[index] !== undefined)
    .map((layer) => svg("circle", { class: "dot", cx: x, cy: scale.y(layer.high[index]), r: 3.6, ...colored(layer.color) }));
  return [line, ...dots];
}
