"""`GET /api/v1/logs`: the account's requests, never their content."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.deps import READING_PROBLEMS, ReadingCaller, ServicesHere
from api.errors import documented
from storage.logs import LARGEST_PAGE, list_logs

router = APIRouter(tags=["Logs"])

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


class LogPage(BaseModel):
    """A page of the log, the newest request first."""

    items: list[LogRow] = Field(description="The requests on this page.")
    next_cursor: str | None = Field(
        description="Pass it as `cursor` to get the next page; null: this is the last.",
        examples=["MjAyNi0wMS0xNVQwOTozMDowMC4xMjM0NTYrMDA6MDA"],
    )


@router.get(
    "/api/v1/logs",
    summary="List requests",
    responses=documented(*READING_PROBLEMS),
)
async def logs(
    services: ServicesHere,
    caller: ReadingCaller,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Rows on a page.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=200, description="`next_cursor` of the page before.")
    ] = None,
) -> LogPage:
    """Return the account's requests of the last 7 days (Free) or 90 days (Pro).

    Requests that come in while you turn pages do not shift the pages.
    """
    async with services.database.account(caller.account_id) as connection:
        page = await list_logs(connection, limit=limit, cursor=cursor)
    rows = [LogRow.model_validate(asdict(row)) for row in page.rows]
    return LogPage(items=rows, next_cursor=page.next_cursor)
