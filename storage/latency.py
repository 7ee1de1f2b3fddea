"""How long requests took: percentiles from histograms of four buckets to the octave.

Bucket b holds 2^(b/4) <= ms < 2^((b+1)/4). Inside a bucket values are taken to be spread evenly on
the logarithmic scale: on smooth data that is right to one or two per cent. In the records a
histogram is one number, twelve digits to a bucket, so that the database can add them up.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from sqlalchemy.ext.asyncio import AsyncConnection

from storage.filters import Filter, Window
from storage.records import HISTOGRAMS, Question, ask

type Measure = Literal["latency", "ttfb", "overhead"]
type Histogram = Mapping[int, int]
"""Bucket → requests."""

MOST_MODELS: Final = 200
_PER_OCTAVE: Final = 4
_LOWEST_BUCKET: Final = -40
_HIGHEST_BUCKET: Final = 84
_MIDDLES: Final = {
    bucket: 2 ** ((bucket + 0.5) / _PER_OCTAVE)
    for bucket in range(_LOWEST_BUCKET, _HIGHEST_BUCKET + 1)
}
_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Latencies:
    """The histograms of a window, by measure."""

    by_moment: Mapping[tuple[Measure, int], Histogram]
    """(measure, number of the hour or day) → histogram."""
    by_model: Mapping[tuple[Measure, str, str | None], Histogram]
    """(measure, provider, model) → histogram; no model is '', None are all but the busiest
    `MOST_MODELS`. The overhead is not of a model."""
    previous: Histogram
    """Of the latency in the span of equal length just before."""

    def overall(self, measure: Measure) -> Histogram:
        """Return the histogram of the whole window."""
        # of models there are fewer than of moments
        parts = self.by_model if measure in _OF_MODELS else self.by_moment
        return merged(each for (of, *_), each in parts.items() if of == measure)


def percentile(histogram: Histogram, share: float) -> float | None:
    """Return the time (ms) that `share` of the requests did not exceed; None: there is none."""
    return percentiles(histogram, (share,))[0]


def percentiles(histogram: Histogram, shares: Sequence[float]) -> list[float | None]:
    """Return the time (ms) for each share; they are in ascending order."""
    total = sum(histogram.values())
    if not total:
        return [None] * len(shares)
    counts = iter(sorted(histogram.items()))
    bucket, count = next(counts)
    before = 0
    found: list[float | None] = []
    for share in shares:
        rank = share * total
        while before + count < rank or not count:
            before += count
            bucket, count = next(counts)
        found.append(2 ** ((bucket + (rank - before) / count) / _PER_OCTAVE))
    return found


def average(histogram: Histogram) -> float | None:
    """Return the average time (ms), with each request in its bucket's middle; None: no request."""
    total = sum(histogram.values())
    if not total:
        return None
    return sum(_MIDDLES[bucket] * count for bucket, count in histogram.items()) / total


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Return the sum of histograms."""
    result: defaultdict[int, int] = defaultdict(int)
    for histogram in histograms:
        for bucket, count in histogram.items():
            result[bucket] += count
    return result


async def latencies(connection: AsyncConnection, window: Window, wanted: Filter) -> Latencies:
    """Return the window's histograms; of requests neither refused nor cached."""
    found = await ask(
        connection,
        wanted,
        {
            "moments": Question(window, ("begin",), HISTOGRAMS),
            "models": Question(
                window, ("provider", "model"), _OF_MODELS, MOST_MODELS, ("timed",), rest=True
            ),
            "previous": Question(window.previous, (), ("latency",)),
        },
    )
    by_moment: dict[tuple[Measure, int], Histogram] = {}
    by_model: dict[tuple[Measure, str, str | None], Histogram] = {}
    for measure in _MEASURES:
        for row in found["moments"]:
            if counted := unpacked(row[measure]):
                by_moment[measure, window.place(row["begin"])] = counted
    for measure in _OF_MODELS:
        for row in found["models"]:
            if counted := unpacked(row[measure]):
                by_model[measure, row["provider"], row["model"]] = counted
    return Latencies(by_moment, by_model, unpacked(found["previous"][0]["latency"]))


async def histogram(connection: AsyncConnection, window: Window, wanted: Filter) -> Histogram:
    """Return the latency's histogram of the whole window, as `latencies` would."""
    question = Question(window, (), ("latency",))
    return unpacked((await ask(connection, wanted, {"all": question}))["all"][0]["latency"])


def unpacked(number: str | None) -> Histogram:
    """Return the histogram that a number of the records stands for (metrion.histogram_of)."""
    digits = (number or "").partition(".")[0]
    digits = "0" * (-len(digits) % _DIGITS) + digits
    # most of the lowest buckets are empty: half of all digits
    empty = (len(digits) - len(digits.rstrip("0"))) // _DIGITS
    ends = range(len(digits) - empty * _DIGITS, 0, -_DIGITS)
    return {
        bucket: count
        for bucket, end in enumerate(ends, _LOWEST_BUCKET + empty)
        if (count := int(digits[end - _DIGITS : end]))
    }


_MEASURES: Final[tuple[Measure, ...]] = get_args(Measure.__value__)
_OF_MODELS: Final[tuple[Measure, ...]] = ("latency", "ttfb")
