// Tables that sort by a click on a heading; long ones show their beginning first.

import { el } from "../dom.js";

/**
 * Show rows in `host`. A column: `{title, cell(row), value(row), right, wide}`; with `value` it
 * sorts (null last). `sort`: the index of the column to begin with, largest first.
 */
export function table(host, columns, rows, { label, sort = 0, most = 12 }) {
  const state = { sort, down: true, all: false };

  function ordered() {
    const { value } = columns[state.sort];
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    const [empty, full] = [rows.filter((row) => value(row) === null), rows.filter((row) => value(row) !== null)];
    full.sort((a, b) => compare(value(a), value(b)) * (state.down ? -1 : 1));
    return [...full, ...empty];
  }

  function sortBy(index) {
    state.down = state.sort === index ? !state.down : true;
    state.sort = index;
    draw();
    host.querySelectorAll("thead th")[index].querySelector("button").focus();
  }

  function head(column, index) {
    const isSorted = index === state.sort;
    const title = column.value ? el("button", { type: "button", onclick: () => sortBy(index) }, column.title) : column.title;
    return el("th", { scope: "col", class: column.right ? "right" : null, "aria-sort": isSorted ? (state.down ? "descending" : "ascending") : null }, title);
  }

  function line(row) {
    return el("tr", null, columns.map((column, index) => cellOf(column, row, index)));
  }

  function draw() {
    const shown = state.all ? ordered() : ordered().slice(0, most);
    const body = el("table", { class: "table" }, el("thead", null, el("tr", null, columns.map(head))), el("tbody", null, shown.map(line)));
    const region = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${label}: table` }, body);
    const more = rows.length > most ? el("button", { type: "button", class: "button quiet small more", onclick: () => toggle() }, state.all ? "Show fewer" : `Show all ${rows.length}`) : null;
    host.replaceChildren(...[region, more].filter(Boolean));
  }

  function toggle() {
    state.all = !state.all;
    draw();
    host.querySelector(".more")?.focus();
  }

  draw();
}

function cellOf(column, row, index) {
  const content = column.cell(row);
  const attributes = { class: [column.right ? "right" : "", column.wide ? "wide" : ""].join(" ").trim() || null, title: column.wide && typeof content === "string" ? content : null };
  return index ? el("td", attributes, content) : el("th", { scope: "row", ...attributes }, content);
}

/** What stands where a number was not reported or is not known. */
export function missing(words) {
  return el("span", { class: "missing" }, words);
}
