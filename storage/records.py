"""The records of what was used: which table answers a question, and several questions at once.

`usage_days` and `usage_hours` tell everything apart. `usage_sums` has the same sums with fewer
dimensions told apart, in kinds: of 10 million rows by 40 models for 20 people, 90 days are 250,000
rows of `usage_days`, 3,600 by model and 720 in all. The smallest that knows what is asked answers.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.filters import Filter, Window, status_spans

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
GROUPS: Final = "groups"
"""Beside the sums: how many groups there are, also of those that do not come (`Question.most`)."""
HISTOGRAMS: Final = ("latency", "ttfb", "overhead")
"""Beside the sums too: see `storage.latency`."""
COST_SERIES: Final = "cost_series"
"""Beside the sums too: the cost over time, by the second since 1970 that an hour or day begins."""
REQUEST_SERIES: Final = "request_series"
"""Beside the sums too: the requests over time, likewise."""

# By size, the smallest first; what each tells apart.  Of hours there are fewer of them.
_KINDS: Final[dict[str, frozenset[str]]] = {
    "": frozenset({"status", "from_cache"}),
    "_requesters": frozenset({"requester"}),
    "_models": frozenset({"provider", "model"}),
    "_providers": frozenset({"provider", "requester"}),
    "_requesters_statuses": frozenset({"requester", "status", "from_cache"}),
    "_models_statuses": frozenset({"provider", "model", "status", "from_cache"}),
    "_names": frozenset({"provider", "model", "requester"}),
}
_ONLY_BY_DAY: Final = ("_providers", "_names")
_EVERYTHING: Final = frozenset({"provider", "model", "requester", "status", "from_cache"})
# What a series is of.  A row for each moment instead would take Python ten times as long.
_SERIES: Final = {COST_SERIES: "cost_usd", REQUEST_SERIES: "requests"}


type Answer = Mapping[str, Any]
"""A row: what was asked for, by name."""


@dataclass(frozen=True, slots=True)
class Question:
    """Sums of a window, by some of `DIMENSIONS`.

    Attributes:
        only: which of `SUMS` and of what is beside them: they are what it takes time for;
            `REQUESTERS` alone takes little, by `begin` or nothing. A series comes with the sum that
            it is of.
        most: so many groups at most come; None: all. Names are whatever clients send: there may be
            a million. Only for groups by names.
        first: by which of `SUMS` they are the largest; of equal ones, and of none, by their names.
        part: what the name that it is by has in it, in any case.
        rest: nothing is left out: where there are more than `most`, the others come together, with
            None for the last name in `by`. Told apart are the first `most` by the sums in `first`,
            and those by the later ones alone: a page lists the dearest and the busiest.
    """

    window: Window
    by: tuple[str, ...] = ()
    only: Sequence[str] = SUMS
    most: int | None = None
    first: Sequence[str] = ()
    part: str = ""
    rest: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A table, or a kind of `usage_sums`, and its column of hours or days."""

    table: str
    kind: str | None
    begin: str
    told: frozenset[str]
    """What it tells apart, beside the hour or day."""


async def ask(
    connection: AsyncConnection, wanted: Filter, questions: Mapping[str, Question]
) -> dict[str, list[Answer]]:
    """Answer all questions with one statement, each by its name; with a second one if need be.

    To put a rest together is for those who have one: it takes several times as long.
    """
    found = await _answers(connection, _Statement(wanted, questions.values()), questions)
    large = {
        name: question
        for name, question in questions.items()
        if question.rest and len(found[name]) > (question.most or 0)
    }
    if large:
        statement = _Statement(wanted, large.values(), with_rest=True)
        found |= await _answers(connection, statement, large)
    return found


async def _answers(
    connection: AsyncConnection, statement: "_Statement", questions: Collection[str]
) -> dict[str, list[Answer]]:
    # text, because it is put together ten times as fast: only names of this module are in it
    rows = await connection.execute(text(statement.sql), statement.parameters)
    found: list[list[Answer]] = [list[Answer]() for _ in questions]
    for number, *values in rows.all():
        answer = dict[str, Any](zip(statement.columns, values, strict=True))
        found[int(number)].append(answer)
    return dict(zip(questions, found, strict=True))


def source_of(window: Window, dimensions: frozenset[str]) -> Source:
    """Return the smallest that tells these apart (`DIMENSIONS` but the first, and `from_cache`)."""
    for kind, known in _KINDS.items():
        if dimensions <= known and (window.step == "day" or kind not in _ONLY_BY_DAY):
            return Source("usage_sums", f"{window.step}s{kind}", "begin", known)
    return Source(f"usage_{window.step}s", None, window.step, _EVERYTHING)


class _Statement:
    """One SELECT for each question, under each other: a column for all that any of them asks."""

    def __init__(
        self, wanted: Filter, questions: Collection[Question], *, with_rest: bool = False
    ) -> None:
        asked = {name for question in questions for name in (*question.by, *question.only)}
        self.columns = [name for name in _TYPES if name in asked]
        self.parameters: dict[str, Any] = {}
        self._wanted = wanted
        self._with_rest = with_rest
        self._conditions = list(self._filter(wanted))
        self.sql = "\nUNION ALL\n".join(map(self._select, range(len(questions)), questions))

    def _select(self, number: int, question: Question) -> str:
        dimensions = self._wanted.dimensions | {*question.by} - {"begin"}
        if REQUESTERS in question.only:
            dimensions |= {"requester"}
        source = source_of(question.window, dimensions)
        rows, begin = self._rows(number, question, source), source.begin
        if source.begin == "day":
            begin = "(day::timestamp AT TIME ZONE 'UTC')"
        cells = _cells_of(question)
        if self._with_rest or (cells and not self._are_cells(source, cells)):
            names = {name: begin if name == "begin" else name for name in cells or question.by}
            rows, begin = _together(question, names, rows), "begin"
            if self._with_rest:
                rows = _told_apart(question, [*names], rows)
        sums = _SUMS | (_OF_CELLS if question.only == (REQUESTERS,) else {})
        keys = {name: begin if name == "begin" else name for name in question.by}
        expressions = keys | {name: sums[name] for name in question.only}
        answers = [f"{expressions.get(name, 'NULL')}::{_TYPES[name]}" for name in self.columns]
        groups = f"GROUP BY ({', '.join(keys.values())})"
        select = f"SELECT {number}, {', '.join(answers)} FROM {rows} {groups}"  # noqa: S608
        if question.most is None or self._with_rest:
            return select
        return f"({select} {_first_of(question)})"

    def _are_cells(self, source: Source, cells: Collection[str]) -> bool:
        """Return whether there is but one record for each cell."""
        told = source.told - self._wanted.single
        return source.kind is not None and "begin" in cells and told <= {*cells}

    def _rows(self, number: int, question: Question, source: Source) -> str:
        """Return the table and the condition that a record is meant."""
        window, is_date = question.window, source.begin == "day"
        self.parameters[f"start{number}"] = window.start.date() if is_date else window.start
        self.parameters[f"end{number}"] = window.end.date() if is_date else window.end
        conditions = [
            "account_id = (SELECT metrion.account())",
            # not a parameter: the kind's partition is known when the statement is planned
            *([f"kind = '{source.kind}'"] if source.kind else []),
            f"{source.begin} >= :start{number} AND {source.begin} < :end{number}",
            *self._conditions,
        ]
        if question.part:
            self.parameters[f"part{number}"] = question.part.lower()
            conditions.append(f"position(:part{number} IN lower({question.by[0]})) > 0")
        return f"metrion.{source.table} WHERE {' AND '.join(conditions)}"

    def _filter(self, wanted: Filter) -> Iterator[str]:
        names = {
            "provider": wanted.providers,
            "model": wanted.models,
            "requester": wanted.requesters,
        }
        for name, values in names.items():
            if values:
                self.parameters[f"{name}s"] = list(values)
                yield f"{name} = ANY (:{name}s)"
        if wanted.statuses:
            spans = (f"status BETWEEN {a} AND {b}" for a, b in status_spans(wanted.statuses))
            yield f"({' OR '.join(['false', *spans])})"
        if wanted.cached is not None:
            yield "from_cache" if wanted.cached else "NOT from_cache"
        if wanted.search:
            self.parameters["search"] = wanted.search.lower()
            places = (f"position(:search IN lower({name})) > 0" for name in ("model", "requester"))
            yield f"({' OR '.join(places)})"


def _together(question: Question, cells: Mapping[str, str], rows: str) -> str:
    """Return records put together to cells: names, each with what it is of them."""
    names = [f"{expression} AS {name}" for name, expression in cells.items()]
    added = dict.fromkeys((*question.only, *question.first))
    parts = [f"{_SUMS[name]} AS {name}" for name in added if name in (*SUMS, *HISTOGRAMS)]
    places = ", ".join(str(place + 1) for place in range(len(cells)))
    return f"(SELECT {', '.join([*names, *parts])} FROM {rows} GROUP BY {places}) AS cells"  # noqa: S608


def _told_apart(question: Question, cells: Sequence[str], rows: str) -> str:
    """Return cells put together once more, those that are none of the first by no last name."""
    *_, last = question.by
    names = [f'{name} COLLATE "C"' for name in question.by]
    wholes = [
        f"sum({name}) OVER (PARTITION BY {', '.join(question.by)})" for name in question.first
    ]
    columns = [f"{whole} AS all_{number}" for number, whole in enumerate(wholes)]
    sums = [f"all_{number} DESC" for number in range(len(wholes))]
    ranks = [
        f"dense_rank() OVER (ORDER BY {', '.join([*sums[number:], *names])})"
        for number in range(len(sums))
    ]
    is_first = f"least({', '.join(ranks)}) <= {question.most}"
    rows = f"(SELECT *, {', '.join(columns)} FROM {rows}) AS wholes"  # noqa: S608
    rows = f"(SELECT *, {is_first} AS is_first FROM {rows}) AS ranked"  # noqa: S608
    told = {name: name for name in cells} | {last: f"CASE WHEN is_first THEN {last} END"}
    return _together(question, told, rows)


def _first_of(question: Question) -> str:
    """Return which groups come, in the order that Python would give them."""
    if question.rest:
        return f"LIMIT {(question.most or 0) + 1}"
    sums = [f"{_SUMS[name]} DESC" for name in question.first]
    names = [f'{name} COLLATE "C"' for name in question.by]
    return f"ORDER BY {', '.join([*sums, *names])} LIMIT {question.most}"


def _cells_of(question: Question) -> tuple[str, ...]:
    """Return by what records are put together before there is an answer; empty: by nothing."""
    if question.only == (REQUESTERS,):
        # who was there when, once each: to count different ones, all records would be sorted
        return (*question.by, "requester")
    return () if _SERIES.keys().isdisjoint(question.only) else ("begin", *question.by)


_SUMS: Final = {
    **{name: f"sum({name})" for name in (*SUMS, *HISTOGRAMS)},
    "last_at": "max(last_at)",
    REQUESTERS: "count(DISTINCT nullif(requester, ''))",
    GROUPS: "count(*) OVER ()",
    **{
        # extract() would make numerics of the seconds: twice the time
        name: f"json_object_agg(date_part('epoch', begin)::bigint, {summed})"
        for name, summed in _SERIES.items()
    },
}
_OF_CELLS: Final = {REQUESTERS: "count(nullif(requester, ''))"}
_TYPES: Final = {
    "begin": "timestamptz",
    **dict.fromkeys(("provider", "model", "requester"), "text"),
    "status": "smallint",
    **dict.fromkeys((*COUNTS, REQUESTERS, GROUPS), "bigint"),  # the sum of a bigint is a numeric
    **dict.fromkeys(("cost_usd", "saved_usd"), "numeric"),
    "latency_ms_sum": "double precision",
    "last_at": "timestamptz",
    **dict.fromkeys(_SERIES, "json"),
    **dict.fromkeys(HISTOGRAMS, "text"),
}
