"""How long requests took: percentiles from histograms of four buckets to the octave.

Bucket b holds 2^(b/4) <= ms < 2^((b+1)/4). Inside a bucket values are taken to be spread evenly on
the logarithmic scale: on smooth data that is right to one or two per cent. The daily histograms
know provider and model; for shorter spans, and for filters that they do not know, the log itself is
put into the same buckets.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import (
    ColumnElement,
    Double,
    Executable,
    FromClause,
    SmallInteger,
    Text,
    case,
    cast,
    column,
    func,
    literal,
    select,
    text,
    tuple_,
    values,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.filters import Filter, Window, within
from storage.models import latency_days, request_logs

type Measure = Literal["latency", "ttfb", "overhead"]
type Histogram = Mapping[int, int]
"""Bucket → requests."""

_PER_OCTAVE: Final = 4
_LOWEST_BUCKET, _HIGHEST_BUCKET = -40, 84
_SHORTEST_MS = 0.001
_LN_2 = 0.69314718055994530942
_TIMED = (request_logs.c.outcome != "refused", ~request_logs.c.cached)


@dataclass(frozen=True, slots=True)
class Latencies:
    """The histograms of a window, by measure."""

    by_moment: Mapping[tuple[Measure, int], Histogram]
    """(measure, number of the hour or day) → histogram."""
    by_model: Mapping[tuple[Measure, str, str], Histogram]
    """(measure, provider, model) → histogram; no model is ''."""

    def overall(self, measure: Measure) -> Histogram:
        """Return the histogram of the whole window."""
        return merged(each for (of, _), each in self.by_moment.items() if of == measure)


def percentile(histogram: Histogram, share: float) -> float | None:
    """Return the time (ms) that `share` of the requests did not exceed; None: there is none."""
    total = sum(histogram.values())
    if not total:
        return None
    rank, before = share * total, 0
    for bucket in sorted(histogram):
        count = histogram[bucket]
        if before + count >= rank and count:
            return 2 ** ((bucket + (rank - before) / count) / _PER_OCTAVE)
        before += count
    return 2 ** ((max(histogram) + 1) / _PER_OCTAVE)


def average(histogram: Histogram) -> float | None:
    """Return the average time (ms), with each request in its bucket's middle; None: no request."""
    total = sum(histogram.values())
    if not total:
        return None
    weighed = sum(2 ** ((b + 0.5) / _PER_OCTAVE) * count for b, count in histogram.items())
    return weighed / total


def merged(histograms: Any) -> Histogram:
    """Return the sum of histograms."""
    result: defaultdict[int, int] = defaultdict(int)
    for histogram in histograms:
        for bucket, count in histogram.items():
            result[bucket] += count
    return result


async def latencies(connection: AsyncConnection, window: Window, wanted: Filter) -> Latencies:
    """Return the window's histograms; of requests neither refused nor cached."""
    by_moment: defaultdict[Any, dict[int, int]] = defaultdict(dict)
    by_model: defaultdict[Any, dict[int, int]] = defaultdict(dict)
    is_recorded = window.step == "day" and wanted.is_about_key_of_histogram
    query = _of_records(window, wanted) if is_recorded else _of_logs(window, wanted)
    for row in await connection.execute(query):
        if row.begin is None:
            by_model[row.measure, row.provider, row.model][row.bucket] = int(row.requests)
        else:
            by_moment[row.measure, window.place(row.begin)][row.bucket] = int(row.requests)
    return Latencies(by_moment, by_model)


async def histogram(connection: AsyncConnection, window: Window, wanted: Filter) -> Histogram:
    """Return the latency's histogram of the whole window, as `latencies` would."""
    if window.step == "day" and wanted.is_about_key_of_histogram:
        table = latency_days.c
        conditions = [*wanted.of_histogram(latency_days), table.measure == "latency"]
        query = select(table.bucket, func.sum(table.requests)).where(
            within(latency_days, window), *conditions
        )
    else:
        logs = request_logs.c
        query = select(_bucket(logs.latency_ms), func.count()).where(
            within(request_logs, window), *wanted.of_logs(), *_TIMED, logs.latency_ms.is_not(None)
        )
    rows = await connection.execute(query.group_by(text("1")))
    return {number: int(count) for number, count in rows}


def _of_records(window: Window, wanted: Filter) -> Executable:
    table = latency_days.c
    names = (table.provider, table.model)
    return (
        select(
            table.day.label("begin"),
            *names,
            table.measure,
            table.bucket,
            func.sum(table.requests).label("requests"),
        )
        .where(within(latency_days, window), *wanted.of_histogram(latency_days))
        .group_by(
            func.grouping_sets(
                tuple_(table.day, table.measure, table.bucket),
                tuple_(*names, table.measure, table.bucket),
            )
        )
    )


def _of_logs(window: Window, wanted: Filter) -> Executable:
    logs = request_logs.c
    measured = (
        values(column("measure", Text), column("ms", Double), name="measured")
        .data(
            [
                (literal("latency"), logs.latency_ms),
                (literal("ttfb"), logs.ttfb_ms),
                (literal("overhead"), logs.overhead_ms),
            ]
        )
        .lateral()
    )
    rows = (
        select(
            func.date_trunc(window.step, logs.created_at, "UTC").label("begin"),
            logs.provider,
            func.coalesce(logs.model, "").label("model"),
            measured.c.measure,
            _bucket(measured.c.ms).label("bucket"),
        )
        .select_from(_joined(measured))
        .where(
            within(request_logs, window),
            *wanted.of_logs(),
            *_TIMED,
            measured.c.ms.is_not(None),
        )
        .subquery("rows")
    )
    names = (rows.c.provider, rows.c.model)
    return select(
        rows.c.begin, *names, rows.c.measure, rows.c.bucket, func.count().label("requests")
    ).group_by(
        func.grouping_sets(
            tuple_(rows.c.begin, rows.c.measure, rows.c.bucket),
            tuple_(*names, rows.c.measure, rows.c.bucket),
        )
    )


def _joined(measured: Any) -> FromClause:
    return request_logs.join(measured, literal(value=True))


def _bucket(ms: ColumnElement[float]) -> ColumnElement[int]:
    """Say what metrion.latency_bucket does."""
    raw = func.floor(_PER_OCTAVE * func.ln(ms) / _LN_2)
    bounded = func.greatest(_LOWEST_BUCKET, func.least(_HIGHEST_BUCKET, raw))
    return cast(case((ms <= _SHORTEST_MS, _LOWEST_BUCKET), else_=bounded), SmallInteger)
