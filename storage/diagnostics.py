"""What `metrion doctor` asks the database about itself: clock, schema, partitions, sealed values.

By the administrator's connection, in short read-only transactions with bounded waits. Who sees
what is `storage.rights`, what stands where it must not is `storage.secret_search`.
"""

import contextlib
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from ipaddress import ip_address
from typing import Any, Final, cast

import psycopg
from psycopg import errors, sql
from psycopg.rows import namedtuple_row
from pydantic import SecretStr

from storage import roles
from storage.database_url import conninfo
from storage.errors import DatabaseUnavailable, RightsMissing, SealingError
from storage.rotation import SEALED_COLUMNS
from storage.sealing import MasterKeys

STATEMENT_SECONDS: Final = 60
MOST_SEALED_VALUES: Final = 20_000
"""So many values of a sealed column are opened; the form of all of them is looked at."""
MAIL_SECONDS: Final = 3600
"""So long a mail may wait: a mail server that is restarted takes less."""

_KEY_ID_FROM_FORM = """
    SELECT get_byte({column}, 2)::bigint << 24 | get_byte({column}, 3) << 16
        | get_byte({column}, 4) << 8 | get_byte({column}, 5) AS key_id, count(*)
    FROM {table} WHERE substring({column}, 1, 2) = '\\x4d01' AND length({column}) >= 34
    GROUP BY 1
"""
_WITHOUT_FORM = """
    SELECT count(*) FROM {table}
    WHERE substring({column}, 1, 2) <> '\\x4d01' OR length({column}) < 34
"""


@dataclass(slots=True)
class SealedValues:
    """What was found in the sealed columns.

    Attributes:
        by_key: master key id → values sealed under it.
        unsealed: column → values that have not the form of a sealed value.
        unreadable: column → values that do not open.
        opened: how many were opened.
        secrets: what was in the columns of tokens and keys, to look for elsewhere.
    """

    by_key: dict[int, int] = field(default_factory=dict[int, int])
    unsealed: dict[str, int] = field(default_factory=dict[str, int])
    unreadable: dict[str, int] = field(default_factory=dict[str, int])
    opened: int = 0
    secrets: set[bytes] = field(default_factory=set[bytes], repr=False)


@dataclass(frozen=True, slots=True)
class Server:
    """The server, as the administrator's connection shows it."""

    version: str
    is_encrypted: bool
    address: str | None
    """None: a socket on this machine."""
    sees_all: bool
    """No policy binds the administrator: all rows can be searched."""
    is_service: str | None
    """The service role that METRION_DATABASE_URL names, if it is none of an administrator."""

    @property
    def is_far(self) -> bool:
        """It is reached over a public network."""
        return self.address is not None and ip_address(self.address).is_global


class Diagnosis:
    """An administrator's connection, and what can be asked through it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """Take a connection in autocommit mode (see `open_diagnosis`)."""
        self.connection = connection

    @property
    def server(self) -> Server:
        """Say what answers, and as whom we are there."""
        version, encrypted, address, sees_all, user = self._one("""
            SELECT current_setting('server_version'),
                coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
                host(inet_server_addr()),
                (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user),
                session_user
        """)
        service = user if user in roles.LOGIN_ROLES else None
        return Server(version, encrypted, address, sees_all, service)

    def clock_difference(self) -> float:
        """Return how many seconds the database's clock is ahead of this machine's."""
        before = time.time()
        (there,) = self._one("SELECT extract(epoch FROM clock_timestamp())::float8")
        return there - (before + time.time()) / 2

    def revision(self) -> str | None:
        """Return the schema's revision; None: there is no schema."""
        try:
            row = self.connection.execute(
                "SELECT version_num FROM metrion.alembic_version"
            ).fetchone()
        except (errors.UndefinedTable, errors.InvalidSchemaName):
            return None
        return row[0] if row else None

    def last_partition_days(self) -> Mapping[int, date]:
        """Return until which day there are partitions of the log, by retention class."""
        rows = self.connection.execute("""
            SELECT part[1]::int, max(to_date(part[2], 'YYYYMMDD')
                + CASE part[1] WHEN '7' THEN 0 ELSE 6 END)
            FROM pg_class, regexp_match(relname, '^request_logs_(7|90)_([0-9]{8})$') AS part
            WHERE relnamespace = 'metrion'::regnamespace AND part IS NOT NULL GROUP BY 1
        """).fetchall()
        return dict(rows)

    def expired_partitions(self, days: int) -> int:
        """Return how many partitions nobody may have seen for so many days are still there."""
        (count,) = self._one(
            """
            SELECT count(*)
            FROM pg_class, regexp_match(relname, '^request_logs_(7|90)_([0-9]{8})$') AS part
            WHERE relnamespace = 'metrion'::regnamespace AND part IS NOT NULL
                AND to_date(part[2], 'YYYYMMDD') + CASE part[1] WHEN '7' THEN 1 ELSE 7 END
                    < current_date - part[1]::int - %s
            """,
            [days],
        )
        return count

    def late_mails(self) -> int | None:
        """Return how many mails should have been sent long ago; None: it cannot be seen."""
        if not self.server.sees_all:
            return None
        (count,) = self._one(
            """
            SELECT count(*) FROM metrion.outbox
            WHERE created_at < now() - make_interval(secs => %s)
            """,
            [MAIL_SECONDS],
        )
        return count

    def sealed_values(self, keys: MasterKeys) -> SealedValues:
        """Look at every sealed value's form, and open them (as `metrion_definer`)."""
        found = SealedValues()
        with self.connection.transaction():
            self.connection.execute(f"SET LOCAL ROLE {roles.DEFINER}".encode())
            for place in SEALED_COLUMNS:
                names = {
                    "column": sql.Identifier(place.name),
                    "table": sql.Identifier("metrion", place.table.name),
                }
                for key_id, count in self.connection.execute(
                    sql.SQL(_KEY_ID_FROM_FORM).format(**names)
                ):
                    found.by_key[key_id] = found.by_key.get(key_id, 0) + count
                (unsealed,) = self._one(sql.SQL(_WITHOUT_FORM).format(**names))
                if unsealed:
                    found.unsealed[str(place)] = unsealed
                self._open_all(place, keys, found)
        return found

    def _open_all(self, place: Any, keys: MasterKeys, found: SealedValues) -> None:
        needs = [*(column.name for column in place.key), *place.needs]
        query = sql.SQL(
            "SELECT {needs}, {column} AS sealed_value FROM {table} LIMIT {most}"
        ).format(
            needs=sql.SQL(", ").join(map(sql.Identifier, dict.fromkeys(needs))),
            column=sql.Identifier(place.name),
            table=sql.Identifier("metrion", place.table.name),
            most=MOST_SEALED_VALUES,
        )
        with self.connection.cursor(row_factory=namedtuple_row) as cursor:
            for row in cast("Iterable[Any]", cursor.stream(query)):
                try:
                    value = keys.open(row.sealed_value, place.binding(row))
                except SealingError:
                    found.unreadable[str(place)] = found.unreadable.get(str(place), 0) + 1
                    continue
                found.opened += 1
                if place.table.name in _SEARCHED_FOR:
                    found.secrets.add(value)

    def _one(self, query: Any, parameters: Any = None) -> Any:
        row = self.connection.execute(query, parameters).fetchone()
        assert row is not None  # noqa: S101 - an aggregate or a query without FROM
        return row


# Short, and worth money; what else is sealed (answers of providers) is neither.
_SEARCHED_FOR: Final = {"tokens", "provider_keys"}


@contextmanager
def open_diagnosis(url: SecretStr) -> Generator[Diagnosis]:
    """Connect as the administrator; nothing that is done here is kept.

    Raises:
        DatabaseUnavailable: it does not answer, or what was asked takes too long.
        RightsMissing: the administrator may not ask it.
    """
    try:
        with psycopg.connect(conninfo(url), autocommit=True, prepare_threshold=None) as connection:
            connection.execute(f"SET statement_timeout = '{STATEMENT_SECONDS}s'".encode())
            connection.execute("SET timezone = 'UTC'")
            _look_as_owner(connection)
            yield Diagnosis(connection)
    except errors.InsufficientPrivilege as error:
        raise RightsMissing(
            f"the database's administrator may not: {_first_line(error)}"
        ) from error
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"the database is not available: {_first_line(error)}") from error


def _look_as_owner(connection: psycopg.Connection[Any]) -> None:
    """Let an administrator who is no superuser see the schema: its own role has no right on it."""
    row = connection.execute(
        "SELECT rolsuper FROM pg_roles WHERE rolname = session_user"
    ).fetchone()
    if row != (True,):
        # a service role may not, and before the first migration there is no such role
        with contextlib.suppress(errors.InsufficientPrivilege, errors.InvalidParameterValue):
            connection.execute(f"SET ROLE {roles.OWNER}".encode())


def today() -> date:
    """Return the day by the clock that partitions go by."""
    return datetime.now(UTC).date()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
