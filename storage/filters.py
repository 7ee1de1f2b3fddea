"""Which part of an account's log or records is meant: a span of time, and what rows are like."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Table, and_, false, or_

from storage.errors import InvalidValue
from storage.models import request_logs, this_account, usage_hours, usage_sums

type Step = Literal["hour", "day"]

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
LONGEST: Final = timedelta(days=366)
LONGEST_BY_HOUR: Final = timedelta(days=1)
STATUS_CLASSES: Final = ("2xx", "3xx", "4xx", "5xx", "none")
_HUNDRED = 100


@dataclass(frozen=True, slots=True)
class Window:
    """A span of whole hours or days (UTC): `start` is in it, `end` is not."""

    start: datetime
    end: datetime
    step: Step

    @classmethod
    def last(cls, length: timedelta, now: datetime) -> "Window":
        """Return the span of this length that ends with the present hour or day."""
        step: Step = "hour" if length <= LONGEST_BY_HOUR else "day"
        end = _floor(now, step) + _STEPS[step]
        return cls(end - length, end, step)

    @classmethod
    def between(cls, start: datetime, end: datetime) -> "Window":
        """Return the smallest span that holds both moments.

        Raises:
            InvalidValue: it is empty, longer than `LONGEST`, or a moment has no time zone.
        """
        if start.tzinfo is None or end.tzinfo is None:
            raise InvalidValue("a moment needs its time zone, such as Z")
        try:
            start, end = start.astimezone(UTC), end.astimezone(UTC)
            step: Step = "hour" if end - start <= LONGEST_BY_HOUR else "day"
            first, last = _floor(start, step), _floor(end - timedelta(microseconds=1), step)
            window = cls(first, last + _STEPS[step], step)
            _ = window.previous
        except OverflowError:
            raise InvalidValue("a moment is too far away") from None
        if not start < end or window.end - window.start > LONGEST + DAY:
            raise InvalidValue(
                f"a range is from one moment to a later one, {LONGEST.days} days at most"
            )
        return window

    @property
    def previous(self) -> "Window":
        """The span of equal length just before."""
        return Window(self.start - (self.end - self.start), self.start, self.step)

    @property
    def moments(self) -> list[datetime]:
        """Where each of its hours or days begins."""
        return [self.start + number * _STEPS[self.step] for number in range(self.count)]

    @property
    def count(self) -> int:
        """Of how many hours or days it is."""
        return (self.end - self.start) // _STEPS[self.step]

    @property
    def length_of_step(self) -> timedelta:
        """An hour or a day."""
        return _STEPS[self.step]

    def place(self, begin: Any) -> int:
        """Return the number of the hour or day that begins at a record's moment or date."""
        if not isinstance(begin, datetime):
            begin = datetime(begin.year, begin.month, begin.day, tzinfo=UTC)
        return (begin - self.start) // _STEPS[self.step]


_STEPS: Final[dict[Step, timedelta]] = {"hour": HOUR, "day": DAY}


@dataclass(frozen=True, slots=True)
class Filter:
    """What rows are like; an empty part says nothing.

    Attributes:
        statuses: some of `STATUS_CLASSES`.
        search: a part of the model's or the requester's name, in any case.
    """

    providers: Sequence[str] = ()
    models: Sequence[str] = ()
    requesters: Sequence[str] = ()
    statuses: Sequence[str] = ()
    cached: bool | None = None
    search: str = ""

    @property
    def dimensions(self) -> frozenset[str]:
        """What a record must tell apart for it: names of columns of the tables of sums."""
        asked = {
            "provider": self.providers,
            "model": self.models or self.search,
            "requester": self.requesters or self.search,
            "status": self.statuses,
            "from_cache": self.cached is not None,
        }
        return frozenset(name for name, is_asked in asked.items() if is_asked)

    @property
    def single(self) -> frozenset[str]:
        """Of which of these it wants one value only."""
        names = {"provider": self.providers, "model": self.models, "requester": self.requesters}
        single = {name for name, wanted in names.items() if len(wanted) == 1}
        return frozenset(single | ({"from_cache"} if self.cached is not None else set()))

    def of_logs(self) -> list[ColumnElement[bool]]:
        """Return the conditions on the log itself."""
        columns = request_logs.c
        conditions = self._names(request_logs)
        conditions += _of_statuses(columns.status, self.statuses)
        if self.cached is not None:
            conditions.append(columns.cached.is_(self.cached))
        return conditions

    def _names(self, table: Table) -> list[ColumnElement[bool]]:
        names = _among(table, provider=self.providers, model=self.models, requester=self.requesters)
        if self.search:
            names.append(
                or_(
                    table.c.model.icontains(self.search, autoescape=True),
                    table.c.requester.icontains(self.search, autoescape=True),
                )
            )
        return names


def status_spans(classes: Sequence[str]) -> list[tuple[int, int]]:
    """Return the first and last status of each class; 0 is none. Unknown classes have none."""
    return [
        (0, 0) if name == "none" else (int(name[0]) * _HUNDRED, int(name[0]) * _HUNDRED + 99)
        for name in classes
        if name in STATUS_CLASSES
    ]


def within(table: Table, window: Window) -> ColumnElement[bool]:
    """Return the condition that a record is the account's and of the window."""
    start, end = window.start, window.end
    if table is request_logs:
        begin = table.c.created_at
    elif table is usage_hours:
        begin = table.c.hour
    elif table is usage_sums:
        begin = table.c.begin
    else:
        begin, start, end = table.c.day, start.date(), end.date()
    return and_(table.c.account_id == this_account, begin >= start, begin < end)


def _among(table: Table, **names: Sequence[str]) -> list[ColumnElement[bool]]:
    return [table.c[name].in_(wanted) for name, wanted in names.items() if wanted]


def _of_statuses(status: ColumnElement[Any], classes: Sequence[str]) -> list[ColumnElement[bool]]:
    if not classes:
        return []
    # each as an index says it
    return [
        or_(
            false(),
            *(
                status.between(low, high) if high else status.is_(None)
                for low, high in status_spans(classes)
            ),
        )
    ]


def _floor(moment: datetime, step: Step) -> datetime:
    moment = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return moment if step == "hour" else moment.replace(hour=0)
