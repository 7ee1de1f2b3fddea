"""What an account used, from its records, grouped as a page needs it.

Spans of at most a day come from the hourly records, longer ones from the daily ones; all are exact
sums of the log and outlive it. A page asks all it wants to know with one `Question` each, in one
statement.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from storage.filters import DAY, Filter, Window
from storage.records import SUMS, Answer, Question, ask

MOST_NAMES: Final = 200
"""In any list of names."""
BUSIEST: Final = ("requests",)
"""By what groups are the first of `busiest`."""
# One of them has no name and is not shown; of models one for each provider.
_SOME_MORE: Final = 100


@dataclass(slots=True)  # not frozen: hundreds are made for a page, which would take twice as long
class Sums:
    """The sums of one group of requests.

    Attributes:
        forwarded: what a monthly limit counts.
        total_tokens: those that were reported; see `unreported`.
        cost_usd: of requests with a known price; see `unpriced` and `unreported`.
        unreported: requests whose tokens, hence cost, are not known.
        unpriced: requests whose tokens are known and whose price is not.
        timed: requests behind `latency_ms_sum`: neither refused nor cached.
        saved_usd: what answers from the cache would have cost; see `unsaved`.
        unsaved: requests answered from the cache of which that is not known.
        requesters: how many were named; of groups together it is not known.
        groups: of how many this is one (`Question.most`).
        cost_series: the cost over time, by the second since 1970 that an hour or day begins; of
            groups together it is not known.
        request_series: the requests over time, likewise.
        last_at: when the newest of them came in; None: there is none.
    """

    requests: int = 0
    errors: int = 0
    forwarded: int = 0
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
    unsaved: int = 0
    requesters: int = 0
    groups: int = 0
    cost_usd: Decimal = Decimal(0)
    saved_usd: Decimal = Decimal(0)
    latency_ms_sum: float = 0.0
    last_at: datetime | None = None
    cost_series: Mapping[str, float] = field(default_factory=dict[str, float])
    request_series: Mapping[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def together(cls, parts: Sequence["Sums"]) -> "Sums":
        """Return the sums of several groups together."""
        if not parts:
            return NOTHING
        if len(parts) == 1:
            return parts[0]
        added: dict[str, Any] = {
            name: sum(values, getattr(NOTHING, name))
            for name, values in zip(_ADDED, zip(*map(_ADDENDS, parts), strict=True), strict=True)
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

    @property
    def known_saving(self) -> Decimal | None:
        """What the cache saved; None: it is not known of any answer from it."""
        return None if self.unsaved and not self.saved_usd else self.saved_usd


NOTHING: Final = Sums()
"""Where there was no request."""
_ADDED: Final = tuple(name for name in SUMS if name != "last_at")
_ADDENDS: Final = attrgetter(*_ADDED)


@dataclass(slots=True)  # as `Sums`
class Group:
    """One value of some dimensions, and its sums; a dimension not grouped by is None."""

    sums: Sums
    begin: Any = None
    provider: str | None = None
    model: str | None = None
    """Empty: not known. None also: all others (`Question.rest`)."""
    requester: str | None = None
    """Empty: none was named."""
    status: int | None = None
    """0: there was none."""


type Grouping = tuple[str, ...]


async def groups(
    connection: AsyncConnection, wanted: Filter, **questions: Question
) -> dict[str, list[Group]]:
    """Answer several questions with one statement, each by its name."""
    found = await ask(connection, wanted, questions)
    return {
        name: [
            Group(_sums_of(row, question.only), **{each: row[each] for each in question.by})
            for row in found[name]
        ]
        for name, question in questions.items()
    }


async def group(
    connection: AsyncConnection,
    window: Window,
    wanted: Filter,
    by: Grouping,
    only: Sequence[str] = SUMS,
) -> list[Group]:
    """Sum the window's records by some of `begin` (hour or day) and the other dimensions.

    `only` names the sums that are needed (the rest stay zero): they are what it takes time for.
    """
    return (await groups(connection, wanted, all=Question(window, by, only)))["all"]


async def total(
    connection: AsyncConnection, window: Window, wanted: Filter, only: Sequence[str] = SUMS
) -> Sums:
    """Return the sums of all that is wanted."""
    return (await group(connection, window, wanted, (), only))[0].sums


async def list_names(connection: AsyncConnection, window: Window) -> dict[str, list[Any]]:
    """Return which providers, models (with provider) and requesters occur, the busiest first."""
    most = MOST_NAMES + _SOME_MORE
    found = await groups(
        connection,
        Filter(),
        providers=Question(window, ("provider",), BUSIEST, most, BUSIEST),
        models=Question(window, ("provider", "model"), BUSIEST, most, BUSIEST),
        requesters=Question(window, ("requester",), BUSIEST, most, BUSIEST),
    )
    providers, models, requesters = (busiest(each) for each in found.values())
    return {
        "providers": [each.provider for each in providers][:MOST_NAMES],
        "models": [(each.model, each.provider) for each in models if each.model][:MOST_NAMES],
        "requesters": [each.requester for each in requesters if each.requester][:MOST_NAMES],
    }


def regrouped(groups: Iterable[Group], *by: str) -> list[Group]:
    """Return groups by fewer dimensions than they are."""
    parts: defaultdict[tuple[Any, ...], list[Sums]] = defaultdict(list)
    for each in groups:
        parts[tuple(getattr(each, name) for name in by)].append(each.sums)
    return [
        Group(Sums.together(sums), **dict(zip(by, names, strict=True)))
        for names, sums in parts.items()
    ]


def busiest(groups: Iterable[Group]) -> list[Group]:
    """Return groups, those of most requests first."""
    return sorted(groups, key=lambda each: (-each.sums.requests, name_of(each)))


def name_of(group: Group) -> tuple[str, str, str]:
    """Return what groups of equal sums are ordered by."""
    return group.provider or "", group.model or "", group.requester or ""


async def forwarded_this_month(connection: AsyncConnection) -> int:
    """Return how many of the account's requests count against this month's limit (UTC)."""
    return (await total(connection, month_of(_now()), Filter(), ("forwarded",))).forwarded


def month_of(now: datetime) -> Window:
    """Return the calendar month (UTC) so far, today included."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Window(today.replace(day=1), today + timedelta(days=1), "day")


async def version(connection: AsyncConnection) -> str:
    """Return what changes whenever a request of today or yesterday is recorded."""
    window = Window.last(2 * DAY, _now())
    requests = (await total(connection, window, Filter(), ("requests",))).requests
    return f"{window.start:%Y%m%d}-{requests}"


def _now() -> datetime:
    return datetime.now(UTC)


def _sums_of(row: Answer, names: Sequence[str]) -> Sums:
    # of nothing there is no sum
    return Sums(**{name: value for name in names if (value := row[name]) is not None})
