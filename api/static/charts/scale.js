// From numbers to places: ticks at round values, points in a plot's coordinates.

/** Round values from 0 to at least `largest`, in `most` steps at most; `whole` ones for counts. */
export function niceTicks(largest, most = 5, whole = false) {
  if (!(largest > 0)) return [0, 1];
  const raw = largest / most;
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const steps = [1, 2, 2.5, 5, 10].map((each) => each * magnitude);
  const step = steps.find((each) => each >= raw * 0.999 && (!whole || Number.isInteger(each)));
  const ticks = [];
  for (let index = 0; (index - 1) * step < largest * 0.999; index += 1) ticks.push(index * step);
  return ticks;
}

/** Where things go in a plot of this size: `x(index)`, `y(value)`, and which index is at a place. */
export function makeScale({ width, height, count, top, margin, banded }) {
  const inner = { width: Math.max(1, width - margin.left - margin.right), height: height - margin.top - margin.bottom };
  const band = inner.width / count;
  const gap = count > 1 ? inner.width / (count - 1) : 0;
  const alone = count === 1 ? inner.width / 2 : 0;
  return {
    width,
    height,
    margin,
    band,
    bottom: height - margin.bottom,
    x: (index) => margin.left + (banded ? (index + 0.5) * band : alone + index * gap),
    y: (value) => margin.top + (1 - value / top) * inner.height,
    indexAt(place) {
      const from = place - margin.left;
      const index = banded ? Math.floor(from / band) : Math.round(gap ? from / gap : 0);
      return Math.min(count - 1, Math.max(0, index));
    },
  };
}

/** Put the series of a stack on each other; null adds nothing. Each layer gets `low` and `high`. */
export function layered(series, stacked) {
  let base = [];
  return series.map((each) => {
    const low = stacked ? base : null;
    const high = each.values.map((value, index) => (stacked ? (value ?? 0) + (base[index] ?? 0) : value));
    if (stacked) base = high;
    return { ...each, low: low?.length ? low : high.map(() => 0), high };
  });
}

/** Which indexes get a label on the time axis: evenly spread, with room for each. */
export function labelled(count, width, room = 84) {
  const every = Math.max(1, Math.ceil(count / Math.max(2, Math.floor(width / room))));
  return Array.from({ length: Math.ceil(count / every) }, (_, index) => index * every);
}
