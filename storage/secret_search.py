"""Looks for secrets where none may be: in every column of the database, and in bytes of anything.

A secret is a Metrion token, by its form, or one of the values that were given: provider keys and
tokens that were opened, passwords. They are compared in memory; none is sent to the database (it
might log it) and none is ever printed or named: only the place is.
"""

import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

CHUNK_BYTES: Final = 8 * 1024 * 1024
MOST_ROWS: Final = 1_000_000
"""Of a larger table a sample of about so many rows is searched."""
SHORTEST: Final = 16
"""A shorter value could be an ordinary word."""
_LONGEST: Final = 1024
# So many are looked for one by one, at a gigabyte a second each; of more, what could be one is cut
# out of the bytes and looked up.
_FEW: Final = 200

_TOKEN = re.compile(rb"sk-metrion-[0-9a-f]{32}(?![0-9a-f])")
_KEY_BYTES = rb"A-Za-z0-9_.+/=~-"
_RUN = re.compile(rb"[%s]{%d,}" % (_KEY_BYTES, SHORTEST))
_TEXT_TYPES = ["text", "varchar", "bpchar", "name", "bytea", "json", "jsonb", "xml"]


class SecretFinder:
    """Knows what to look for; its repr shows nothing of it."""

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        """Look for these, beside what has the form of a token; the too short ones are left out."""
        self._known: set[bytes] = set()
        for secret in secrets:
            # of a value with other characters in it the longest part that is looked at
            longest = max(_RUN.findall(secret), key=len, default=b"")
            if len(longest) >= SHORTEST:
                self._known.add(longest)
        self._lengths = sorted({len(known) for known in self._known})

    def __repr__(self) -> str:
        return f"SecretFinder({len(self._known)} known)"

    def is_in(self, data: bytes) -> bool:
        """Say whether a secret is in `data`."""
        if _TOKEN.search(data) is not None:
            return True
        if len(self._known) <= _FEW:
            return any(known in data for known in self._known)
        return any(self._is_in_run(run) for run in set(_RUN.findall(data)))

    def is_in_file(self, path: Path) -> bool:
        """Say whether a secret is in a file, however large.

        Raises:
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            before = b""
            while chunk := file.read(CHUNK_BYTES):
                if self.is_in(before + chunk):
                    return True
                before = chunk[-_LONGEST:]  # one may lie across the border
        return False

    def _is_in_run(self, run: bytes) -> bool:
        if len(run) > _LONGEST:
            return any(known in run for known in self._known)
        return any(
            run[start : start + length] in self._known
            for length in self._lengths
            for start in range(len(run) - length + 1)
        )


@dataclass(frozen=True, slots=True)
class Searched:
    """A table that was searched.

    Attributes:
        table: with its schema.
        columns: those in which a secret is.
        is_sample: not all of its rows were looked at.
    """

    table: str
    columns: tuple[str, ...]
    is_sample: bool


def search_database(
    connection: psycopg.Connection[Any], finder: SecretFinder
) -> Generator[Searched]:
    """Search every text, bytes and JSON column of every table but the server's own.

    By a connection that no policy binds, or it sees nothing.
    """
    tables = connection.execute(
        """
        SELECT n.nspname, c.relname, greatest(c.reltuples, 0)::bigint, array_agg(a.attname::text)
        FROM pg_class AS c
          JOIN pg_namespace AS n ON n.oid = c.relnamespace
          JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          JOIN pg_type AS t ON t.oid = a.atttypid
          LEFT JOIN pg_type AS e ON e.oid = t.typelem AND t.typcategory = 'A'
        WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^(pg_|information_schema$)'
          AND coalesce(e.typname, t.typname) = ANY (%s)
        GROUP BY 1, 2, 3 ORDER BY 1, 2
        """,
        [_TEXT_TYPES],
    ).fetchall()
    for schema, table, rows, columns in tables:
        yield _search_table(connection, finder, (schema, table), rows, columns)


def _search_table(
    connection: psycopg.Connection[Any],
    finder: SecretFinder,
    table: tuple[str, str],
    rows: int,
    columns: list[str],
) -> Searched:
    is_sample = rows > MOST_ROWS
    query = sql.SQL("SELECT {columns} FROM ONLY {table}{sample}").format(
        columns=sql.SQL(", ").join(
            sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns
        ),
        table=sql.Identifier(*table),
        sample=sql.SQL(" TABLESAMPLE SYSTEM ({})").format(100 * MOST_ROWS / rows)
        if is_sample
        else sql.SQL(""),
    )
    found: set[str] = set()
    with connection.transaction(), connection.cursor(binary=False) as cursor:
        # bytes as text, so that a secret stored as bytes looks as it is
        cursor.execute("SET LOCAL bytea_output = 'escape'")
        for values in cursor.stream(query, size=1000):
            for column, value in zip(columns, values, strict=True):
                if value and column not in found and finder.is_in(value.encode()):
                    found.add(column)
    return Searched(".".join(table), tuple(sorted(found)), is_sample)
