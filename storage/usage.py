"""What an account used, from its records, grouped as a page needs it.

Spans of at most a day come from the hourly records, longer ones from the daily ones; both are exact
sums of the log and outlive it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, distinct, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.filters import DAY, Filter, Window, within
from storage.models import this_account, usage_days, usage_hours

MOST_NAMES: Final = 200
"""In any list of names."""

_COUNTS = (
    "requests",
    "errors",
    "cached",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "total_tokens",
    "unreported",
    "unpriced",
    "timed",
)
_ALL_SUMS = (*_COUNTS, "cost_usd", "latency_ms_sum", "last_at")
_DIMENSIONS = ("begin", "provider", "model", "requester", "status")


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of one group of requests.

    Attributes:
        total_tokens: those that were reported; see `unreported`.
        cost_usd: of requests with a known price; see `unpriced` and `unreported`.
        unreported: requests whose tokens, hence cost, are not known.
        unpriced: requests whose tokens are known and whose price is not.
        timed: requests behind `latency_ms_sum`: neither refused nor cached.
        last_at: when the newest of them came in; None: there is none.
    """

    requests: int = 0
    errors: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    unreported: int = 0
    unpriced: int = 0
    timed: int = 0
    cost_usd: Decimal = Decimal(0)
    latency_ms_sum: float = 0.0
    last_at: datetime | None = None

    @classmethod
    def together(cls, parts: Sequence["Sums"]) -> "Sums":
        """Return the sums of several groups together."""
        added: dict[str, Any] = {
            name: sum((getattr(part, name) for part in parts), getattr(_NOTHING, name))
            for name in _ALL_SUMS[:-1]
        }
        return cls(**added, last_at=max((p.last_at for p in parts if p.last_at), default=None))

    @property
    def average_ms(self) -> float | None:
        """The average latency; None: nothing was timed."""
        return self.latency_ms_sum / self.timed if self.timed else None

    @property
    def error_rate(self) -> float | None:
        """The share of errors; None: there was no request."""
        return self.errors / self.requests if self.requests else None

    @property
    def known_tokens(self) -> int | None:
        """The reported tokens; None: none of the requests said."""
        return None if self.unreported and not self.total_tokens else self.total_tokens

    @property
    def known_cost(self) -> Decimal | None:
        """The cost; None: it is not known of any request."""
        is_short = self.unreported or self.unpriced
        return None if is_short and not self.cost_usd else self.cost_usd


_NOTHING: Final = Sums()


@dataclass(frozen=True, slots=True)
class Group:
    """One value of some dimensions, and its sums; a dimension not grouped by is None."""

    sums: Sums
    begin: Any = None
    provider: str | None = None
    model: str | None = None
    """Empty: not known."""
    requester: str | None = None
    """Empty: none was named."""
    status: int | None = None
    """0: there was none."""


type Grouping = tuple[str, ...]


def records_of(window: Window) -> Table:
    """Return the table with the window's records."""
    return usage_hours if window.step == "hour" else usage_days


async def group(
    connection: AsyncConnection,
    window: Window,
    wanted: Filter,
    by: Grouping,
    only: Sequence[str] = _ALL_SUMS,
) -> list[Group]:
    """Sum the window's records by some of `begin` (hour or day) and the other dimensions.

    `only` names the sums that are needed (the rest stay zero): they are what it takes time for.
    """
    table = records_of(window)
    named: dict[str, ColumnElement[Any]] = {
        name: _begin(table) if name == "begin" else table.c[name] for name in by
    }
    columns = [named[name].label(name) for name in by]
    query = (
        select(*columns, *_sums(table, only))
        .where(within(table, window), *wanted.of_records(table))
        .group_by(*(named[name] for name in by))
    )
    rows = (await connection.execute(query)).all()
    return [
        Group(_sums_of(only, row[len(by) :]), **dict(zip(by, row, strict=False))) for row in rows
    ]


async def total(connection: AsyncConnection, window: Window, wanted: Filter) -> Sums:
    """Return the sums of all that is wanted."""
    table = records_of(window)
    query = select(*_sums(table, _ALL_SUMS)).where(within(table, window), *wanted.of_records(table))
    values = (await connection.execute(query)).one()
    return Sums() if values[0] is None else _sums_of(_ALL_SUMS, values)


async def count_requesters(
    connection: AsyncConnection, window: Window, wanted: Filter
) -> tuple[int, list[int]]:
    """Return how many requesters were named, in all and in each hour or day."""
    table = records_of(window)
    named = (
        select(_begin(table).label("begin"), table.c.requester)
        .distinct()
        .where(within(table, window), *wanted.of_records(table), table.c.requester != "")
        .cte("named")
    )
    by_moment = select(named.c.begin, func.count()).group_by(named.c.begin)
    counts = [0] * len(window.moments)
    for begin_of, count in await connection.execute(by_moment):
        counts[window.place(begin_of)] = count
    in_all = select(func.count(distinct(named.c.requester)))
    return (await connection.execute(in_all)).scalar_one(), counts


async def list_names(connection: AsyncConnection, window: Window) -> dict[str, list[Any]]:
    """Return which providers, models (with provider) and requesters occur, the busiest first."""
    table = records_of(window)
    names: dict[str, list[Any]] = {}
    for title, columns in (
        ("providers", (table.c.provider,)),
        ("models", (table.c.model, table.c.provider)),
        ("requesters", (table.c.requester,)),
    ):
        query = (
            select(*columns)
            .where(within(table, window), columns[0] != "")
            .group_by(*columns)
            .order_by(func.sum(table.c.requests).desc(), *columns)
            .limit(MOST_NAMES)
        )
        rows = (await connection.execute(query)).all()
        names[title] = [row[0] if len(columns) == 1 else tuple(row) for row in rows]
    return names


async def forwarded_this_month(connection: AsyncConnection) -> int:
    """Return how many of the account's requests count against this month's limit (UTC)."""
    query = select(func.coalesce(func.sum(usage_days.c.forwarded), 0)).where(
        usage_days.c.account_id == this_account, usage_days.c.day >= _first_of_month(_now())
    )
    return int((await connection.execute(query)).scalar_one())


async def month_to_date(connection: AsyncConnection, wanted: Filter, now: datetime) -> Decimal:
    """Return what this month (UTC) cost so far."""
    query = select(func.coalesce(func.sum(usage_days.c.cost_usd), 0)).where(
        usage_days.c.account_id == this_account,
        usage_days.c.day >= _first_of_month(now),
        *wanted.of_records(usage_days),
    )
    return (await connection.execute(query)).scalar_one()


async def version(connection: AsyncConnection) -> str:
    """Return what changes whenever a request of today or yesterday is recorded."""
    yesterday = (_now() - DAY).date()
    query = select(func.coalesce(func.sum(usage_days.c.requests), 0)).where(
        usage_days.c.account_id == this_account, usage_days.c.day >= yesterday
    )
    return f"{yesterday:%Y%m%d}-{(await connection.execute(query)).scalar_one()}"


def _now() -> datetime:
    return datetime.now(UTC)


def _first_of_month(now: datetime) -> Any:
    return now.astimezone(UTC).date().replace(day=1)


def _begin(table: Table) -> ColumnElement[Any]:
    return table.c.hour if table is usage_hours else table.c.day


def _sums(table: Table, names: Sequence[str]) -> list[ColumnElement[Any]]:
    return [(func.max if name == "last_at" else func.sum)(table.c[name]) for name in names]


def _sums_of(names: Sequence[str], values: Sequence[Any]) -> Sums:
    # PostgreSQL gives the sum of a bigint as a numeric
    sums: dict[str, Any] = {
        name: int(value) if name in _COUNTS else value
        for name, value in zip(names, values, strict=True)
    }
    return Sums(**sums)
