"""The request log as an account sees it: the last 7 or 90 days, by its plan."""

import base64
import binascii
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, func, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.errors import InvalidValue, NotFound
from storage.filters import DAY, HOUR, Filter, Window, within
from storage.models import request_logs, this_account
from storage.records import Question, ask
from storage.usage import total

LARGEST_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class RequestLog:
    """One request, never its content; the same fields in command, REST, export and CSV.

    None in a token count is *not reported*, in `cost_usd` *not known*; neither is zero.
    """

    id: uuid.UUID
    """UUIDv7, the `x-metrion-request-id` of the answer."""
    created_at: datetime
    provider: str
    endpoint: str
    model: str | None
    """As the provider said, else as asked for; None: neither is known."""
    requester: str | None
    mode: str
    """`stored` or `pass-through`."""
    status: int | None
    """What the client got; None: it left before that."""
    outcome: str
    """`ok`, `provider_error`, `refused`, `timeout`, `client_closed`, `upstream_closed`."""
    streamed: bool
    cached: bool
    """Answered from Metrion's response cache."""
    input_tokens: int | None
    """All of them, `cache_read_tokens` and `cache_write_tokens` included."""
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    """All of them, `reasoning_tokens` included."""
    reasoning_tokens: int | None
    total_tokens: int | None
    cost_usd: Decimal | None
    latency_ms: float | None
    """From the request's first byte to the answer's last, at the proxy."""
    ttfb_ms: float | None
    """To the answer's first byte."""
    overhead_ms: float | None
    """Metrion's own share of the latency."""
    error: str | None


@dataclass(frozen=True, slots=True)
class LogPage:
    """A page of the log, the newest first."""

    rows: Sequence[RequestLog]
    next_cursor: str | None
    """Where the next page (older rows) begins; None: this is the last one."""
    previous_cursor: str | None
    """Where the page before (newer rows) ends; None: this is the first one."""


_FIELDS = [request_logs.c[field.name] for field in fields(RequestLog)]
_PLACE = tuple_(request_logs.c.created_at, request_logs.c.id)
_EVERYTHING = Filter()
_REQUESTS = ("requests",)
# Of more rows than these the newest are soon found among all.
_FEW_ROWS = 20_000
# Where more names have a part, looking for it in the rows themselves takes less.
_MOST_NAMES = 1000
_ERROR = 400
_UUID_7 = 7
_LATEST_SECONDS = 7_258_118_400  # the year 2200, as metrion.ensure_partition says
# A row's id is made when its request arrives, as its time is, but by another clock reading.
_CLOCKS_APART = DAY
_VISIBLE_FROM = text("SELECT metrion.log_window_start()")


async def list_logs(
    connection: AsyncConnection,
    *,
    limit: int = 50,
    cursor: str | None = None,
    window: Window | None = None,
    wanted: Filter = _EVERYTHING,
) -> LogPage:
    """Return a page of the account's log; rows that come in meanwhile do not shift the next one.

    `cursor` is either cursor of a page with the same window and filter.

    Raises:
        InvalidValue: `cursor` is not one that a page gave, or `limit` is not in 1..LARGEST_PAGE.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidValue(f"limit must be between 1 and {LARGEST_PAGE}")
    place = None if cursor is None else _decode_cursor(cursor)
    wanted = await _without_search(connection, window or _whole_log(), wanted)
    conditions = await _conditions(connection, window, wanted)
    if conditions is None:
        return LogPage([], None, None)
    query = select(*_FIELDS).where(*conditions)
    backwards = place is not None and place.is_newer
    if place is not None:
        query = query.where(place.row < _PLACE if backwards else place.row > _PLACE)
    if backwards:
        query = query.order_by(request_logs.c.created_at, request_logs.c.id)
    else:
        query = query.order_by(request_logs.c.created_at.desc(), request_logs.c.id.desc())
    found = (await connection.execute(query.limit(limit + 1))).mappings().all()
    rows = [RequestLog(**row) for row in found[:limit]]
    has_more = len(found) > limit
    if backwards:
        rows.reverse()
    has_older, has_newer = (True, has_more) if backwards else (has_more, place is not None)
    return LogPage(
        rows,
        _encode_cursor(rows[-1], "<") if rows and has_older else None,
        _encode_cursor(rows[0], ">") if rows and has_newer else None,
    )


async def count_logs(
    connection: AsyncConnection, *, window: Window | None = None, wanted: Filter = _EVERYTHING
) -> int:
    """Return how many rows all pages together have.

    Counted in the records; of the hour in which the account's view of the log begins, in the log.
    """
    visible_from: datetime = (await connection.execute(_VISIBLE_FROM)).scalar_one()
    if window is None:
        now = datetime.now(UTC)
        window = Window.between(visible_from, now + DAY)
    wanted = await _without_search(connection, window, wanted)
    if window.start >= visible_from:
        return (await total(connection, window, wanted, _REQUESTS)).requests
    if window.end <= visible_from:
        return 0
    edge = Window.between(visible_from, visible_from + timedelta(microseconds=1))
    in_edge = select(func.count()).where(
        within(request_logs, edge),
        request_logs.c.created_at < window.end,
        *wanted.of_logs(),
    )
    count: int = (await connection.execute(in_edge)).scalar_one()
    midnight = Window.last(DAY + HOUR, edge.end - HOUR).end
    for part in (
        Window(edge.end, min(midnight, window.end), "hour"),
        Window(midnight, window.end, window.step),
    ):
        if part.start < part.end:
            count += (await total(connection, part, wanted, _REQUESTS)).requests
    return count


async def get_log(connection: AsyncConnection, row_id: uuid.UUID) -> RequestLog:
    """Return one row of the account's log.

    Raises:
        NotFound: there is none (any more) with this id.
    """
    row = None
    if row_id.version == _UUID_7:
        seconds = min((row_id.int >> 80) / 1000, _LATEST_SECONDS)  # RFC 9562, 5.7
        moment = datetime.fromtimestamp(seconds, UTC)
        created_at = request_logs.c.created_at
        query = select(*_FIELDS).where(
            request_logs.c.account_id == this_account,
            created_at.between(moment - _CLOCKS_APART, moment + _CLOCKS_APART),
            request_logs.c.id == row_id,
        )
        row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such request in the log")
    return RequestLog(**row)


async def recent_errors(
    connection: AsyncConnection, window: Window, wanted: Filter, limit: int
) -> list[RequestLog]:
    """Return the window's newest rows with a status of 400 and above."""
    query = (
        select(*_FIELDS)
        .where(within(request_logs, window), *wanted.of_logs(), request_logs.c.status >= _ERROR)
        .order_by(request_logs.c.created_at.desc(), request_logs.c.id.desc())
        .limit(limit)
    )
    return [RequestLog(**row) for row in (await connection.execute(query)).mappings()]


async def _conditions(
    connection: AsyncConnection, window: Window | None, wanted: Filter
) -> list[ColumnElement[bool]] | None:
    """Return what a page's rows must be; None: the records say that there are none.

    Nothing is looked for in days that have nothing of it, and a rare provider, which no index
    knows, is looked for by the names of its models.
    """
    own: ColumnElement[bool] = request_logs.c.account_id == this_account
    inside = own if window is None else within(request_logs, window)
    if wanted == _EVERYTHING:
        return [inside]
    span = window or _whole_log()
    questions = {"begins": Question(span, ("begin",), _REQUESTS)}
    if wanted.providers:
        questions["models"] = Question(span, ("model",), (), _MOST_NAMES + 1)
    found = await ask(connection, wanted, questions)
    if not found["begins"]:
        return None
    begins = [row["begin"] for row in found["begins"]]
    created_at = request_logs.c.created_at
    conditions = [inside, created_at >= min(begins), created_at < max(begins) + span.length_of_step]
    models = [row["model"] for row in found.get("models", [])]
    requests = sum(row["requests"] for row in found["begins"])
    if 0 < len(models) <= _MOST_NAMES and requests <= _FEW_ROWS:
        conditions.append(_named(request_logs.c.model, models))
    return [*conditions, *wanted.of_logs()]


async def _without_search(connection: AsyncConnection, window: Window, wanted: Filter) -> Filter:
    """Return the filter with the names that are searched for, if they are of one kind."""
    if not wanted.search:
        return wanted
    others = replace(wanted, search="")
    questions = {
        name: Question(window, (name,), (), _MOST_NAMES + 1, part=wanted.search)
        for name in ("model", "requester")
    }
    found = await ask(connection, others, questions)
    models, requesters = ([row[name] for row in found[name]] for name in questions)
    if (models and requesters) or max(len(models), len(requesters)) > _MOST_NAMES:
        return wanted
    if models:
        return replace(others, models=models)
    return replace(others, requesters=requesters) if requesters else wanted


def _whole_log() -> Window:
    """Return a span that holds all that the longest-kept log may have."""
    now = datetime.now(UTC)
    return Window.between(now - timedelta(days=92), now + timedelta(days=270))


def _named(column: Column[Any], names: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition for names of records, where no name is empty."""
    named = column.in_([name for name in names if name])
    return named if all(names) else or_(named, column.is_(None))


@dataclass(frozen=True, slots=True)
class _Place:
    """Between two rows: before or after this one."""

    row: tuple[datetime, uuid.UUID]
    is_newer: bool


def _encode_cursor(row: RequestLog, direction: str) -> str:
    place = f"{direction}{row.created_at.isoformat()} {row.id}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> _Place:
    try:
        place = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        direction, (moment, _, identifier) = place[:1], place[1:].decode().partition(" ")
        created_at, row_id = datetime.fromisoformat(moment), uuid.UUID(identifier)
        created_at = created_at.astimezone(UTC) if created_at.tzinfo else None
    except (ValueError, OverflowError, binascii.Error):
        raise InvalidValue("this is not a cursor of an earlier page") from None
    if created_at is None or direction not in {b"<", b">"}:
        raise InvalidValue("this is not a cursor of an earlier page")
    return _Place((created_at, row_id), direction == b">")
