"""The request log as an account sees it: the last 7 or 90 days, by its plan."""

import base64
import binascii
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Final

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.errors import InvalidValue
from storage.models import request_logs, this_account

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
    """Where the next page begins; None: this is the last one."""


_FIELDS = [request_logs.c[field.name] for field in fields(RequestLog)]


async def list_logs(
    connection: AsyncConnection, *, limit: int = 50, cursor: str | None = None
) -> LogPage:
    """Return a page of the account's log; rows that come in meanwhile do not shift the next one.

    Raises:
        InvalidValue: `cursor` is not one that a page gave, or `limit` is not in 1..LARGEST_PAGE.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidValue(f"limit must be between 1 and {LARGEST_PAGE}")
    place = tuple_(request_logs.c.created_at, request_logs.c.id)
    query = (
        select(*_FIELDS)
        .where(request_logs.c.account_id == this_account)
        .order_by(request_logs.c.created_at.desc(), request_logs.c.id.desc())
    )
    if cursor is not None:
        query = query.where(place < _decode_cursor(cursor))
    found = (await connection.execute(query.limit(limit + 1))).mappings().all()
    rows = [RequestLog(**row) for row in found[:limit]]
    return LogPage(rows, _encode_cursor(rows[-1]) if len(found) > limit else None)


def _encode_cursor(row: RequestLog) -> str:
    place = f"{row.created_at.isoformat()} {row.id}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[datetime, uuid.UUID]:
    try:
        place = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        moment, _, identifier = place.decode().partition(" ")
        created_at, row_id = datetime.fromisoformat(moment), uuid.UUID(identifier)
    except (ValueError, binascii.Error):
        raise InvalidValue("this is not a cursor of an earlier page") from None
    if created_at.tzinfo is None:
        raise InvalidValue("this is not a cursor of an earlier page")
    return created_at, row_id
