// "View as table": the numbers of a chart for screen readers, eyes and copying.

import { el } from "../dom.js";

/**
 * A closed disclosure with a table, filled when it is first opened.
 * `rows()` returns arrays of texts, the first of each being its heading.
 */
export function dataTable(label, heads, rows) {
  const region = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${label}: table` });
  const open = () => {
    if (region.firstChild) return;
    const head = el("tr", null, heads.map((each, index) => el("th", { scope: "col", class: index ? "right" : null }, each)));
    const body = rows().map(([first, ...rest]) =>
      el("tr", null, el("th", { scope: "row" }, first), rest.map((each) => el("td", { class: "right" }, each))),
    );
    region.append(el("table", { class: "table" }, el("thead", null, head), el("tbody", null, body)));
  };
  return el("details", { class: "data", ontoggle: open }, el("summary", null, "View as table"), region);
}
