"""The numbers that rules are judged by, and their course for a small chart: from the records.

Rules over the same days or hours share one query. The records are sums: a look costs the same
whether a request was recorded or a million. A p95 is as exact as its histogram (storage.latency):
one or two per cent, where all requests take the same time up to nine.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from storage.alert_judgement import (
    Reading,
    read_budget,
    read_count,
    read_errors,
    read_latency,
)
from storage.alert_rules import Rule, Spent, Unit
from storage.filters import DAY, Filter, Window
from storage.latency import Histogram, histogram, latencies, percentile
from storage.settings import Settings
from storage.usage import Group, Sums, group

P95: Final = 0.95
MOST_MOMENTS: Final = 92
"""In a chart: the last ones of a longer period."""
_SUMS = ("requests", "errors", "cost_usd", "unreported", "unpriced")

type PerUsd = Mapping[Unit, Decimal]
"""How much of a currency a US dollar buys."""


@dataclass(frozen=True, slots=True)
class Course:
    """How a rule's value came about.

    Attributes:
        window: its hours or days.
        values: one for each; of a budget the sum up to then. None: there was nothing to measure.
    """

    window: Window
    values: Sequence[float | None]


def per_usd(settings: Settings) -> PerUsd:
    """Return the fixed rates of the settings."""
    return {"usd": Decimal(1), "eur": settings.eur_per_usd, "chf": settings.chf_per_usd}


async def read(
    connection: AsyncConnection, rules: Iterable[Rule], rates: PerUsd, now: datetime
) -> dict[uuid.UUID, Reading]:
    """Return each rule's reading at this moment, in the account's transaction."""
    sums: dict[Window, list[Group]] = {}
    histograms: dict[tuple[Window, Sequence[str]], Histogram] = {}
    readings: dict[uuid.UUID, Reading] = {}
    for rule in rules:
        window, providers = rule.window(now), rule.definition.providers
        if window.start > now:
            readings[rule.id] = Reading(None, reason="not_begun")
            continue
        if rule.definition.type == "latency_p95":
            if (window, providers) not in histograms:
                wanted = Filter(providers=providers)
                histograms[window, providers] = await histogram(connection, window, wanted)
            reading = _of_histogram(histograms[window, providers])
        else:
            if window not in sums:
                sums[window] = await group(connection, window, Filter(), ("provider",), _SUMS)
            reading = _of_sums(rule, _together(sums[window], providers), rates)
        has_ended = rule.definition.period.to_day is not None and window.end <= now
        readings[rule.id] = replace(reading, reason="ended") if has_ended else reading
    return readings


async def read_courses(
    connection: AsyncConnection, rules: Iterable[Rule], rates: PerUsd, now: datetime
) -> dict[uuid.UUID, Course]:
    """Return the course of each rule's value up to this moment, in the account's transaction."""
    sums: dict[Window, list[Group]] = {}
    courses: dict[uuid.UUID, Course] = {}
    for rule in rules:
        window = rule.window(now)
        values: Sequence[float | None]
        if rule.definition.type == "latency_p95":
            values = await _latency_course(connection, window, rule)
        else:
            if window not in sums:
                sums[window] = await group(
                    connection, window, Filter(), ("begin", "provider"), _SUMS
                )
            values = _course(rule, window, sums[window], rates)
        courses[rule.id] = _shortened(window, values)
    return courses


async def spent_today(connection: AsyncConnection, now: datetime) -> dict[str, Spent]:
    """Return what each provider has cost on this day (UTC), in the account's transaction."""
    today = Window.last(2 * DAY, now)
    today = Window(today.end - DAY, today.end, "day")
    groups = await group(connection, today, Filter(), ("provider",), _SUMS)
    return {each.provider or "": _spent(each.sums) for each in groups}


def _of_sums(rule: Rule, sums: Sums, rates: PerUsd) -> Reading:
    definition = rule.definition
    if definition.type == "budget":
        spent = _spent(sums)
        if definition.period.kind == "created":
            spent = _less(spent, _before(rule))
        return read_budget(spent, rates[definition.unit])
    if definition.type == "error_rate":
        return read_errors(sums.errors, sums.requests, as_percent=definition.unit == "percent")
    return read_count(sums.requests)


def _of_histogram(requests: Histogram) -> Reading:
    return read_latency(percentile(requests, P95), sum(requests.values()))


def _together(groups: Iterable[Group], providers: Sequence[str]) -> Sums:
    wanted = [each.sums for each in groups if not providers or each.provider in providers]
    return Sums.together(wanted)


def _spent(sums: Sums) -> Spent:
    return Spent(sums.cost_usd, sums.unpriced + sums.unreported, sums.requests)


def _before(rule: Rule) -> Spent:
    """Return what the rule's providers had cost on its first day before it was made."""
    providers = rule.definition.providers
    parts = [
        spent for name, spent in rule.spent_before.items() if not providers or name in providers
    ]
    return Spent(
        sum((part.usd for part in parts), Decimal(0)),
        sum(part.unknown for part in parts),
        sum(part.requests for part in parts),
    )


def _less(spent: Spent, before: Spent) -> Spent:
    return Spent(
        max(spent.usd - before.usd, Decimal(0)),
        max(spent.unknown - before.unknown, 0),
        max(spent.requests - before.requests, 0),
    )


def _course(
    rule: Rule, window: Window, groups: Iterable[Group], rates: PerUsd
) -> list[float | None]:
    """Return a value for each moment; of a budget what it came to until then."""
    by_moment: dict[int, list[Group]] = {}
    for each in groups:
        by_moment.setdefault(window.place(each.begin), []).append(each)
    providers = rule.definition.providers
    moments = [
        _together(by_moment.get(number, ()), providers) for number in range(len(window.moments))
    ]
    if rule.definition.type == "budget":
        return _rising(rule, moments, rates[rule.definition.unit])
    readings = [_of_sums(rule, sums, rates) for sums in moments]
    # no request is no error, and no rate
    nothing = None if rule.definition.unit == "percent" else 0.0
    return [nothing if each.value is None else float(each.value) for each in readings]


def _rising(rule: Rule, moments: Iterable[Sums], rate: Decimal) -> list[float | None]:
    is_from_creation = rule.definition.period.kind == "created"
    total = -_before(rule).usd if is_from_creation else Decimal(0)
    values: list[float | None] = []
    for sums in moments:
        total += sums.cost_usd
        values.append(float(max(total, Decimal(0)) * rate))
    return values


async def _latency_course(
    connection: AsyncConnection, window: Window, rule: Rule
) -> list[float | None]:
    wanted = Filter(providers=rule.definition.providers)
    by_moment = (await latencies(connection, window, wanted)).by_moment
    return [
        percentile(by_moment.get(("latency", number), {}), P95)
        for number in range(len(window.moments))
    ]


def _shortened(window: Window, values: Sequence[float | None]) -> Course:
    moments = window.moments[-MOST_MOMENTS:]
    start = moments[0] if moments else window.start
    return Course(Window(start, window.end, window.step), list(values[-MOST_MOMENTS:]))
