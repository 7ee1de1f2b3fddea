// Which colour stands for what: custom properties of dashboard.css, without dashes.

const SERIES = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];

/** A colour for each name, in their order; "other" is grey. */
export function colorsOf(names) {
  const own = names.filter((name) => name !== "other");
  return new Map(names.map((name) => [name, name === "other" ? "other" : SERIES[own.indexOf(name) % SERIES.length]]));
}

/** The colour of a status: 4xx amber, 5xx red, none grey. */
export function statusColor(status) {
  if (status === null) return "other";
  return status >= 500 ? "s5" : status >= 400 ? "s4" : "c3";
}

/** The class of a status' badge. */
export function statusTone(status) {
  return status === null ? "" : `s${Math.floor(status / 100)}`;
}
