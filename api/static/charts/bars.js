// Ranked bars: a name, its share, its amount; each leads to what is behind it.

import { el } from "../dom.js";
import { percent } from "../lib/format.js";
import { dataTable } from "./data-table.js";

/**
 * Show items `[{name, note, value, href, color}]`, the largest first as they come. Null: unknown.
 * What is behind `most` hides behind a button.
 */
export function bars(host, items, { label, show, most = 6, head = "Amount", table = true }) {
  const expanded = host.dataset.expanded === "true";
  const largest = Math.max(...items.map(({ value }) => value ?? 0), 0) || 1;
  const total = items.reduce((sum, { value }) => sum + (value ?? 0), 0);
  const share = (value) => (total && value !== null ? percent(value / total) : "");
  const line = ({ name, note, value, href, color }) => {
    const parts = [
      value ? el("span", { class: "bar", style: { "--w": `${(100 * (value ?? 0)) / largest}%`, ...(color ? { "--c": `var(--${color})` } : {}) } }) : null,
      el("span", { class: "name cut" }, name),
      el("span", { class: "pct" }, share(value)),
      el("b", { class: value === null ? "missing" : null }, value === null ? "unknown" : show(value)),
    ];
    const title = note ? `${name} (${note})` : name;
    return el("li", null, href ? el("a", { href, title }, parts) : el("span", { class: "flat", title }, parts));
  };
  const hides = items.length > most + 1; // a single one takes no more room than the button
  const list = el("ol", { class: "bars" }, (expanded || !hides ? items : items.slice(0, most)).map(line));
  const more = hides ? el("button", { type: "button", class: "button quiet small more" }, expanded ? "Show fewer" : `Show all ${items.length}`) : null;
  more?.addEventListener("click", () => {
    host.dataset.expanded = String(!expanded);
    bars(host, items, { label, show, most, head, table });
    host.querySelector(".more")?.focus();
  });
  const rows = () => items.map(({ name, value }) => [name, value === null ? "unknown" : show(value), share(value)]);
  host.replaceChildren(list, ...[more, table ? dataTable(label, ["Name", head, "Share"], rows) : null].filter(Boolean));
}
