"""The escape suite: as each service role, every table, every way in; nothing of B is touched.

Tables and columns come from the catalogue: a new table fails here until it is forced
under row-level security and `populate` knows how to put rows of two accounts into it.
"""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors

from storage import roles
from storage.ingest import LogWriter

A, B = uuid.UUID(int=0xA1 << 96 | 1), uuid.UUID(int=0xB2 << 96 | 2)
B_SECRET = "bbb-secret"
"""In all texts of B's rows; like B's id, no statement of A's may bring it to light."""

# Which revision the schema is at: no account's data.
WITHOUT_ACCOUNT = {"alembic_version"}


def populate(administrator, proxy_url, log_row):
    """Put rows of A and B into every table."""
    for account, name, plan in ((A, "aaa", "free"), (B, B_SECRET, "pro")):
        administrator.execute(
            "INSERT INTO metrion.accounts (id, email, plan) VALUES (%s, %s, %s)",
            [account, f"{name}@example.com", plan],
        )
        administrator.execute(
            "INSERT INTO metrion.tokens (account_id, id, digest, sealed) VALUES (%s, %s, %s, %s)",
            [account, account, name.ljust(32).encode(), name.encode()],
        )
        administrator.execute(
            "INSERT INTO metrion.provider_keys (account_id, provider, sealed, last_four)"
            " VALUES (%s, %s, %s, %s)",
            [account, name, name.encode(), name[-4:]],
        )
        administrator.execute(
            "INSERT INTO metrion.codes (purpose, address, account_id, digest, expires_at, tries, sent)"
            " VALUES ('sign_in', %(digest)s, %(account)s, %(digest)s, now() + '1 h', 0, '{}')",
            {"digest": name.ljust(32).encode(), "account": account},
        )
        administrator.execute(
            "INSERT INTO metrion.sessions (id, account_id, digest, user_agent, expires_at)"
            " VALUES (%s, %s, %s, %s, now() + '1 h')",
            [account, account, name.ljust(32).encode(), name],
        )
        administrator.execute(
            "INSERT INTO metrion.outbox (id, account_id, key, recipient, subject, text_body)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [account, account, name, f"{name}@example.com", name, name],
        )
        administrator.execute(
            "INSERT INTO metrion.response_cache (account_id, id, digest, sealed, expires_at)"
            " VALUES (%s, %s, %s, %s, now() + '1 h')",
            [account, account, name.ljust(32).encode(), name.encode()],
        )
        administrator.execute(
            "INSERT INTO metrion.billing (account_id, customer_id, subscription_id, status)"
            " VALUES (%(account)s, %(name)s, %(name)s, 'active')",
            {"account": account, "name": name},
        )
        administrator.execute(
            "INSERT INTO metrion.billing_events (account_id, id) VALUES (%s, %s)", [account, name]
        )
        administrator.execute(
            "INSERT INTO metrion.alert_rules (id, account_id, name, type, unit, threshold, providers,"
            " period, spent_before) VALUES (%(account)s, %(account)s, %(name)s, 'budget', 'usd', 1,"
            " ARRAY[%(name)s], 'month', jsonb_build_object(%(name)s, 1))",
            {"account": account, "name": name},
        )
        administrator.execute(
            "INSERT INTO metrion.alert_mails (id, account_id, rule_id, level, at_least, threshold,"
            " unit, created_at) VALUES (%(id)s, %(id)s, %(id)s, 'test', false, 1, %(name)s, now())",
            {"id": account, "name": name},
        )
        administrator.execute(
            "INSERT INTO metrion.erasures (id, account_id, email, address, region, last_error)"
            " VALUES (%s, %s, %s, %s, 'eu-west-1', %s)",
            [account, account, f"{name}@example.com", name.ljust(32).encode(), name],
        )
        texts = dict.fromkeys(["provider", "endpoint", "model", "requester", "error"], name)
        moments = [datetime.now(UTC) - timedelta(days=age) for age in (0, 3, 20)]
        writer = LogWriter(proxy_url)
        assert writer.write([log_row(account, at, **texts) for at in moments]) == len(moments)
        writer.close()
    administrator.execute("ANALYZE")  # statistics could give something away


@pytest.fixture(scope="module")
def isolated(postgres, tmp_path_factory, log_row):
    """A database of two accounts, for all tests here."""
    with postgres.fresh_database(tmp_path_factory.mktemp("isolation")) as fresh:
        with psycopg.connect(fresh.administrator_url.get_secret_value(), autocommit=True) as admin:
            populate(admin, fresh.url(roles.PROXY), log_row)
        yield fresh


@pytest.fixture(scope="module")
def catalogue(isolated) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(
        isolated.administrator_url.get_secret_value(), autocommit=True
    ) as administrator:
        yield administrator


@pytest.fixture(scope="module")
def places(catalogue, read_places):
    """Every table and partition there is in the schema."""
    found = read_places(catalogue)
    assert len([place for place in found if place.is_partition]) > 6
    return found


def with_accounts(places):
    """The tables with account data: all that have no good reason to be without."""
    for place in places:
        if place.name not in WITHOUT_ACCOUNT:
            assert place.key, f"{place.name}: whose data is it?"
            yield place


def rows_of_b(catalogue, places):
    """Everything that B has, as one comparable value."""
    return {
        place.name: catalogue.execute(
            f"SELECT to_jsonb(t) FROM metrion.{place.name} AS t WHERE {place.key} = %s ORDER BY 1",
            [B],
        ).fetchall()
        for place in with_accounts(places)
        if not place.is_partition
    }


def connect(isolated, role, account=None):
    connection = psycopg.connect(isolated.url(role).get_secret_value(), autocommit=True)
    if account is not None:
        connection.execute("SELECT set_config('metrion.account_id', %s, false)", [str(account)])
    return connection


# ---------------------------------------------------------------------------- attacks

READS = [
    "SELECT * FROM {t}",
    "SELECT t FROM {t} AS t",
    "SELECT to_jsonb(t) FROM {t} AS t",
    "SELECT {k} FROM {t}",
    "SELECT * FROM {t} WHERE {k} = '{B}'",
    "SELECT * FROM {t} WHERE {k} <> '{A}'",
    "SELECT * FROM {t} WHERE {k} = '{A}' OR true",
    "SELECT * FROM {t} FOR UPDATE",
    "SELECT * FROM ONLY {t}",
    "SELECT * FROM {t} TABLESAMPLE SYSTEM (100)",
    "SELECT min({k}::text), max({k}::text) FROM {t}",
    "SELECT DISTINCT {k} FROM {t} UNION ALL SELECT {k} FROM {t}",
    "SELECT {k}, count(*) FROM {t} GROUP BY ROLLUP ({k})",
    "WITH t AS MATERIALIZED (SELECT * FROM {t}) SELECT * FROM t WHERE {k} <> '{A}'",
    "SELECT o.* FROM {t} AS t RIGHT JOIN {t} AS o ON o.{k} <> t.{k}",
    "SELECT l.* FROM {t} AS t, LATERAL (SELECT * FROM {t} AS o WHERE o.{k} <> t.{k}) AS l",
    "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM {t}",
    "SELECT query_to_xml('SELECT * FROM {t}', true, false, '')",
    "SELECT * FROM pg_stats WHERE schemaname = 'metrion' AND '{t}' = 'metrion.' || tablename",
    "DELETE FROM {t} WHERE {k} <> '{A}' RETURNING *",
    # B's rows must not even be looked at: a value of theirs in an error is a value seen
    "SELECT * FROM {t} WHERE ({k}::text || 'x')::int > 0",
    "SELECT 1 / (CASE WHEN {k} = '{B}' THEN 0 ELSE 1 END) FROM {t}",
]
READS_OF_A_COLUMN = [
    "SELECT {c} FROM {t}",
    "SELECT max({c}::text) FROM {t}",
    "SELECT * FROM {t} WHERE {c}::text::int > 0",
    "SELECT count(*) FROM {t} WHERE {c} IS NOT NULL AND {k} <> '{A}' HAVING count(*) > 0",
    "UPDATE {t} SET {c} = {c} WHERE {k} <> '{A}' RETURNING {k}",
]
WRITES_TO_B = [
    "DELETE FROM {t} WHERE {k} = '{B}'",
    "DELETE FROM {t} AS t USING {t} AS o WHERE o.{k} = t.{k} AND t.{k} = '{B}'",
    "UPDATE {t} SET {k} = '{A}' WHERE {k} = '{B}'",
    "MERGE INTO {t} AS t USING {t} AS o ON t.{k} = '{B}' WHEN MATCHED THEN DELETE",
]
WRITES_TO_A_COLUMN_OF_B = ["UPDATE {t} SET {c} = NULL WHERE {k} = '{B}'"]
FORBIDDEN = [
    # also where A has rows: they would become, or pretend to be, B's
    'INSERT INTO {t} SELECT (jsonb_populate_record(t, \'{{"{k}": "{B}"}}\')).* FROM {t} AS t',
    "INSERT INTO {t} ({k}) VALUES ('{B}')",
    "UPDATE {t} SET {k} = '{B}'",
    "UPDATE {t} SET {k} = gen_random_uuid()",
    "TRUNCATE {t}",
    "ALTER TABLE {t} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {t} NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE {t} ADD COLUMN x int",
    "CREATE POLICY x ON {t} USING (true)",
    "DROP POLICY account ON {t}",
    "CREATE TRIGGER x BEFORE UPDATE ON {t} EXECUTE FUNCTION metrion.notify_invalidate()",
    "DROP TABLE {t}",
    "COPY {t} TO PROGRAM 'cat'",
    "COPY {t} TO '/tmp/stolen'",
]


def statements(templates, place):
    """The templates as statements on a place, one per column where they name one."""
    named = {"t": f"metrion.{place.name}", "k": place.key or place.columns[0], "A": A, "B": B}
    for template in templates:
        for column in place.columns if "{c}" in template else ("",):
            yield template.format(**named, c=column)


def gives_away(text):
    return str(B) in text or B_SECRET in text or B_SECRET.encode().hex() in text


def attempt(connection, statement):
    """Run a statement; return its rows, or what it was refused with."""
    try:
        cursor = connection.execute(statement.encode())
    except psycopg.Error as error:
        diagnostic = error.diag
        said = [
            diagnostic.message_primary,
            diagnostic.message_detail,
            diagnostic.message_hint,
            diagnostic.context,
        ]
        return error, " ".join(part for part in said if part)
    rows = cursor.fetchall() if cursor.description else []
    return cursor, repr(rows)


@pytest.fixture(params=roles.LOGIN_ROLES)
def role(request) -> str:
    return request.param


@pytest.fixture(params=[None, A], ids=["no account", "account A"])
def intruder(request, isolated, role) -> Iterator[psycopg.Connection[Any]]:
    """A service role's connection, with no account or A's."""
    with connect(isolated, role, request.param) as connection:
        yield connection


def test_every_table_holds_rows_of_both_accounts(catalogue, places):
    """Otherwise nothing here would show anything: teach `populate` about a new table."""
    for place in with_accounts(places):
        if place.is_partition:
            continue
        owners = catalogue.execute(
            f"SELECT DISTINCT {place.key} FROM metrion.{place.name}".encode()
        ).fetchall()
        assert {owner for (owner,) in owners} == {A, B}, place.name


def test_nothing_of_b_can_be_read(intruder, places):
    for place in places:
        for statement in statements(READS + READS_OF_A_COLUMN, place):
            _, shown = attempt(intruder, statement)
            assert not gives_away(shown), statement
            assert "division by zero" not in shown, statement


def test_nothing_of_b_can_be_copied(intruder, places):
    for place in places:
        for statement in statements(["COPY {t} TO STDOUT", "COPY (TABLE {t}) TO STDOUT"], place):
            try:
                with intruder.cursor().copy(statement.encode()) as copy:
                    shown = b"".join(bytes(part) for part in copy).decode()
            except errors.InsufficientPrivilege as refusal:
                shown = str(refusal)
            assert not gives_away(shown), statement
        with (
            pytest.raises((errors.InsufficientPrivilege, errors.FeatureNotSupported)),
            intruder.cursor().copy(f"COPY metrion.{place.name} FROM STDIN".encode()) as copy,
        ):
            copy.write(b"\n")


def test_without_an_account_nothing_at_all_is_seen(isolated, role, places):
    with connect(isolated, role) as connection:
        for place in with_accounts(places):
            result, _ = attempt(connection, f"SELECT * FROM metrion.{place.name}")
            assert isinstance(result, errors.InsufficientPrivilege) or result.rowcount == 0, place


def test_nothing_of_b_can_be_changed(intruder, catalogue, places):
    before = rows_of_b(catalogue, places)
    for place in places:
        for statement in statements(WRITES_TO_B + WRITES_TO_A_COLUMN_OF_B, place):
            result, shown = attempt(intruder, statement)
            assert isinstance(result, psycopg.Error) or result.rowcount == 0, statement
            assert not gives_away(shown), statement
    assert rows_of_b(catalogue, places) == before


def test_no_row_can_be_made_bs_and_no_table_altered(intruder, catalogue, places):
    before = rows_of_b(catalogue, places)
    for place in places:
        for statement in statements(FORBIDDEN, place):
            result, shown = attempt(intruder, statement)
            nothing_to_do = statement.startswith(("INSERT", "UPDATE")) and not isinstance(
                result, psycopg.Error
            )
            assert isinstance(result, psycopg.Error) or (nothing_to_do and result.rowcount == 0), (
                statement
            )
            # what B's row would have been is the intruder's own invention; values are not
            assert B_SECRET not in shown, statement
    assert rows_of_b(catalogue, places) == before


@pytest.mark.parametrize(
    "forged", ["x", "' OR true --", "*", "%", "00000000-0000-0000-0000-000000000000", "", "NULL"]
)
def test_a_forged_account_opens_nothing(isolated, places, forged):
    with connect(isolated, roles.API) as connection:
        connection.execute("SELECT set_config('metrion.account_id', %s, false)", [forged])
        for place in with_accounts(places):
            result, _ = attempt(connection, f"SELECT * FROM metrion.{place.name}")
            assert isinstance(result, psycopg.Error) or result.rowcount == 0, place


def test_policies_cannot_be_switched_off(isolated, role, places):
    with connect(isolated, role, A) as connection:
        connection.execute("SET row_security = off")
        for place in with_accounts(places):
            result, shown = attempt(connection, f"SELECT * FROM metrion.{place.name}")
            assert isinstance(result, errors.InsufficientPrivilege), place
            assert not gives_away(shown)


ESCALATIONS = [
    *(f"SET ROLE {name}" for name in ("metrion_owner", "metrion_definer", "postgres")),
    "SET SESSION AUTHORIZATION metrion_owner",
    "GRANT metrion_owner TO current_user",
    "ALTER ROLE current_user BYPASSRLS",
    "ALTER ROLE current_user SUPERUSER",
    "ALTER ROLE current_user CREATEROLE",
    "CREATE ROLE intruder",
    "CREATE SCHEMA intruder",
    "CREATE TABLE public.intruder (x int)",
    "CREATE TABLE metrion.intruder (x int)",
    "CREATE TEMPORARY TABLE intruder (x int)",
    "CREATE VIEW metrion.intruder AS SELECT * FROM metrion.accounts",
    "CREATE FUNCTION pg_temp.leak(text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
    "CREATE FUNCTION metrion.leak(text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
    "CREATE OR REPLACE FUNCTION metrion.account() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
    "ALTER FUNCTION metrion.lookup_token(bytea[]) SECURITY INVOKER",
    "ALTER SCHEMA metrion OWNER TO current_user",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION file_fdw",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_statistic",
    "ALTER SYSTEM SET row_security = off",
    "SELECT set_config('session_replication_role', 'replica', false)",
    "SELECT pg_create_logical_replication_slot('intruder', 'pgoutput')",
    "CREATE PUBLICATION intruder FOR ALL TABLES",
]


def test_no_role_can_become_more(isolated, role):
    with connect(isolated, role, A) as connection:
        for statement in ESCALATIONS:
            result, _ = attempt(connection, statement)
            assert isinstance(result, psycopg.Error), statement
        for other in set(roles.LOGIN_ROLES) - {role}:
            result, _ = attempt(connection, f"SET ROLE {other}")
            assert isinstance(result, errors.InsufficientPrivilege), other


def test_no_role_can_pass_on_what_it_has(isolated, role, places, catalogue):
    rights = "SELECT oid, relacl::text FROM pg_class UNION SELECT oid, proacl::text FROM pg_proc"
    before = set(catalogue.execute(rights).fetchall())
    with connect(isolated, role, A) as connection:
        for place in places:
            attempt(connection, f"GRANT ALL ON metrion.{place.name} TO PUBLIC")
        attempt(connection, "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA metrion TO PUBLIC")
    assert set(catalogue.execute(rights).fetchall()) == before


def test_what_a_function_answers_is_about_the_one_who_is_named(isolated):
    with connect(isolated, roles.PROXY, A) as connection:
        for digests in ([], [b"x" * 32], ["aaa".ljust(32).encode()]):
            _, shown = attempt(
                connection,
                "SELECT * FROM metrion.lookup_token("
                f"ARRAY[{','.join(f"'\\x{digest.hex()}'" for digest in digests)}]::bytea[])",
            )
            assert not gives_away(shown)
        for call in (f"cached_answer('{B}', '{{}}', 9)", f"cached_answer('{B}', NULL, NULL)"):
            _, shown = attempt(connection, f"SELECT metrion.{call}")
            assert not gives_away(shown)
    with connect(isolated, roles.API, A) as connection:
        for call in (
            "account_id_by_email('%')",
            "account_id_by_email(NULL)",
            "account_by_token('{}')",
            "session_by_digest('{}')",
            "try_code('sign_in', '{}', '{}')",
            "issue_code('sign_in', '%', sha256('a'), sha256('b'))",
            "account_by_customer('%')",
            "account_by_customer(NULL)",
        ):
            _, shown = attempt(connection, f"SELECT metrion.{call}")
            assert not gives_away(shown)


def test_the_owner_is_bound_by_the_policies_too(isolated, places):
    with psycopg.connect(isolated.administrator_url.get_secret_value()) as connection:
        connection.execute("SET ROLE metrion_owner")
        connection.execute("SELECT set_config('metrion.account_id', %s, true)", [str(A)])
        for place in with_accounts(places):
            seen = connection.execute(f"SELECT * FROM metrion.{place.name}".encode())
            assert seen.rowcount == 0, place.name


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT sealed FROM metrion.provider_keys",
        "SELECT * FROM metrion.provider_keys",
        "SELECT k FROM metrion.provider_keys AS k",
        "SELECT to_jsonb(k) FROM metrion.provider_keys AS k",
        "SELECT count(*) FROM metrion.provider_keys WHERE sealed > ''",
        "SELECT max(length(sealed)) FROM metrion.provider_keys",
        "SELECT provider FROM metrion.provider_keys ORDER BY sealed",
        "UPDATE metrion.provider_keys SET last_four = '' RETURNING sealed",
        "UPDATE metrion.provider_keys SET last_four = left(encode(sealed, 'hex'), 4)",
        "DELETE FROM metrion.provider_keys WHERE length(sealed) > 0",
        "INSERT INTO metrion.provider_keys SELECT k.* FROM metrion.provider_keys AS k",
        """
        INSERT INTO metrion.provider_keys AS k (account_id, provider, sealed, last_four)
        VALUES (metrion.account(), 'aaa', '', '')
        ON CONFLICT (account_id, provider) DO UPDATE SET last_four = encode(k.sealed, 'hex')
        """,
        "COPY metrion.provider_keys TO STDOUT",
    ],
)
def test_the_api_cannot_read_its_own_accounts_sealed_keys(isolated, statement):
    with connect(isolated, roles.API, A) as connection:
        result, _ = attempt(connection, statement)
        assert isinstance(result, errors.InsufficientPrivilege)
