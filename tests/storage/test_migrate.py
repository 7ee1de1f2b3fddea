import secrets
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr

from storage import embedded_process, roles
from storage.database_url import service_url
from storage.embedded import EmbeddedPostgres
from storage.errors import DatabaseUnavailable, RightsMissing, SchemaError
from storage.ingest import LogWriter
from storage.migrate import downgrade, migrate
from storage.settings import Settings

NEW_ACCOUNT = """
    INSERT INTO metrion.accounts (id, email) VALUES (gen_random_uuid(), 'a@b.example') RETURNING id
"""
SCHEMA = """
    SELECT c.relkind::text, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
      a.attnotnull, c.relacl::text, c.relrowsecurity
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE c.relnamespace = 'metrion'::regnamespace
    UNION ALL SELECT 'f', oid::regprocedure::text, proowner::regrole::text, prosrc, prosecdef,
      proacl::text, NULL FROM pg_proc WHERE pronamespace = 'metrion'::regnamespace
    UNION ALL SELECT 'p', tablename, policyname, qual, permissive = 'PERMISSIVE', roles::text, NULL
      FROM pg_policies WHERE schemaname = 'metrion'
    ORDER BY 1, 2, 3
"""


def execute(url, statement, *parameters):
    with psycopg.connect(url.get_secret_value(), autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def empty(postgres) -> Iterator[SecretStr]:
    """The administrator's URL to a database without anything in it."""
    name = f"metrion_empty_{secrets.token_hex(4)}"
    execute(
        postgres.administrator_url, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
    )
    yield postgres.url_of(name)
    execute(postgres.administrator_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def roles_folder(postgres) -> Path:
    """The passwords of the server's roles: they are shared by its databases."""
    return postgres.roles_folder


def test_migrating_again_changes_nothing(empty, roles_folder):
    migrate(empty, roles_folder)
    before = execute(empty, SCHEMA), [path.read_text() for path in sorted(roles_folder.iterdir())]
    migrate(empty, roles_folder)
    after = execute(empty, SCHEMA), [path.read_text() for path in sorted(roles_folder.iterdir())]
    assert before == after


def test_passwords_are_for_their_owner_only_and_let_the_roles_in(empty, roles_folder, tmp_path):
    migrate(empty, roles_folder)
    assert {path.name for path in roles_folder.iterdir()} == {
        f"{role}.password" for role in roles.LOGIN_ROLES
    }
    (tmp_path / "roles").symlink_to(roles_folder)
    settings = Settings(data_dir=tmp_path, database_url=empty)
    for role in roles.LOGIN_ROLES:
        assert roles.password_path(roles_folder, role).stat().st_mode & 0o777 == 0o600
        url = service_url(settings, role)
        assert execute(url, "SELECT current_user") == [(role,)]


def test_several_migrations_at_once_are_one(empty, roles_folder):
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(migrate, empty, roles_folder) for _ in range(4)]:
            done.result()
    assert execute(empty, "SELECT count(*) FROM metrion.alembic_version") == [(1,)]


def test_a_newer_schema_is_refused_and_left_alone(empty, roles_folder):
    migrate(empty, roles_folder)
    execute(empty, "UPDATE metrion.alembic_version SET version_num = 'r9999'")
    before = execute(empty, SCHEMA)
    with pytest.raises(SchemaError, match=r"r9999.*knows up to r0.*run the newer version"):
        migrate(empty, roles_folder)
    with pytest.raises(SchemaError, match="r9999"):
        downgrade(empty, "base")
    assert execute(empty, SCHEMA) == before


def test_down_and_up_again_with_data_gives_the_same_schema(empty, roles_folder, tmp_path, log_row):
    migrate(empty, roles_folder)
    before = execute(empty, SCHEMA)
    (tmp_path / "roles").symlink_to(roles_folder)
    url = service_url(Settings(data_dir=tmp_path, database_url=empty), roles.PROXY)
    for _ in range(2):
        [(account,)] = execute(empty, NEW_ACCOUNT)
        writer = LogWriter(url)
        assert writer.write([log_row(account)]) == 1
        writer.close()
        downgrade(empty, "base")
        left = execute(empty, SCHEMA)
        assert {row[1] for row in left} == {"alembic_version", "alembic_version_pkc"}
        migrate(empty, roles_folder)
        assert execute(empty, SCHEMA) == before


def test_who_was_upgraded_before_that_was_noted_has_the_log_that_is_left(
    database, roles_folder, log_row
):
    url, now = database.administrator_url, datetime.now(UTC)
    downgrade(url, "r0009")
    writer = LogWriter(database.url(roles.PROXY))
    expected = {}
    for number, (plan, ages, gone, log_from) in enumerate(
        (
            ("pro", (80, 50, 20, 3), 2, timedelta(days=20)),
            ("pro", (80, 50, 20), 3, timedelta(days=20, microseconds=-1)),
            ("pro", (100, 20), 0, timedelta(days=20)),  # what the plan hides is no beginning
            ("pro", (), 0, None),
            ("free", (20, 3), 1, None),
        )
    ):
        [(account,)] = execute(url, NEW_ACCOUNT.replace("a@b", f"{number}@b"))
        execute(url, "UPDATE metrion.accounts SET plan = %s WHERE id = %s", plan, account)
        rows = [log_row(account, now - timedelta(days=age)) for age in ages]
        assert writer.write(rows) == len(rows)
        for row in rows[:gone]:
            execute(url, "DELETE FROM metrion.request_logs WHERE id = %s", row["id"])
        expected[account] = log_from and now - log_from
    writer.close()
    migrate(url, roles_folder)
    assert dict(execute(url, "SELECT id, log_from FROM metrion.accounts")) == expected


def test_a_migration_that_fails_leaves_no_half_of_it(empty, roles_folder):
    execute(empty, "CREATE SCHEMA metrion AUTHORIZATION metrion_owner")
    execute(
        empty, "CREATE FUNCTION metrion.ingest(rows jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1'"
    )
    with pytest.raises(psycopg.Error):
        migrate(empty, roles_folder)
    assert execute(empty, "SELECT to_regclass('metrion.accounts')::text") == [(None,)]
    execute(empty, "DROP FUNCTION metrion.ingest(jsonb)")
    migrate(empty, roles_folder)


def test_a_lock_that_somebody_holds_is_given_up_on(empty, roles_folder, monkeypatch):
    """A long reader: behind a migration that waits for it, everybody else would wait."""
    migrate(empty, roles_folder)
    before = execute(empty, SCHEMA)
    monkeypatch.setattr("storage.migrate._LOCK_TIMEOUT", "200ms")
    with psycopg.connect(empty.get_secret_value()) as reader:
        # what the newest revision changes, or that one would be undone
        reader.execute("SELECT count(*) FROM metrion.accounts, metrion.usage_sums")
        with pytest.raises(DatabaseUnavailable, match=r"has been in use for 200ms.*try again"):
            downgrade(empty, "base")
        # neither half of a revision nor a lock is left: others go on at once
        execute(empty, "SELECT count(*) FROM metrion.accounts")
    assert execute(empty, SCHEMA) == before
    downgrade(empty, "base")


def test_nobody_waits_long_behind_a_migration_that_waits(empty, roles_folder):
    """With the real limits: a request that comes while the migration waits for a long reader."""
    migrate(empty, roles_folder)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(empty.get_secret_value()) as reader:
        reader.execute("SELECT count(*) FROM metrion.accounts")
        migrating = pool.submit(downgrade, empty, "base")
        longest = 0.0
        while not migrating.done():
            asked = time.monotonic()
            execute(empty, "SELECT count(*) FROM metrion.accounts")
            longest = max(longest, time.monotonic() - asked)
        with pytest.raises(DatabaseUnavailable, match="in use for 2s"):
            migrating.result()
    assert 0.1 < longest < 30  # a statement's limit in the services (storage.database)


def test_another_encoding_is_refused(postgres, roles_folder):
    name = f"metrion_latin_{secrets.token_hex(4)}"
    execute(
        postgres.administrator_url,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc"
        " LOCALE 'C'",
    )
    with pytest.raises(SchemaError, match="ENCODING 'UTF8'"):
        migrate(postgres.url_of(name), roles_folder)
    execute(postgres.administrator_url, f"DROP DATABASE {name}")


def test_no_server_is_unavailability_that_names_no_password(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(DatabaseUnavailable) as caught:
            migrate(SecretStr(f"postgresql://postgres:hush@127.0.0.1:{port}/x"), tmp_path)
    assert "hush" not in str(caught.value)


def test_a_server_that_only_reads_is_unavailability(empty, roles_folder):
    url = empty.get_secret_value()
    reading = f"{url}{'&' if '?' in url else '?'}options=-c%20default_transaction_read_only%3Don"
    with pytest.raises(DatabaseUnavailable, match=r"migrated now: .* read-only transaction"):
        migrate(SecretStr(reading), roles_folder)


def test_somebody_without_rights_is_told_so(empty, roles_folder, postgres):
    nobody = f"nobody_{secrets.token_hex(4)}"
    execute(postgres.administrator_url, f"CREATE ROLE {nobody} LOGIN PASSWORD 'p'")
    url = urlsplit(empty.get_secret_value())
    hosts = url.netloc.rpartition("@")[2]
    as_nobody = SecretStr(url._replace(netloc=f"{nobody}:p@{hosts}").geturl())
    with pytest.raises(RightsMissing, match="may not migrate"):
        migrate(as_nobody, roles_folder)
    execute(postgres.administrator_url, f"DROP ROLE {nobody}")


# ---------------------------------------------------------------------------- other servers

INSTALLED = [embedded_process.programs(), *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]


@pytest.fixture(params=INSTALLED, ids=lambda folder: folder.parent.name)
def new_server(request, tmp_path, monkeypatch) -> Iterator[SecretStr]:
    """The superuser's URL to a server that has never seen Metrion, of each version installed."""
    run = embedded_process.run

    def run_without_locale(program, *arguments, **where):
        # the builtin one came with version 17
        return run(program, *(a for a in arguments if not a.startswith("--locale")), **where)

    monkeypatch.setattr(embedded_process, "programs", lambda: request.param)
    monkeypatch.setattr(embedded_process, "run", run_without_locale)
    with EmbeddedPostgres(tmp_path / "server", options={"fsync": "off"}) as server:
        yield server.url


def test_an_administrator_who_is_no_superuser_can_migrate(new_server, tmp_path, log_row):
    """What managed services give: CREATEROLE, and a database of one's own."""
    execute(new_server, "ALTER SYSTEM SET log_statement = 'all'")
    execute(new_server, "SELECT pg_reload_conf()")
    execute(new_server, "CREATE ROLE managed LOGIN CREATEROLE CREATEDB PASSWORD 'p'")
    execute(new_server, "CREATE DATABASE gateway OWNER managed")
    url = urlsplit(new_server.get_secret_value())
    superuser = SecretStr(url._replace(path="/gateway").geturl())
    administrator = SecretStr(url._replace(netloc="managed:p@", path="/gateway").geturl())
    settings = Settings(data_dir=tmp_path / "data", database_url=administrator)
    folder = roles.roles_folder(settings)
    migrate(administrator, folder)
    migrate(administrator, folder)

    # the services work, and the administrator can act as the roles that the command needs
    [(account,)] = execute(superuser, NEW_ACCOUNT)
    writer = LogWriter(service_url(settings, roles.PROXY))
    assert writer.write([log_row(account)]) == 1
    writer.close()
    with psycopg.connect(administrator.get_secret_value()) as connection:
        connection.execute("SET ROLE metrion_owner")
        assert connection.execute("SELECT id FROM metrion.list_accounts(10)").fetchall() == [
            (account,)
        ]
        connection.execute("SET ROLE metrion_definer")
        connection.execute("UPDATE metrion.tokens SET sealed = sealed, digest = digest")
        connection.execute("SET ROLE metrion_api")
        assert connection.execute("SELECT id FROM metrion.accounts").fetchall() == []
    downgrade(administrator, "base")
    migrate(administrator, folder)

    log = (tmp_path / "server" / "postgres" / "server.log").read_text()
    assert "ALTER ROLE" in log
    for role in roles.LOGIN_ROLES:
        assert roles.read_password(folder, role) not in log
