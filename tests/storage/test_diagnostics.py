from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr

from storage import diagnostics, roles
from storage.diagnostics import open_diagnosis, today
from storage.errors import DatabaseUnavailable, RightsMissing
from storage.rights import faults_of_catalogue, tried
from storage.schema import known_revisions


@pytest.fixture
def diagnosis(database):
    with open_diagnosis(database.administrator_url) as opened:
        yield opened


def test_the_server_and_who_we_are_there(diagnosis, database):
    server = diagnosis.server
    assert server.version.startswith(("15", "16", "17", "18"))
    assert (server.sees_all, server.is_service, server.is_far) == (True, None, False)
    with open_diagnosis(database.url(roles.JOBS)) as opened:
        assert (opened.server.sees_all, opened.server.is_service) == (False, roles.JOBS)
        assert opened.late_mails() is None


@pytest.fixture
def managed_url(database):
    """Of an administrator who is no superuser, as managed services have it."""
    url = database.administrator_url.get_secret_value()
    parts = urlsplit(url)
    with psycopg.connect(url, autocommit=True) as superuser:
        superuser.execute("CREATE ROLE managed LOGIN NOINHERIT PASSWORD 'p'")
        try:
            superuser.execute("GRANT metrion_owner, metrion_definer TO managed")
            superuser.execute(f'GRANT CONNECT ON DATABASE "{parts.path[1:]}" TO managed')
            hosts = parts.netloc.rpartition("@")[2]
            yield SecretStr(parts._replace(netloc=f"managed:p@{hosts}").geturl())
        finally:
            superuser.execute("DROP OWNED BY managed")
            superuser.execute("DROP ROLE managed")


async def test_an_administrator_who_is_no_superuser(managed_url, new_account, database):
    await new_account()
    with open_diagnosis(managed_url) as opened:
        assert (opened.server.sees_all, opened.server.is_service) == (False, None)
        assert opened.revision() == known_revisions()[0]
        assert opened.sealed_values(database.keys).opened == 1
        assert opened.late_mails() is None
        assert faults_of_catalogue(opened.connection) == []
        count, worked = tried(opened.connection, database.url(roles.API), roles.API)
        assert (count > 100, worked) == (True, [])


def test_a_public_address_is_far(diagnosis):
    server = type(diagnosis.server)
    for address, is_far in (("10.0.0.1", False), ("127.0.0.1", False), ("8.8.8.8", True)):
        assert server("18", False, address, True, None).is_far == is_far


def test_clock_and_revision(diagnosis):
    assert abs(diagnosis.clock_difference()) < 5
    assert diagnosis.revision() == known_revisions()[0]
    diagnosis.connection.execute("DELETE FROM metrion.alembic_version")
    assert diagnosis.revision() is None
    diagnosis.connection.execute("DROP SCHEMA metrion CASCADE")
    assert diagnosis.revision() is None


def test_partitions(diagnosis):
    assert diagnosis.last_partition_days() == {}
    assert diagnosis.expired_partitions(2) == 0
    last = today() + timedelta(days=3)
    diagnosis.connection.execute(
        "SELECT metrion.ensure_partitions(%s, %s)", [today() - timedelta(days=12), last]
    )
    days = diagnosis.last_partition_days()
    assert days[7] == last
    assert last <= days[90] < last + timedelta(days=7)
    assert diagnosis.expired_partitions(2) == 2  # of days 12 and 11 before
    assert diagnosis.expired_partitions(4) == 0


async def test_sealed_values(diagnosis, new_account, database):
    account = await new_account()
    found = diagnosis.sealed_values(database.keys)
    assert (found.by_key, found.opened, found.unsealed, found.unreadable) == ({1: 1}, 1, {}, {})
    assert found.secrets == {account.token.encode()}
    assert account.token not in repr(found)
    diagnosis.connection.execute("UPDATE metrion.tokens SET id = gen_random_uuid()")
    assert diagnosis.sealed_values(database.keys).unreadable == {"tokens.sealed": 1}
    diagnosis.connection.execute("UPDATE metrion.tokens SET sealed = 'clear'")
    assert diagnosis.sealed_values(database.keys).unsealed == {"tokens.sealed": 1}


def test_late_mails(diagnosis, monkeypatch):
    diagnosis.connection.execute(
        "INSERT INTO metrion.outbox (id, key, recipient, subject, text_body)"
        " VALUES (gen_random_uuid(), 'k', 'ada@example.org', 's', 't')"
    )
    assert diagnosis.late_mails() == 0
    monkeypatch.setattr(diagnostics, "MAIL_SECONDS", -1)
    assert diagnosis.late_mails() == 1


def test_a_database_that_is_away_or_closed(database):
    with (
        pytest.raises(DatabaseUnavailable),
        open_diagnosis(SecretStr("postgresql://127.0.0.1:1/x")),
    ):
        pass
    with pytest.raises(RightsMissing), open_diagnosis(database.url(roles.PROXY)) as opened:
        opened.connection.execute("SELECT * FROM metrion.tokens")
