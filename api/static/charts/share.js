// Shares of a whole: one divided bar, and a list that says what is what.

import { el } from "../dom.js";
import { percent } from "../lib/format.js";
import { swatch } from "../lib/svg.js";
import { dataTable } from "./data-table.js";

/** Show items `[{name, value, color, href}]`; `value` null: unknown, shown but not in the bar. */
export function shareBar(host, items, { label, show, head = "Amount" }) {
  const total = items.reduce((sum, { value }) => sum + (value ?? 0), 0);
  const share = (value) => (total && value !== null ? percent(value / total) : "");
  const parts = items
    .filter(({ value }) => value > 0)
    .map(({ name, value, color }) => el("span", { title: `${name}: ${share(value)}`, style: { "--w": value / total, "--c": `var(--${color})` } }));
  const line = ({ name, value, color, href }) => {
    const inside = [swatch(color), el("span", { class: "name cut" }, name), el("span", { class: "pct" }, share(value)), el("b", { class: value === null ? "missing" : null }, value === null ? "unknown" : show(value))];
    return el("li", null, href ? el("a", { href, title: name }, inside) : el("span", { class: "flat", title: name }, inside));
  };
  const rows = () => items.map(({ name, value }) => [name, value === null ? "unknown" : show(value), share(value)]);
  host.replaceChildren(
    el("div", { class: "share" }, parts.length ? el("div", { class: "share-bar", "aria-hidden": "true" }, parts) : null, el("ul", null, items.map(line))),
    dataTable(label, ["Name", head, "Share"], rows),
  );
}
