"""Who may do what in a database that is in use: read from its catalogue, and really tried.

The tests of a migrated database's catalogue hold for the schema that a program brings; this holds
for the database that somebody runs, whatever was done to it since. `tried` logs in as each service
role and reaches for what it must not have. What it tries to change it takes back.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import errors, sql
from pydantic import SecretStr

from storage import roles
from storage.database_url import conninfo
from storage.identifiers import uuid7
from storage.rotation import SEALED_COLUMNS

WITHOUT_ACCOUNT: Final = ("alembic_version",)
"""Tables that hold no account's data."""
# Whose business a sealed value is: the API shows an account its own token.
_MAY_READ_SEALED: Final = {(roles.API, "tokens")}
_TRY_MILLISECONDS: Final = 5000

_EVERYONE: Final = [*roles.LOGIN_ROLES, roles.OWNER, roles.DEFINER]
# Each gives one column of sentences: what is wrong, and where.
_FAULTS: Final[Mapping[str, LiteralString]] = {
    "a role is more than it must be": """
        SELECT rolname || ' has ' || concat_ws(', ',
            CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END,
            CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
            CASE WHEN rolcreatedb THEN 'CREATEDB' END,
            CASE WHEN rolreplication THEN 'REPLICATION' END,
            CASE WHEN rolinherit THEN 'INHERIT' END,
            CASE WHEN rolcanlogin AND rolname <> ALL (%(logins)s) THEN 'LOGIN' END)
        FROM pg_roles WHERE rolname = ANY (%(everyone)s)
          AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
            OR rolinherit OR (rolcanlogin AND rolname <> ALL (%(logins)s)))
    """,
    "a role is missing": """
        SELECT wanted FROM unnest(%(everyone)s::text[]) AS wanted
        WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted)
    """,
    "a role is a member of another": """
        SELECT member::regrole::text || ' is a member of ' || roleid::regrole::text
        FROM pg_auth_members WHERE member::regrole::text = ANY (%(everyone)s)
    """,
    "a service role owns something": """
        SELECT refobjid::regrole::text || ' owns ' || pg_describe_object(classid, objid, objsubid)
        FROM pg_shdepend WHERE deptype = 'o' AND refobjid::regrole::text = ANY (%(logins)s)
          AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    """,
    "something in the schema belongs to somebody else": """
        SELECT relname || ' belongs to ' || relowner::regrole::text FROM pg_class
        WHERE relnamespace = 'metrion'::regnamespace
          AND relowner::regrole::text NOT IN ('metrion_owner', 'metrion_definer')
        UNION ALL
        SELECT proname || '() belongs to ' || proowner::regrole::text FROM pg_proc
        WHERE pronamespace = 'metrion'::regnamespace
          AND proowner::regrole::text NOT IN ('metrion_owner', 'metrion_definer')
    """,
    "a table is not forced under row-level security": """
        SELECT relname::text FROM pg_class
        WHERE relnamespace = 'metrion'::regnamespace AND relkind IN ('r', 'p')
          AND relname <> ALL (%(without)s) AND NOT (relrowsecurity AND relforcerowsecurity)
    """,
    "a table that a service role can reach has no policy of its account": """
        SELECT c.relname || ' (' || login || ')'
        FROM pg_class AS c CROSS JOIN unnest(%(logins)s::text[]) AS login
        WHERE c.relnamespace = 'metrion'::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname <> ALL (%(without)s) AND NOT c.relispartition
          AND (has_table_privilege(login, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
            OR has_any_column_privilege(login, c.oid, 'SELECT, INSERT, UPDATE'))
          AND NOT EXISTS (
            SELECT FROM pg_policy WHERE polrelid = c.oid
              AND (polroles = '{0}' OR login::regrole::oid = ANY (polroles))
              AND coalesce(pg_get_expr(polqual, polrelid),
                pg_get_expr(polwithcheck, polrelid)) LIKE '%%account()%%')
    """,
    "a partition can be reached by itself": """
        SELECT c.relname || ' (' || grantee::regrole::text || ')'
        FROM pg_class AS c CROSS JOIN aclexplode(c.relacl)
        WHERE c.relnamespace = 'metrion'::regnamespace AND c.relispartition
          AND c.relkind IN ('r', 'p') AND grantee <> c.relowner
    """,
    "a policy of a service role is not about its account": """
        SELECT tablename || '.' || policyname
        FROM pg_policies CROSS JOIN unnest(ARRAY[qual, with_check]) AS condition
        WHERE schemaname = 'metrion' AND condition IS NOT NULL
          AND (roles && %(logins)s::text[]::name[] OR 'public' = ANY (roles))
          AND (condition NOT LIKE '%%account()%%' OR condition LIKE '%% OR %%')
    """,
    "a view or foreign table shows rows past their policies": """
        SELECT relname::text FROM pg_class
        WHERE relnamespace = 'metrion'::regnamespace AND relkind IN ('v', 'm', 'f')
    """,
    "a function can be called by everybody, or led astray": """
        SELECT p.oid::regprocedure::text FROM pg_proc AS p
        WHERE pronamespace = 'metrion'::regnamespace
          AND (has_function_privilege('public', p.oid, 'EXECUTE') OR (prosecdef
            AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)))
    """,
    "a service role can make objects of its own": """
        SELECT login || ' in ' || nspname
        FROM pg_namespace CROSS JOIN unnest(%(logins)s::text[]) AS login
        WHERE has_schema_privilege(login, oid, 'CREATE')
        UNION ALL
        SELECT login || ' in the database' FROM unnest(%(logins)s::text[]) AS login
        WHERE has_database_privilege(login, current_database(), 'CREATE, TEMPORARY')
    """,
}


_CROSSINGS: Final[tuple[tuple[str, LiteralString], ...]] = (
    ("read a row of", "SELECT {key} FROM {table} LIMIT 1"),
    ("read an account's row of", "SELECT 1 FROM {table} WHERE {key} = {owner} LIMIT 1"),
    ("locked a row of", "SELECT {key} FROM {table} WHERE {key} = {owner} LIMIT 1 FOR UPDATE"),
    ("changed a row of", "UPDATE {table} SET {key} = {key} WHERE {key} = {owner}"),
    ("deleted a row of", "DELETE FROM {table} WHERE {key} = {owner}"),
    ("put a row into", "INSERT INTO {table} ({key}) VALUES ({owner})"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it must be."""

    rule: str
    places: tuple[str, ...]


def faults_of_catalogue(connection: psycopg.Connection[Any]) -> list[Fault]:
    """Return what the catalogue says that it must not, by the administrator's connection."""
    found: list[Fault] = []
    parameters = {
        "everyone": _EVERYONE,
        "logins": list(roles.LOGIN_ROLES),
        "without": list(WITHOUT_ACCOUNT),
    }
    missing = connection.execute(_FAULTS["a role is missing"], parameters).fetchall()
    if missing:  # every other question names them
        return [Fault("a role is missing", tuple(name for (name,) in missing))]
    for rule, query in _FAULTS.items():
        rows = connection.execute(query, parameters).fetchall()
        if rows:
            found.append(Fault(rule, tuple(sorted(place for (place,) in rows))))
    readable = [
        f"{place} ({role})"
        for place in SEALED_COLUMNS
        for role in roles.LOGIN_ROLES
        if (role, place.table.name) not in _MAY_READ_SEALED
        and _may_read(connection, role, place.table.name, place.name)
    ]
    if readable:
        found.append(Fault("a service role can read sealed values", tuple(readable)))
    return found


@dataclass(frozen=True, slots=True)
class _Target:
    """A table, the column that says whose a row is, and somebody who has a row in it."""

    table: str
    key: str
    owner: Any
    is_partition: bool


def tried(connection: psycopg.Connection[Any], url: SecretStr, role: str) -> tuple[int, list[str]]:
    """Log in as a service role and reach for what is not its own.

    Args:
        connection: the administrator's, to learn what there is.
        url: the service role's own.
        role: which it is.

    Returns:
        How many things were tried, and which of them worked, in words.
    """
    targets = list(_targets(connection))
    worked: list[str] = []
    with psycopg.connect(conninfo(url), prepare_threshold=None) as intruder:
        intruder.execute(f"SET statement_timeout = {_TRY_MILLISECONDS}".encode())
        intruder.execute("SET lock_timeout = '1s'")
        intruder.commit()
        attempts = [*_escapes(), *(attempt for target in targets for attempt in _crossings(target))]
        for words, query in attempts:
            if _works(intruder, query):
                worked.append(f"{role} {words}")
    return len(attempts), worked


type _Attempt = tuple[str, sql.Composed]
"""What was done if it works, and how."""


def _escapes() -> Generator[_Attempt]:
    for other in (roles.OWNER, roles.DEFINER, "postgres"):
        yield f"became {other}", sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(other))
    statements: tuple[tuple[str, LiteralString], ...] = (
        ("made a table", "CREATE TABLE metrion.doctor_was_here ()"),
        ("made a temporary table", "CREATE TEMPORARY TABLE doctor_was_here ()"),
        ("made a role", "CREATE ROLE doctor_was_here"),
        ("listed all accounts", "SELECT metrion.list_accounts(1)"),
        ("read a file of the server", "SELECT pg_read_file('PG_VERSION')"),
    )
    for words, query in statements:
        yield words, sql.SQL(query).format()


def _crossings(target: _Target) -> Generator[_Attempt]:
    """Try as nobody, and as an account that does not exist, to get at the rows of one that does."""
    names = {
        "table": sql.Identifier("metrion", target.table),
        "key": sql.Identifier(target.key),
        "owner": sql.Literal(target.owner),
    }
    for account in ("", str(uuid7())):
        who = "as another account" if account else "without an account"
        begin = sql.SQL("SET LOCAL metrion.account_id = {}; ").format(sql.Literal(account))
        # a partition that cannot be read is one that nothing was granted on
        for words, query in _CROSSINGS[:1] if target.is_partition else _CROSSINGS:
            yield f"{words} {target.table} {who}", begin + sql.SQL(query).format(**names)


def _works(intruder: psycopg.Connection[Any], query: sql.Composed) -> bool:
    """Try, and take it back. It worked if it was not forbidden, and touched or made something."""
    try:
        with _taken_back(intruder):
            cursor = intruder.execute(query)
            while cursor.nextset():
                pass
            return cursor.rowcount != 0
    except errors.InsufficientPrivilege:
        return False
    except (errors.UndefinedFunction, errors.UndefinedObject, errors.InvalidParameterValue):
        return False  # there is no such role or function to reach for
    except errors.IntegrityError:
        return True  # it got as far as the row itself
    except (errors.QueryCanceled, errors.LockNotAvailable):
        return True  # something was there that took its time, or was locked


@contextmanager
def _taken_back(connection: psycopg.Connection[Any]) -> Generator[None]:
    try:
        yield
    finally:
        connection.rollback()


def _targets(connection: psycopg.Connection[Any]) -> Generator[_Target]:
    """Every table with account data, and somebody to try it on: with rows in it, if there is."""
    rows = connection.execute(
        """
        SELECT c.relname, CASE c.relname WHEN 'accounts' THEN 'id' ELSE 'account_id' END,
          c.relispartition
        FROM pg_class AS c
        WHERE c.relnamespace = 'metrion'::regnamespace AND c.relkind IN ('r', 'p')
          AND (c.relname = 'accounts' OR EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'account_id'))
        ORDER BY 1
        """
    ).fetchall()
    for table, key, is_partition in rows:
        query = sql.SQL("SELECT {key} FROM {table} WHERE {key} IS NOT NULL LIMIT 1").format(
            key=sql.Identifier(key), table=sql.Identifier("metrion", table)
        )
        try:
            row = connection.execute(query).fetchone()
        except errors.InsufficientPrivilege:
            row = None
        yield _Target(table, key, row[0] if row else uuid7(), is_partition)


def _may_read(connection: psycopg.Connection[Any], role: str, table: str, column: str) -> bool:
    row = connection.execute(
        "SELECT has_column_privilege(%s, %s, %s, 'SELECT')", [role, f"metrion.{table}", column]
    ).fetchone()
    return bool(row and row[0])
