"""The records of what was used: which table answers a question, and several questions at once.

`usage_days` and `usage_hours` tell everything apart. `usage_sums` has the same sums with fewer
dimensions told apart, in kinds: of 10 million rows by 40 models for 20 people, 90 days are 250,000
rows of `usage_days`, 15,000 by model and 500 in all. The smallest that knows what is asked answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Double,
    Numeric,
    Select,
    SmallInteger,
    Table,
    Text,
    and_,
    cast,
    distinct,
    func,
    literal_column,
    null,
    select,
    union_all,
)
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from storage.filters import Filter, Window, within
from storage.models import usage_days, usage_hours, usage_sums

DIMENSIONS: Final = ("begin", "provider", "model", "requester", "status")
COUNTS: Final = (
    "requests",
    "errors",
    "forwarded",
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
    "unsaved",
)
SUMS: Final = (*COUNTS, "cost_usd", "saved_usd", "latency_ms_sum", "last_at")
REQUESTERS: Final = "requesters"
"""Beside the sums: how many were named."""
HISTOGRAMS: Final = ("latency", "ttfb", "overhead")
"""Beside the sums too: see `storage.latency`."""

# By size, the smallest first; what each tells apart.  None of the hours knows names alone.
_KINDS: Final[dict[str, frozenset[str]]] = {
    "": frozenset({"status", "from_cache"}),
    "_models": frozenset({"provider", "model", "status", "from_cache"}),
    "_requesters": frozenset({"requester", "status", "from_cache"}),
    "_names": frozenset({"provider", "model", "requester"}),
}
_ONLY_BY_DAY: Final = "_names"


@dataclass(frozen=True, slots=True)
class Question:
    """Sums of a window, by some of `DIMENSIONS`.

    Attributes:
        only: which of `SUMS`, `HISTOGRAMS` and `REQUESTERS`: they are what it takes time for.
    """

    window: Window
    by: tuple[str, ...] = ()
    only: Sequence[str] = SUMS


@dataclass(frozen=True, slots=True)
class _Source:
    """A table, or a kind of `usage_sums`."""

    table: Table
    kind: str | None
    begin: ColumnElement[Any]

    def within(self, window: Window) -> ColumnElement[bool]:
        condition = within(self.table, window)
        if self.kind is None:
            return condition
        # not a parameter: the kind's partition is known when the statement is planned
        return and_(condition, self.table.c.kind == literal_column(f"'{self.kind}'", Text))


async def ask(
    connection: AsyncConnection, wanted: Filter, questions: Mapping[str, Question]
) -> dict[str, list[RowMapping]]:
    """Answer all questions with one statement: rows by a question's name, their columns by name."""
    dimensions = [each for each in DIMENSIONS if any(each in q.by for q in questions.values())]
    values = sorted({each for q in questions.values() for each in q.only})
    parts = [
        _select(number, question, wanted, dimensions, values)
        for number, question in enumerate(questions.values())
    ]
    rows = await connection.execute(parts[0] if len(parts) == 1 else union_all(*parts))
    names = list(questions)
    found: dict[str, list[RowMapping]] = {name: [] for name in names}
    for row in rows.mappings():
        found[names[row["question"]]].append(row)
    return found


def source_of(window: Window, dimensions: frozenset[str]) -> _Source:
    """Return the smallest that tells these apart (`DIMENSIONS` but the first, and `from_cache`)."""
    for kind, known in _KINDS.items():
        if dimensions <= known and (window.step == "day" or kind != _ONLY_BY_DAY):
            return _Source(usage_sums, f"{window.step}s{kind}", usage_sums.c.begin)
    if window.step == "hour":
        return _Source(usage_hours, None, usage_hours.c.hour)
    midnight = func.timezone("UTC", cast(usage_days.c.day, DateTime))
    return _Source(usage_days, None, midnight)


def _select(
    number: int,
    question: Question,
    wanted: Filter,
    dimensions: Sequence[str],
    values: Sequence[str],
) -> Select[Any]:
    asked = {*question.by, *wanted.dimensions} - {"begin"}
    if REQUESTERS in question.only:
        asked.add("requester")
    source = source_of(question.window, frozenset(asked))
    columns: dict[str, ColumnElement[Any]] = {
        name: source.begin if name == "begin" else source.table.c[name] for name in question.by
    }
    answers: list[ColumnElement[Any]] = [literal_column(str(number)).label("question")]
    for name in dimensions:
        answers.append(columns.get(name, _nothing(name)).label(name))
    for name in values:
        is_asked = name in question.only
        answers.append((_sum(source.table, name) if is_asked else _nothing(name)).label(name))
    query = select(*answers).where(source.within(question.window))
    return query.where(*wanted.of_records(source.table)).group_by(*columns.values())


_TYPES: Final[dict[str, TypeEngine[Any]]] = {
    **dict.fromkeys((*COUNTS, REQUESTERS), BigInteger()),
    **dict.fromkeys(("provider", "model", "requester", *HISTOGRAMS), Text()),
    **dict.fromkeys(("cost_usd", "saved_usd"), Numeric()),
    **dict.fromkeys(("begin", "last_at"), DateTime(timezone=True)),
    "status": SmallInteger(),
    "latency_ms_sum": Double(),
}


def _nothing(name: str) -> ColumnElement[Any]:
    """Return what stands for what a question does not ask for."""
    return cast(null(), _TYPES[name])


def _sum(table: Table, name: str) -> ColumnElement[Any]:
    if name == REQUESTERS:
        return func.count(distinct(func.nullif(table.c.requester, "")))
    if name == "last_at":
        return func.max(table.c.last_at)
    total = func.sum(table.c[name])
    # the sum of a bigint is a numeric
    return cast(total, _TYPES[name]) if name in COUNTS or name in HISTOGRAMS else total
