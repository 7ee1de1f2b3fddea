"""`metrion account delete` and `metrion purge`: what has to go, now."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Final
from uuid import UUID

import typer

from api.billing import StripeBilling
from scripts.erasing import open_eraser
from storage import roles
from storage.accounts import find_account
from storage.billing import forget_events
from storage.database import Database
from storage.database_url import administrator_url
from storage.erasure import Eraser, Erasure, look_at_erasure, request_erasure
from storage.erasure_receipt import KINDS
from storage.errors import NotFound
from storage.retention import (
    delete_expired_answers,
    delete_expired_rows,
    drop_expired_partitions,
)
from storage.sealing import MasterKeys
from storage.sessions import delete_expired
from storage.settings import Settings

PATIENCE_SECONDS: Final = 60.0
"""How long an erasure may take until it is left to the jobs process."""
_LOOK_SECONDS: Final = 0.5

PURGES: Final[dict[str, Callable[[Database], Awaitable[list[str] | int]]]] = {
    "partitions of the log": drop_expired_partitions,
    "rows of the log": delete_expired_rows,
    "sessions and codes": delete_expired,
    "stored answers": delete_expired_answers,
    "billing events": forget_events,
}
"""What has a time to live, and what deletes it when that is over."""


def delete_account(
    context: typer.Context,
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The account's e-mail address.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete an account and everything that belongs to it, for ever; its owner gets a receipt."""
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Delete {email} and everything that belongs to it, for ever?", abort=True)
    settings = context.find_object(Settings) or Settings.load()
    if not asyncio.run(_delete_account(settings, email)):
        sys.exit(1)


def purge(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Delete now what is older than its time, as the jobs process does every hour."""
    deleted = asyncio.run(_purge(context.find_object(Settings) or Settings.load()))
    if as_json:
        print(json.dumps(deleted))
        return
    for name, count in deleted.items():
        print(f"{count:>9,}  {name}")


async def _delete_account(settings: Settings, email: str) -> bool:
    """Say whether everything is deleted."""
    keys = MasterKeys.load(settings)
    async with _database(settings, roles.API) as database:
        async with database.system() as connection:
            account_id = await find_account(connection, email)
        if account_id is None:
            raise NotFound(f"there is no account for {email}")
        async with database.account(account_id) as connection:
            erasure_id = await request_erasure(connection, keys, settings.region)
    stripe = StripeBilling.open(settings)
    try:
        async with _database(settings, roles.JOBS) as database:
            is_done = await _erase(open_eraser(settings, database, stripe), database, erasure_id)
            _report(email, await look_at_erasure(database, erasure_id), is_done=is_done)
    finally:
        if stripe is not None:
            stripe.close()
    return is_done


async def _erase(eraser: Eraser, database: Database, erasure_id: UUID) -> bool:
    """Erase, beside a jobs process that may be doing the same."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while not (is_done := await eraser.erase(database, erasure_id)):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    return is_done


def _report(email: str, erasure: Erasure | None, *, is_done: bool) -> None:
    if not is_done:
        reason = f" ({erasure.last_error})" if erasure and erasure.last_error else ""
        print(
            f"{email} is shut, but not everything is deleted yet{reason}: the jobs process goes on",
            file=sys.stderr,
        )
        return
    print(f"deleted {email}; the receipt is on its way")
    if erasure is not None:
        for kind, count in erasure.deleted.items():
            print(f"{count:>9,}  {KINDS.get(kind, kind)}")


async def _purge(settings: Settings) -> dict[str, int]:
    deleted: dict[str, int] = {}
    async with _database(settings, roles.JOBS) as database:
        for name, delete in PURGES.items():
            gone = await delete(database)
            deleted[name] = gone if isinstance(gone, int) else len(gone)
    return deleted


@asynccontextmanager
async def _database(settings: Settings, act_as: str) -> AsyncGenerator[Database]:
    # two connections: an erasure's lock is held by one of them
    database = Database(administrator_url(settings), act_as=act_as, pool_size=2)
    try:
        yield database
    finally:
        await database.close()
