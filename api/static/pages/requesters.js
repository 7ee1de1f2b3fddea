// Requesters: who asks how much, by the label that came in `x-metrion-user`.

import { el } from "../dom.js";
import { pageWith } from "../lib/filters.js";
import { ago, counted, integer, percent, wholeMoment } from "../lib/format.js";
import "../lib/shell.js";
import { missing, table } from "../lib/table.js";
import { slot, usagePage } from "../lib/usage-page.js";

function drawTable({ items, left_out: leftOut }, { money }) {
  const name = ({ requester }) => (requester === null ? missing("no requester") : el("a", { class: "link", href: pageWith("/logs", { requester: [requester] }), title: requester }, requester));
  const columns = [
    { title: "Requester", wide: true, value: ({ requester }) => requester, cell: name },
    { title: "Requests", right: true, value: ({ requests }) => requests, cell: ({ requests }) => integer(requests) },
    { title: "Tokens", right: true, value: ({ tokens }) => tokens, cell: ({ tokens }) => (tokens === null ? missing("not reported") : integer(tokens)) },
    { title: "Errors", right: true, value: ({ errors }) => errors, cell: ({ errors, requests }) => (errors ? `${integer(errors)} (${percent(errors / requests)})` : "0") },
    { title: "Last seen", right: true, value: ({ last_seen_at: seen }) => seen, cell: ({ last_seen_at: seen }) => (seen ? el("span", { title: wholeMoment(seen) }, ago(seen)) : missing("not known")) },
    { title: "Cost", right: true, value: ({ cost_usd: cost }) => cost, cell: ({ cost_usd: cost }) => (cost === null ? missing("price unknown") : money.full(cost)) },
  ];
  const place = slot("requesters");
  const [host, note] = [el("div"), el("p", { class: "note" })];
  table(host, columns, items, { label: "Requesters", sort: 5, most: 50 });
  if (items.every(({ requester }) => requester === null)) note.replaceChildren("No request named its requester. Send the header ", el("code", null, "x-metrion-user"), " with each request to see who uses what.");
  else if (leftOut) note.textContent = `${counted(leftOut, "requester with less cost is", "requesters with less cost are")} not shown: narrow the filters.`;
  place.replaceChildren(host, note);
}

usagePage("requesters", {
  isEmpty: ({ items }) => items.length === 0,
  draw: drawTable,
});
