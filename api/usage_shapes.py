"""From records to what `/api/v1/usage` answers: series without gaps, the largest names first."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from api.usage_models import (
    CostSeries,
    ModelCost,
    ModelLatency,
    ProviderCost,
    UsageRange,
)
from storage.filters import Window
from storage.latency import Histogram, Latencies, Measure, average, percentile, percentiles
from storage.usage import NOTHING, Group, Sums, name_of

MOST_SERIES = 7
MOST_BARS = 50
MOST_ROWS = 200
DEAREST = ("cost_usd", "requests")
"""By what groups are the first of `dearest`."""
_PERCENTILES = (0.5, 0.95, 0.99)
_MS_DIGITS = 3
_DIGITS = 6
_TO_THE_CENT = 1000


def range_of(window: Window) -> UsageRange:
    """Return the window as the answer has it."""
    return UsageRange.model_validate({"from": window.start, "to": window.end, "step": window.step})


def timestamps_of(window: Window) -> list[int]:
    """Return where each hour or day begins."""
    return [int(moment.timestamp()) for moment in window.moments]


def moments_of(window: Window, groups: Iterable[Group]) -> list[Sums]:
    """Return the sums of each hour or day, without a gap; `groups` are by begin."""
    moments = [NOTHING] * window.count
    for group in groups:
        moments[window.place(group.begin)] = group.sums
    return moments


def costs_by_model(window: Window, groups: Sequence[Group]) -> list[ModelCost]:
    """Return the dearest models' cost over time, and the rest together as `other`.

    Models of which no price is known have no place in it.

    `groups` are by provider and model, with their `cost_series`.
    """
    known = [group for group in groups if group.sums.known_cost is not None]
    order = sorted(named(known), key=lambda each: (-each.sums.cost_usd, name_of(each)))
    others = [group for group in known if group.model is None]
    # a rest of one is shown by its own name
    is_all = len(order) <= MOST_SERIES + 1 and not others
    shown = order if is_all else order[:MOST_SERIES]
    places = _places(window)
    costs = [
        ModelCost(
            model=group.model or None,
            provider=group.provider,
            values=_costs(places, [group]),
            total=float(group.sums.cost_usd),
        )
        for group in shown
    ]
    if rest := order[len(shown) :] + others:
        total = float(sum(group.sums.cost_usd for group in rest))
        costs.append(
            ModelCost(model="other", provider=None, values=_costs(places, rest), total=total)
        )
    return costs


def _costs(places: Mapping[str, int], groups: Sequence[Group]) -> list[float]:
    values = [0.0] * len(places)
    for group in groups:
        for begin, cost in group.sums.cost_series.items():
            values[places[begin]] += cost
    return [short(value) for value in values]


def requests_over_time(window: Window, group: Group) -> list[int]:
    """Return the group's requests in each hour or day, from its `request_series`."""
    places = _places(window)
    values = [0] * len(places)
    for begin, requests in group.sums.request_series.items():
        values[places[begin]] = requests
    return values


def _places(window: Window) -> dict[str, int]:
    """Return the number of each hour or day, by the second since 1970 that it begins."""
    return {str(second): place for place, second in enumerate(timestamps_of(window))}


def cost_series(moments: Sequence[Sums], total: Sums, previous: Sums) -> CostSeries:
    """Return what all cost over time."""
    return CostSeries(
        total=number(total.known_cost),
        previous=number(previous.known_cost) if previous.requests else None,
        values=[short(float(sums.cost_usd)) for sums in moments],
        unpriced=total.unpriced + total.unreported,
    )


def costs_by_provider(groups: Sequence[Group], total: Sums) -> list[ProviderCost]:
    """Return the providers, the dearest first; `groups` are by provider."""
    return [
        ProviderCost(
            provider=group.provider or "",
            cost=number(group.sums.known_cost),
            requests=group.sums.requests,
            share=float(group.sums.cost_usd / total.cost_usd) if total.cost_usd else None,
        )
        for group in dearest(groups)
    ]


def total_of(groups: Iterable[Group]) -> Sums:
    """Return the sums of all groups together."""
    return Sums.together([group.sums for group in groups])


def dearest(groups: Iterable[Group]) -> list[Group]:
    """Return groups, the dearest first, then the busiest."""
    return sorted(
        groups, key=lambda each: (-each.sums.cost_usd, -each.sums.requests, name_of(each))
    )


def named(groups: Iterable[Group]) -> list[Group]:
    """Return groups by model without those of all other models together (`Question.rest`)."""
    return [each for each in groups if each.model is not None]


def percentile_series(window: Window, found: Latencies) -> list[list[float | None]]:
    """Return the latency's p50, p95 and p99 for each hour or day: a series of each."""
    moments = [found.by_moment.get(("latency", place), {}) for place in range(window.count)]
    return list(map(list, zip(*map(shown_percentiles, moments), strict=True)))


def shown_percentiles(histogram: Histogram) -> list[float | None]:
    """Return p50, p95 and p99."""
    return [rounded(ms) for ms in percentiles(histogram, _PERCENTILES)]


def average_series(window: Window, found: Latencies, measure: Measure) -> list[float | None]:
    """Return a measure's average for each hour or day."""
    return [
        rounded(average(found.by_moment.get((measure, place), {}))) for place in range(window.count)
    ]


def latency_by_model(found: Latencies) -> list[ModelLatency]:
    """Return the models' latencies, the busiest first."""
    models: list[ModelLatency] = []
    for (measure, provider, model), histogram in found.by_model.items():
        if measure != "latency" or model is None:
            continue
        p50, p95, p99 = shown_percentiles(histogram)
        ttfb = found.by_model.get(("ttfb", provider, model), {})
        models.append(
            ModelLatency(
                model=model or None,
                provider=provider,
                requests=sum(histogram.values()),
                p50=p50,
                p95=p95,
                p99=p99,
                ttfb_p50=rounded(percentile(ttfb, 0.5)),
            )
        )
    models.sort(key=lambda each: (-each.requests, each.provider or "", each.model or ""))
    return models[:MOST_ROWS]


def number(amount: Decimal | None) -> float | None:
    """Return an amount as JSON has it."""
    return None if amount is None else float(amount)


def short(amount: float) -> float:
    """Return an amount with six digits, or to the cent if that is more; totals have them all."""
    return round(amount, 2) if amount >= _TO_THE_CENT else float(f"{amount:.{_DIGITS}g}")


def rounded(ms: float | None) -> float | None:
    """Return a time to the microsecond."""
    return None if ms is None else round(ms, _MS_DIGITS)
