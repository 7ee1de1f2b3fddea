"""Rotation of the master key: every sealed value sealed again under a new key, while all runs.

1. A new key is put into the master key file and is active at once: every process follows the file
   (`MasterKeys`), and opens, and looks tokens up, under all keys of it.
2. Every sealed column is gone through in batches, each a short transaction that skips rows that
   others are just changing. Where a process stops, the next one goes on: what is left to do is what
   is not sealed under the active key, nothing else is remembered.
3. When nothing needs them any more, the old keys can be dropped from the file (`retire`).

With METRION_MASTER_KEYS the ring is the operator's: a new key is added to it beside the active one
in all processes, then made active in all processes, and only step 2 is done here.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Column, LargeBinary, Table, bindparam, func, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import master_key_file
from storage.accounts import token_binding
from storage.callers import key_binding
from storage.database import Database
from storage.errors import SealingError
from storage.models import provider_keys, response_cache, tokens
from storage.response_cache import answer_binding, digest_of
from storage.sealing import Binding, MasterKeys, sealed_under
from storage.settings import Settings

SETTLE_SECONDS: Final = 2.0
"""How long a look-up may still be on its way that was begun before the ring was replaced."""
RETIRE_SECONDS: Final = 60.0
"""How long a transaction may still be open that has sealed something under an old key."""
_BATCH_ROWS = 200
_MOST_ROUNDS = 5
_ROUND_SECONDS = 0.5
_MOST_PLACES = 20
_KEY_ID_AT, _KEY_ID_BYTES = 3, 4  # in a sealed value, counted from 1


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed values, and what its rows need to be sealed again."""

    table: Table
    binding: Callable[[Any], Binding]
    """Where the value of a row (its primary key and `needs`) opens."""
    needs: tuple[str, ...] = ()
    name: str = "sealed"
    digest: Callable[[MasterKeys, bytes], Mapping[str, bytes]] = lambda _keys, _value: {}
    """Columns that are derived from the value and a master key."""
    most_rows: int = _BATCH_ROWS
    """In one batch: all their values are in memory at once."""

    def __str__(self) -> str:
        return f"{self.table.name}.{self.name}"

    @property
    def column(self) -> Column[bytes]:
        """The column itself."""
        return self.table.c[self.name]

    @property
    def key(self) -> list[Column[Any]]:
        """The table's primary key."""
        return list(self.table.primary_key)


SEALED_COLUMNS: Final = (
    SealedColumn(
        tokens,
        lambda row: token_binding(row.account_id, row.id),
        needs=("id",),
        digest=lambda keys, token: {"digest": keys.token_digests(token.decode())[0]},
    ),
    SealedColumn(provider_keys, lambda row: key_binding(row.account_id, row.provider)),
    SealedColumn(
        response_cache,
        lambda row: answer_binding(row.account_id, row.id),
        digest=lambda keys, answer: {"digest": digest_of(keys, answer)},
        most_rows=20,
    ),
)
"""All there are; a test compares them with the catalogue."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a column is."""

    column: str
    done: int
    """Values of this run that are sealed again."""
    total: int
    """Values that were not under the active key when it began."""


@dataclass(slots=True)
class Report:
    """What a run did, and what is left."""

    active: int
    added: bool = False
    """Whether the active key is new."""
    resealed: dict[str, int] = field(default_factory=dict[str, int])
    """Column → values sealed again."""
    needed: dict[int, int] = field(default_factory=dict[int, int])
    """Other keys that are still needed → values sealed under them."""
    unreadable: dict[str, str] = field(default_factory=dict[str, str])
    """Account and row → why its value does not open; the first ones only."""
    retired: list[int] = field(default_factory=list[int])
    """Keys that were dropped."""

    @property
    def is_complete(self) -> bool:
        """Whether everything is sealed under the active key."""
        return not self.needed


type Tell = Callable[[Progress], None]


async def rotate(database: Database, settings: Settings, tell: Tell) -> Report:
    """Go on with a rotation that was not finished; else add a new key and seal everything under it.

    `database` is the administrator's, acting as `roles.DEFINER`. With METRION_MASTER_KEYS no key is
    added. May be stopped at any time, and called again.

    Raises:
        MasterKeyError: the ring cannot be read or written, or another rotation is under way.
        DatabaseUnavailable: what is done stays done; the next call goes on.
    """
    with _exclusive(settings):
        keys = MasterKeys.load(settings)
        added = False
        if settings.master_keys_are_in_a_file and not await count_needed(database, keys.active):
            master_key_file.add_key(settings.master_key_path)
            added = True
        await _wait_for_age(settings, SETTLE_SECONDS)
        report = await _reseal_all(database, keys, tell)
        report.added = added
        return report


async def retire(database: Database, settings: Settings, tell: Tell) -> Report:
    """Drop all keys but the active one from the file, if nothing needs them; seal the rest first.

    Waits until the ring is `RETIRE_SECONDS` old. Codes and sessions of people who signed in before
    the active key was made end with this: their digests are made with the old key. So do backups.

    Raises:
        MasterKeyError, DatabaseUnavailable: as `rotate`.
    """
    with _exclusive(settings):
        keys = MasterKeys.load(settings)
        await _wait_for_age(settings, RETIRE_SECONDS)
        report = await _reseal_all(database, keys, tell)
        if report.is_complete and settings.master_keys_are_in_a_file:
            report.retired = master_key_file.drop_inactive_keys(settings.master_key_path)
        return report


async def count_needed(database: Database, active: int) -> dict[int, int]:
    """Return how many values are sealed under other keys than the active one, by key id."""
    needed: dict[int, int] = {}
    for place in SEALED_COLUMNS:
        async with database.system() as connection:
            key_id = _key_id(place).label("key_id")
            rows = await connection.execute(
                select(key_id, func.count()).where(_is_left(place, active)).group_by(key_id)
            )
            for found, count in rows:
                number = int.from_bytes(found)
                needed[number] = needed.get(number, 0) + count
    return needed


async def _reseal_all(database: Database, keys: MasterKeys, tell: Tell) -> Report:
    report = Report(keys.active)
    for place in SEALED_COLUMNS:
        await _reseal_column(database, keys, place, report, tell)
    report.needed = await count_needed(database, keys.active)
    return report


async def _reseal_column(
    database: Database, keys: MasterKeys, place: SealedColumn, report: Report, tell: Tell
) -> None:
    """Go through a column until nothing is left but what does not open, or is always in use."""
    total = await _count_left(database, place, keys.active)
    done = unreadable = 0
    tell(Progress(str(place), 0, total))
    for round_number in range(_MOST_ROUNDS):
        if round_number:
            await asyncio.sleep(_ROUND_SECONDS)
        unreadable, last = 0, None
        while True:
            async with database.system() as connection:
                rows = await _next_rows(connection, place, keys.active, last)
                if not rows:
                    break
                opened = await _reseal_rows(connection, keys, place, rows, report)
            last = rows[-1]
            done += opened
            unreadable += len(rows) - opened
            tell(Progress(str(place), done, max(total, done)))
        if await _count_left(database, place, keys.active) <= unreadable:
            break
    report.resealed[str(place)] = done


async def _next_rows(
    connection: AsyncConnection, place: SealedColumn, active: int, last: Any | None
) -> list[Any]:
    """Lock and return the next rows after `last`. Rows in use are skipped: nobody waits for us."""
    needs = [place.table.c[name] for name in place.needs]
    query = select(*place.key, *needs, place.column.label("sealed_value")).where(
        _is_left(place, active)
    )
    if last is not None:
        reached = [literal(getattr(last, c.name), c.type) for c in place.key]
        query = query.where(tuple_(*place.key) > tuple_(*reached))
    most_rows = min(_BATCH_ROWS, place.most_rows)
    query = query.order_by(*place.key).limit(most_rows).with_for_update(skip_locked=True)
    return list(await connection.execute(query))


async def _reseal_rows(
    connection: AsyncConnection,
    keys: MasterKeys,
    place: SealedColumn,
    rows: list[Any],
    report: Report,
) -> int:
    """Seal rows again; return how many, without those that do not open."""
    changes: list[dict[str, Any]] = []
    for row in rows:
        binding = place.binding(row)
        try:
            value = keys.open(row.sealed_value, binding)
        except SealingError as error:
            if len(report.unreadable) < _MOST_PLACES:
                where = f"account {binding.account_id}, {place} of {binding.row}"
                report.unreadable[where] = str(error)
            continue
        new = {place.name: keys.seal(value, binding), **place.digest(keys, value)}
        key = {f"old_{column.name}": getattr(row, column.name) for column in place.key}
        changes.append(key | {f"new_{name}": changed for name, changed in new.items()})
    if changes:
        names = [name.removeprefix("new_") for name in changes[0] if name.startswith("new_")]
        await connection.execute(
            update(place.table)
            .where(*(column == bindparam(f"old_{column.name}") for column in place.key))
            .values({name: bindparam(f"new_{name}") for name in names}),
            changes,
        )
    return len(changes)


async def _count_left(database: Database, place: SealedColumn, active: int) -> int:
    query = select(func.count()).select_from(place.table).where(_is_left(place, active))
    async with database.system() as connection:
        return (await connection.execute(query)).scalar_one()


def _key_id(place: SealedColumn) -> Any:
    return func.substring(place.column, _KEY_ID_AT, _KEY_ID_BYTES, type_=LargeBinary)


def _is_left(place: SealedColumn, active: int) -> Any:
    begin = sealed_under(active)
    return func.substring(place.column, 1, len(begin), type_=LargeBinary) != begin


@contextmanager
def _exclusive(settings: Settings) -> Generator[None]:
    """Change the ring alone. Without a file there is none to change, and two runs do no harm."""
    if not settings.master_keys_are_in_a_file:
        yield
        return
    with master_key_file.locked(settings.master_key_path):
        yield


async def _wait_for_age(settings: Settings, seconds: float) -> None:
    """Wait until the ring has been as it is for so long."""
    if settings.master_keys_are_in_a_file:
        replaced_at = settings.master_key_path.stat().st_mtime
        await asyncio.sleep(max(0.0, min(seconds, replaced_at + seconds - time.time())))
