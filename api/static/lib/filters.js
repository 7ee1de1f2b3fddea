// The filters that all tabs and Logs share. They live in the address, nowhere else.

export const RANGES = [
  ["24h", "24 hours"],
  ["7d", "7 days"],
  ["30d", "30 days"],
  ["90d", "90 days"],
];
export const LISTS = ["provider", "model", "requester", "status"];
const DEFAULT_RANGE = "7d";

/** Read the filters: `{range, from, to, provider: [], model: [], requester: [], status: [], cached}`. */
export function readFilters(search = location.search) {
  const query = new URLSearchParams(search);
  const known = [...RANGES.map(([name]) => name), "custom"];
  const range = query.get("range");
  const filters = { range: known.includes(range) ? range : DEFAULT_RANGE, from: query.get("from"), to: query.get("to"), cached: query.get("cached") };
  if (filters.range === "custom" && !(filters.from && filters.to)) filters.range = DEFAULT_RANGE;
  if (!["true", "false"].includes(filters.cached)) filters.cached = null;
  for (const name of LISTS) filters[name] = query.getAll(name).filter(Boolean);
  return filters;
}

/** The filters as a query, for the address and for the API alike. */
export function filterQuery(filters) {
  const query = new URLSearchParams({ range: filters.range });
  if (filters.range === "custom") {
    query.set("from", filters.from);
    query.set("to", filters.to);
  }
  for (const name of LISTS) for (const value of filters[name]) query.append(name, value);
  if (filters.cached) query.set("cached", filters.cached);
  return query;
}

/** Whether anything but the range is chosen. */
export function isNarrowed(filters) {
  return LISTS.some((name) => filters[name].length > 0) || filters.cached !== null;
}

/** Change filters: the address says so (Back undoes it), and whoever listens draws anew. */
export function changeFilters(changes) {
  const query = filterQuery({ ...readFilters(), ...changes });
  history.pushState(null, "", `${location.pathname}?${query}`);
  dispatchEvent(new Event("filters"));
}

/** An address of a page with the filters of now, and some more. */
export function pageWith(path, changes = {}) {
  return `${path}?${filterQuery({ ...readFilters(), ...changes })}`;
}

/** Do something when the filters change, also by the browser's Back and Forward. */
export function onFilters(listener) {
  addEventListener("filters", listener);
  addEventListener("popstate", listener);
}

/** "7 days": how the range is called in sentences. */
export function rangeName(filters) {
  return RANGES.find(([name]) => name === filters.range)?.[1] ?? "chosen range";
}
