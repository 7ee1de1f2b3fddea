from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from storage.alert_rules import ROLLING_HOURS, UNITS, Definition, Period, Rule
from storage.errors import InvalidValue
from storage.filters import Window
from storage.identifiers import uuid7

NOW = datetime(2026, 3, 10, 12, 34, tzinfo=UTC)
CREATED = datetime(2026, 2, 27, 23, 59, tzinfo=UTC)
BUDGET = Definition("budget", "usd", Decimal(10), Period("month"))
VOLUME = Definition("request_volume", "count", Decimal(10), Period("rolling", hours=24))


def day(month: int, number: int) -> datetime:
    return datetime(2026, month, number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "start", "end", "step"),
    [
        (Period("month"), day(3, 1), day(3, 11), "day"),
        (Period("created"), day(2, 27), day(3, 11), "day"),
        (Period("since", date(2026, 1, 31)), day(1, 31), day(3, 11), "day"),
        (Period("since", date(2026, 4, 1)), day(4, 1), day(4, 2), "day"),
        (Period("dates", date(2026, 3, 1), date(2026, 3, 5)), day(3, 1), day(3, 6), "day"),
        (Period("rolling", hours=1), NOW.replace(minute=0), None, "hour"),
        (Period("rolling", hours=24), day(3, 9) + timedelta(hours=13), None, "hour"),
        (Period("rolling", hours=168), day(3, 4), day(3, 11), "day"),
        (Period("rolling", hours=720), day(2, 9), day(3, 11), "day"),
    ],
)
def test_periods_are_whole_hours_or_days(period, start, end, step):
    rule = Rule(uuid7(), replace(BUDGET, period=period), CREATED)
    assert rule.window(NOW) == Window(start, end or day(3, 10) + timedelta(hours=13), step)


def test_a_definition_is_kept_tidy():
    checked = replace(
        BUDGET, name="  my \n budget ", providers=("openai", "anthropic", "openai")
    ).checked()
    assert checked.name == "my budget"
    assert checked.providers == ("anthropic", "openai")
    assert checked.checked() == checked
    for kind, units in UNITS.items():
        for unit in units:
            base = BUDGET if kind == "budget" else VOLUME
            assert replace(base, type=kind, unit=unit).checked().unit == unit
    for hours in ROLLING_HOURS:
        assert replace(VOLUME, period=Period("rolling", hours=hours)).checked()


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (replace(BUDGET, unit="ms"), "has the unit usd or eur or chf"),
        (replace(VOLUME, unit="usd"), "has the unit count"),
        (replace(BUDGET, threshold=Decimal(0)), "a threshold is"),
        (replace(BUDGET, threshold=Decimal(-1)), "a threshold is"),
        (replace(BUDGET, threshold=Decimal("NaN")), "a threshold is"),
        (replace(BUDGET, threshold=Decimal("Infinity")), "a threshold is"),
        (replace(BUDGET, threshold=Decimal("1e12")), "a threshold is"),
        (replace(BUDGET, threshold=Decimal("1e-7")), "a threshold is"),
        (replace(VOLUME, type="error_rate", unit="percent", threshold=Decimal(101)), "100 percent"),
        (replace(BUDGET, period=Period("rolling", hours=24)), "one of: month, created, since"),
        (replace(VOLUME, period=Period("month")), "one of: dates, rolling"),
        (replace(BUDGET, period=Period("since")), "`from` belongs"),
        (replace(BUDGET, period=Period("month", date(2026, 1, 1))), "`from` belongs"),
        (replace(BUDGET, period=Period("month", to_day=date(2026, 1, 1))), "`to` belongs"),
        (replace(BUDGET, period=Period("month", hours=1)), "`hours` belongs"),
        (replace(VOLUME, period=Period("dates", date(2026, 1, 1))), "`to` belongs"),
        (replace(VOLUME, period=Period("rolling")), "`hours` belongs"),
        (replace(VOLUME, period=Period("rolling", hours=5)), "one of: 1, 6, 24, 168, 720"),
        (replace(VOLUME, period=Period("dates", date(2026, 1, 2), date(2026, 1, 1))), "not before"),
        (replace(VOLUME, period=Period("dates", date(2025, 1, 1), date(2026, 1, 2))), "366 days"),
        (replace(BUDGET, period=Period("since", date(1, 1, 1))), "between 2020"),
        (replace(BUDGET, period=Period("since", date(9999, 12, 31))), "between 2020"),
        (replace(BUDGET, name="x" * 101), "100 characters"),
        (replace(BUDGET, providers=("Open AI",)), "named as"),
        (replace(BUDGET, providers=("",)), "named as"),
        (replace(BUDGET, providers=("a",) * 33), "named as"),
    ],
)
def test_what_cannot_be_watched_is_refused_with_the_reason(definition, reason):
    with pytest.raises(InvalidValue, match=reason):
        definition.checked()
