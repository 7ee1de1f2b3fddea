"""`/api/v1/logs`: the account's requests, never their content."""

import csv
import io
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.deps import READING_PROBLEMS, ReadingCaller, ServicesHere
from api.errors import InvalidRequestError, ResourceNotFoundError, documented
from api.fields import PlainText
from api.filters import RangeName, WantedFilter, window_of
from storage.database import Database
from storage.filters import Filter, Window
from storage.logs import LARGEST_PAGE, RequestLog, count_logs, get_log, list_logs

router = APIRouter(prefix="/api/v1/logs", tags=["Logs"])

# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n")

_EXAMPLE_ROW: JsonDict = {
    "id": "01994f3b-7c2e-7d10-9f60-2b1c33a0f7aa",
    "created_at": "2026-01-15T09:30:00.123456Z",
    "provider": "openai",
    "endpoint": "chat/completions",
    "model": "gpt-4o-mini-2024-07-18",
    "requester": "checkout-bot",
    "mode": "stored",
    "status": 200,
    "outcome": "ok",
    "streamed": True,
    "cached": False,
    "input_tokens": 1200,
    "cache_read_tokens": 1024,
    "cache_write_tokens": 0,
    "output_tokens": 86,
    "reasoning_tokens": 0,
    "total_tokens": 1286,
    "cost_usd": 0.000155,
    "latency_ms": 912.4,
    "ttfb_ms": 301.8,
    "overhead_ms": 0.7,
    "error": None,
}


class LogRow(BaseModel):
    """One request. A token count of null was not reported, a cost of null is not known."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_ROW]})

    id: UUID = Field(description="The `x-metrion-request-id` of its answer (UUIDv7).")
    created_at: datetime = Field(description="When it came in.")
    provider: str = Field(description="Where it went, such as `openai`.")
    endpoint: str = Field(description="What was called, such as `chat/completions`.")
    model: str | None = Field(description="As the provider named it, else as asked for.")
    requester: str | None = Field(description="The label in `x-metrion-user`.")
    mode: str = Field(description="Whose key was used: `stored` or `pass-through`.")
    status: int | None = Field(
        description="The HTTP status that the client got; null if it left before."
    )
    outcome: str = Field(
        description="`ok`, `provider_error`, `refused`, `timeout`, `client_closed` or "
        "`upstream_closed`."
    )
    streamed: bool = Field(description="Whether the answer was a stream.")
    cached: bool = Field(description="Whether Metrion's response cache answered.")
    input_tokens: int | None = Field(description="All input tokens, cached ones included.")
    cache_read_tokens: int | None = Field(description="Of these, read from the provider's cache.")
    cache_write_tokens: int | None = Field(description="Of these, written to the provider's cache.")
    output_tokens: int | None = Field(description="All output tokens, reasoning included.")
    reasoning_tokens: int | None = Field(description="Of these, reasoning.")
    total_tokens: int | None = Field(description="Input and output.")
    # A float is exact here: below 1,000 USD all twelve decimals of the column survive in it.
    cost_usd: float | None = Field(description="What it cost, in US dollars.")
    latency_ms: float | None = Field(description="From its first byte to the answer's last.")
    ttfb_ms: float | None = Field(description="To the answer's first byte.")
    overhead_ms: float | None = Field(description="Metrion's own share of the latency.")
    error: str | None = Field(description="Metrion's or the provider's message, if it failed.")


# not dataclasses.asdict: it copies each value, which takes longer than all else of a page
_VALUES = attrgetter(*LogRow.model_fields)


class LogPage(BaseModel):
    """A page of the log, the newest request first."""

    items: list[LogRow] = Field(description="The requests on this page.")
    next_cursor: str | None = Field(
        description="Pass it as `cursor` to get the next page (older); null: this is the last.",
        examples=["PDIwMjYtMDEtMTVUMDk6MzA6MDAuMTIzNDU2KzAwOjAw"],
    )
    previous_cursor: str | None = Field(
        description="Pass it as `cursor` to get the page before (newer); null: this is the first.",
        examples=[None],
    )
    total: int = Field(description="Requests on all pages of this filter.", examples=[1234])


async def _log_window(
    range_name: Annotated[
        RangeName | None,
        Query(
            alias="range",
            description="The time, as for usage; without it all that the log still has.",
        ),
    ] = None,
    start: Annotated[
        datetime | None,
        Query(alias="from", description="With `custom`: the first moment (RFC 3339)."),
    ] = None,
    end: Annotated[
        datetime | None,
        Query(alias="to", description="With `custom`: the moment after the last (RFC 3339)."),
    ] = None,
) -> Window | None:
    if range_name is not None:
        return window_of(range_name, start, end)
    if start or end:
        raise InvalidRequestError("`from` and `to` belong to `range=custom`.")
    return None


async def _log_filter(
    wanted: WantedFilter,
    search: Annotated[
        PlainText,
        Query(
            alias="q",
            max_length=100,
            description="Only where the model's or requester's name has this in it, in any case.",
        ),
    ] = "",
) -> Filter:
    return replace(wanted, search=search)


LogWindow = Annotated[Window | None, Depends(_log_window)]
LogFilter = Annotated[Filter, Depends(_log_filter)]


@router.get("", summary="List requests", responses=documented(*READING_PROBLEMS))
async def logs(
    services: ServicesHere,
    caller: ReadingCaller,
    window: LogWindow,
    wanted: LogFilter,
    *,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Rows on a page.")] = 50,
    cursor: Annotated[
        str | None,
        Query(max_length=200, description="`next_cursor` or `previous_cursor` of another page."),
    ] = None,
) -> LogPage:
    """Return the account's requests of the last 7 days (Free) or 90 days (Pro).

    Requests that come in while you turn pages do not shift the pages.
    """
    async with services.database.account(caller.account_id) as connection:
        page = await list_logs(connection, limit=limit, cursor=cursor, window=window, wanted=wanted)
        total = await count_logs(connection, window=window, wanted=wanted)
    return LogPage(
        items=[view_row(row) for row in page.rows],
        next_cursor=page.next_cursor,
        previous_cursor=page.previous_cursor,
        total=total,
    )


@router.get(
    ".csv",
    summary="Download requests",
    response_class=Response,
    responses=documented(*READING_PROBLEMS)
    | {
        200: {
            "content": {"text/csv": {"schema": {"type": "string"}}},
            "description": "One line for each request, the newest first, under a line of names. A "
            "text that a spreadsheet would take for a formula begins with an apostrophe.",
        }
    },
)
async def logs_csv(
    services: ServicesHere, caller: ReadingCaller, window: LogWindow, wanted: LogFilter
) -> Response:
    """Return all requests of a filter as a table, however many: it is sent while it is read."""
    pages = _pages(services.database, caller.account_id, window, wanted)
    first = await anext(pages)  # what goes wrong before the first byte gets its own answer
    name = f"metrion-log-{datetime.now(UTC):%Y-%m-%d}.csv"
    return StreamingResponse(
        _lines(first, pages),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


@router.get(
    "/{row_id}",
    summary="One request",
    responses=documented(*READING_PROBLEMS, ResourceNotFoundError),
)
async def log_row(
    services: ServicesHere,
    caller: ReadingCaller,
    row_id: Annotated[UUID, Path(description="The `x-metrion-request-id` of its answer.")],
) -> LogRow:
    """Return a request of the log by its id."""
    async with services.database.account(caller.account_id) as connection:
        return view_row(await get_log(connection, row_id))


def view_row(row: RequestLog) -> LogRow:
    """Return a row of the log as the API shows it."""
    return LogRow.model_validate(row, from_attributes=True)


async def _pages(
    database: Database, account_id: UUID, window: Window | None, wanted: Filter
) -> AsyncGenerator[Sequence[RequestLog]]:
    """Read the log page by page: no transaction stays open while a slow client reads."""
    cursor = None
    while True:
        async with database.account(account_id) as connection:
            page = await list_logs(
                connection, limit=LARGEST_PAGE, cursor=cursor, window=window, wanted=wanted
            )
        yield page.rows
        cursor = page.next_cursor
        if cursor is None:
            return


async def _lines(
    first: Sequence[RequestLog], rest: AsyncGenerator[Sequence[RequestLog]]
) -> AsyncGenerator[str]:
    yield _csv([LogRow.model_fields])
    yield _csv(_cells(row) for row in first)
    async for rows in rest:
        yield _csv(_cells(row) for row in rows)


def _cells(row: RequestLog) -> list[str]:
    return [_cell(value) for value in _VALUES(row)]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    shown = str(value)
    return f"'{shown}" if shown.startswith(_FORMULA_BEGINS) else shown


def _csv(rows: Iterable[Iterable[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)  # RFC 4180
    return buffer.getvalue()
