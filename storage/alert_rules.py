"""Alert rules: what one says, which days or hours it is about, and what is remembered of it.

Periods are made of whole UTC days or hours, because that is what the records are made of:

- *month*: from the 1st, 00:00 UTC; *since*: from that day's 00:00 UTC; *dates*: both days and all
  between; *created*: from the moment on: the records of the day the rule was made, less what had
  been spent of that day before (`Rule.spent_before`), and the days after it.
- *rolling*: the present hour and the hours before it, together `hours` of them; from two days on,
  the present day and the days before it. The dashboard counts its ranges so, too.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, Literal

from storage.errors import InvalidValue
from storage.filters import DAY, Window

type RuleType = Literal["budget", "error_rate", "latency_p95", "request_volume"]
type Unit = Literal["usd", "eur", "chf", "percent", "count", "ms"]
type PeriodKind = Literal["month", "created", "since", "dates", "rolling"]
type Level = Literal["none", "warning", "alert"]

UNITS: Final[Mapping[RuleType, tuple[Unit, ...]]] = {
    "budget": ("usd", "eur", "chf"),
    "error_rate": ("percent", "count"),
    "latency_p95": ("ms",),
    "request_volume": ("count",),
}
"""What a rule's threshold may be in; the first unless it says so."""
BUDGET_PERIODS: Final[tuple[PeriodKind, ...]] = ("month", "created", "since")
OTHER_PERIODS: Final[tuple[PeriodKind, ...]] = ("dates", "rolling")
ROLLING_HOURS: Final = (1, 6, 24, 7 * 24, 30 * 24)
LONGEST_NAME: Final = 100
_LARGEST: Final = Decimal(10**11)
_SMALLEST: Final = Decimal("0.000001")
_LONGEST_DAYS = 366
_MOST_PROVIDERS = 32
_MOST_PERCENT = 100
_PROVIDER = re.compile(r"[a-z0-9_-]{1,32}")
_EARLIEST, _LATEST = date(2020, 1, 1), date(2199, 12, 31)


@dataclass(frozen=True, slots=True)
class Period:
    """Which requests a rule is about, in time.

    Attributes:
        from_day: of *since* and *dates*.
        to_day: of *dates*; the day itself is in it.
        hours: of *rolling*; one of `ROLLING_HOURS`.
    """

    kind: PeriodKind
    from_day: date | None = None
    to_day: date | None = None
    hours: int | None = None

    def window(self, now: datetime, created_at: datetime) -> Window:
        """Return the hours or days whose records count at this moment.

        It may lie in the future (empty until it has begun) or in the past.
        """
        if self.kind == "rolling":
            return Window.last(timedelta(hours=self.hours or 1), now)
        today = now.astimezone(UTC).date()
        first = {
            "month": today.replace(day=1),
            "created": created_at.astimezone(UTC).date(),
        }.get(self.kind, self.from_day or today)
        last = today if self.to_day is None else self.to_day
        return Window(_midnight(first), _midnight(max(first, last)) + DAY, "day")

    def month(self, now: datetime) -> date | None:
        """Return which month a level is reached in; None: the period has no months."""
        return now.astimezone(UTC).date().replace(day=1) if self.kind == "month" else None


@dataclass(frozen=True, slots=True)
class Definition:
    """What its owner says of a rule; see `checked`."""

    type: RuleType
    unit: Unit
    threshold: Decimal
    period: Period
    name: str = ""
    providers: Sequence[str] = ()
    """None: all of them."""

    def checked(self) -> "Definition":
        """Return it as it is kept.

        Raises:
            InvalidValue: it says something that cannot be watched; says what.
        """
        if self.unit not in UNITS[self.type]:
            raise InvalidValue(
                f"a rule of type {self.type} has the unit {' or '.join(UNITS[self.type])}"
            )
        if not self.threshold.is_finite() or not _SMALLEST <= self.threshold <= _LARGEST:
            raise InvalidValue("a threshold is a number from 0.000001 to 100,000,000,000")
        if self.unit == "percent" and self.threshold > _MOST_PERCENT:
            raise InvalidValue("an error rate is 100 percent at most")
        _check_period(self.type, self.period)
        if len(self.providers) > _MOST_PROVIDERS or not all(
            _PROVIDER.fullmatch(name) for name in self.providers
        ):
            raise InvalidValue("providers are named as in the list of providers")
        name = " ".join(self.name.split())
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise InvalidValue(f"a name has {LONGEST_NAME} characters at most, all printable")
        return Definition(
            type=self.type,
            unit=self.unit,
            threshold=self.threshold.quantize(_SMALLEST),
            period=self.period,
            name=name,
            providers=tuple(sorted(set(self.providers))),
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a rule from one look to the next.

    Attributes:
        level: what was reached when it was last looked at.
        level_of: the month that `level` is about, of a rule by months.
        waiting: the highest level that was reached anew and could not be mailed yet, because the
            last mail of this level was less than a day before.
        look_at: when to look again even if nothing is recorded.
    """

    level: Level = "none"
    level_of: date | None = None
    waiting: Level = "none"
    warning_sent_at: datetime | None = None
    alert_sent_at: datetime | None = None
    look_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What requests cost, and of how many of them it is not known."""

    usd: Decimal = Decimal(0)
    unknown: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it is kept."""

    id: uuid.UUID
    definition: Definition
    created_at: datetime
    paused: bool = False
    spent_before: Mapping[str, Spent] = field(default_factory=dict[str, Spent])
    """Of the day it was made, before it was made: provider → what its requests had cost."""
    memory: Memory = Memory()
    test_sent_at: datetime | None = None

    def window(self, now: datetime) -> Window:
        """Return the hours or days whose records count at this moment."""
        return self.definition.period.window(now, self.created_at)


def _check_period(of: RuleType, period: Period) -> None:
    kinds = BUDGET_PERIODS if of == "budget" else OTHER_PERIODS
    if period.kind not in kinds:
        raise InvalidValue(f"the period of a rule of type {of} is one of: {', '.join(kinds)}")
    days = (period.from_day, period.to_day)
    if (period.kind in ("since", "dates")) != (period.from_day is not None):
        raise InvalidValue("`from` belongs to the periods since and dates, and to no other")
    if (period.kind == "dates") != (period.to_day is not None):
        raise InvalidValue("`to` belongs to the period dates, and to no other")
    if (period.kind == "rolling") != (period.hours is not None):
        raise InvalidValue("`hours` belongs to the period rolling, and to no other")
    if any(day is not None and not _EARLIEST <= day <= _LATEST for day in days):
        raise InvalidValue(f"a day is between {_EARLIEST} and {_LATEST}")
    if period.from_day is not None and period.to_day is not None:
        if period.to_day < period.from_day:
            raise InvalidValue("the last day is not before the first")
        if (period.to_day - period.from_day).days >= _LONGEST_DAYS:
            raise InvalidValue(f"a period has {_LONGEST_DAYS} days at most")
    if period.hours is not None and period.hours not in ROLLING_HOURS:
        raise InvalidValue(f"`hours` is one of: {', '.join(map(str, ROLLING_HOURS))}")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
