"""The way of a batch of log rows into PostgreSQL: one call, exactly once.

Synchronous, for a thread of its own: the recorder's. Not for several threads at once.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import errors
from pydantic import SecretStr

from storage.database_url import conninfo
from storage.errors import DatabaseUnavailable, RowsRejected

_INGEST = "SELECT inserted, gone FROM metrion.ingest(%s::jsonb)"
_GONE = "SELECT metrion.gone_accounts(%s::uuid[])"
_LIMIT = "SELECT set_config('statement_timeout', %s, true)"
# Classes 22 and 23, and 54: a value too large for an index will be so the next time, too.
_BAD_ROWS: Final = (
    psycopg.DataError,
    psycopg.IntegrityError,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class LogWriter:
    """Writes log rows as `metrion_proxy`; connects when it must, and again after a failure."""

    def __init__(self, url: SecretStr, *, statement_seconds: float = 60.0) -> None:
        """Prepare to write; nothing is connected yet. `statement_seconds` bounds one batch."""
        self._url = url
        self._timeout = f"{statement_seconds * 1000:.0f}"
        self._connection: psycopg.Connection[Any] | None = None
        self.gone = 0
        """Rows dropped so far because their account no longer exists."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Write a batch in one transaction; return how many rows were new.

        A row has `account_id` and the keys of `storage.logs.RequestLog`, with `price_source` and
        `left_out`, as JSON values; `cost_usd` as a string. Rows that were written before count as
        not new, rows of an account that no longer exists are dropped: a batch whose answer was lost
        is simply written again, as long as `id` and `created_at` stay the same. What was written is
        known by the log itself, so this holds for as long as the account's plan keeps the row: a
        batch sent again after that would be counted again.

        Raises:
            DatabaseUnavailable: nothing is wrong with the rows: try again later. Also for what
                somebody must mend first, like a missing right: no row is given up for that.
            RowsRejected: at least one row can never be written; none of the batch was.
        """
        try:
            batch = json.dumps([_storable(row) for row in rows], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RowsRejected(f"a row is not JSON: {error}") from None
        try:
            connection = self._connected()
            with connection.pipeline(), connection.transaction():
                connection.execute(_LIMIT, [self._timeout])
                row = connection.execute(_INGEST, [batch]).fetchone()
        except psycopg.Error as error:
            self.close()
            raise _translated(error) from error
        inserted, gone = row or (0, 0)
        self.gone += gone
        return inserted

    def gone_accounts(self, accounts: Collection[UUID]) -> set[UUID]:
        """Return which of these accounts do not exist.

        Raises:
            DatabaseUnavailable: try again later.
        """
        try:
            row = self._connected().execute(_GONE, [list(accounts)]).fetchone()
        except psycopg.Error as error:
            self.close()
            raise DatabaseUnavailable("the accounts cannot be asked for now") from error
        return set(row[0]) if row else set()

    def close(self) -> None:
        """Close the connection, if there is one; a later `write` makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            # nothing that lasts for a session: also behind a pooler in transaction mode
            self._connection = psycopg.connect(
                conninfo(self._url), autocommit=True, prepare_threshold=None
            )
        return self._connection


def _storable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Replace what a JSON text can hold and PostgreSQL cannot: NUL, half surrogate pairs."""
    return {
        name: value.encode("utf-8", "replace").decode().replace("\0", _REPLACEMENT)
        if isinstance(value, str) and not value.isprintable()  # neither of them is
        else value
        for name, value in row.items()
    }


def _translated(error: psycopg.Error) -> DatabaseUnavailable | RowsRejected:
    """Say whose fault it is. PostgreSQL's detail may quote a row: only its message is passed on."""
    reason = error.diag.message_primary or str(error).partition("\n")[0]
    if isinstance(error, _BAD_ROWS):
        return RowsRejected(f"the database refuses the rows: {reason}")
    return DatabaseUnavailable(f"the log cannot be written now: {reason}")
