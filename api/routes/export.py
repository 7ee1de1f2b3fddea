"""`/api/v1/account/export`: everything that is kept of the account, to take along."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final, override
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from api.deps import SESSION_PROBLEMS, ServicesHere, SessionCaller
from api.errors import TooManyAttemptsError, documented
from api.static_files import STATIC_FOLDER
from storage.errors import ExportUnderWay
from storage.export import Exports

router = APIRouter(prefix="/api/v1/account/export", tags=["Account"])

SCHEMA_PATH: Final = "/api/v1/account/export/schema"
SEND_SECONDS: Final = 60.0
"""How long a client may take for one part; a part is 500 rows at most."""
EXPORT_SECONDS: Final = 3600.0
"""How long all of it may take: so long old versions of rows are kept for it."""
_SCHEMA_FILE: Final = STATIC_FOLDER / "export-schema.json"
_JSON: Final = "application/json"


@router.get(
    "",
    summary="Download everything",
    response_class=Response,
    responses=documented(*SESSION_PROBLEMS, TooManyAttemptsError)
    | {
        200: {
            "content": {_JSON: {"schema": {"type": "object"}}},
            "description": "One JSON document, described by the JSON Schema at "
            f"`{SCHEMA_PATH}`. If something goes wrong in the middle, the connection breaks off: "
            "what has arrived has no end and is no JSON.",
        }
    },
)
async def export(services: ServicesHere, caller: SessionCaller) -> Response:
    """Return all that is kept of the account as it is at this moment, however much it is.

    Settings, alert rules, daily usage records, the log as far back as the plan shows it, names of
    providers (no keys), sessions and billing. It is sent while it is read. Only for a person who is
    signed in: it holds the account's address, which a Metrion Key must not read.
    """
    return await Download.of(services.exports, caller.account_id)


@router.get(
    "/schema",
    summary="The form of an export",
    response_class=Response,
    responses={
        200: {
            "content": {"application/schema+json": {"schema": {"type": "object"}}},
            "description": "A JSON Schema (2020-12).",
        }
    },
)
async def export_schema() -> Response:
    """Return the JSON Schema that an export keeps to; it says what each member means."""
    return FileResponse(_SCHEMA_FILE, media_type="application/schema+json")


class Download(StreamingResponse):
    """An account's document on its way, from a transaction that ends with it."""

    def __init__(self, parts: AsyncGenerator[bytes], open_until_sent: AsyncExitStack) -> None:
        name = f"metrion-export-{datetime.now(UTC):%Y-%m-%d}.json"
        disposition = {
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": "no-store",
        }
        super().__init__(parts, media_type=_JSON, headers=disposition)
        self._open_until_sent = open_until_sent

    @classmethod
    async def of(cls, exports: Exports, account_id: UUID) -> "Download":
        """Open the document; what goes wrong before its first part is an answer of its own.

        Raises:
            TooManyAttemptsError, DatabaseUnavailable, NotFound
        """
        async with AsyncExitStack() as stack:
            try:
                parts = await stack.enter_async_context(exports.document(account_id))
            except ExportUnderWay as error:
                detail = f"{str(error).capitalize()}."
                raise TooManyAttemptsError(detail, headers={"Retry-After": "10"}) from None
            first = await anext(parts)
            return cls(_chain(first, parts), stack.pop_all())

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, unless the client is too slow: others' deleted rows wait for its snapshot."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        async with self._open_until_sent, asyncio.timeout(EXPORT_SECONDS):
            await super().__call__(scope, receive, send_in_time)


async def _chain(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for part in rest:
        yield part
