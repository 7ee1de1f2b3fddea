"""What is wrong in a catalogue, and what a service role can reach: planted, and found."""

import psycopg
import pytest

from storage import accounts, rights, roles
from storage.database import Database
from storage.rights import Fault, faults_of_catalogue, tried


@pytest.fixture
async def accounts_with_rows(database) -> None:
    api = Database(database.url(roles.API), pool_size=1)
    for name in ("ada", "bob"):
        await accounts.create_account(api, database.keys, f"{name}@example.org")
    await api.close()


@pytest.fixture
def catalogue(database):
    url = database.administrator_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def try_as(role, catalogue, database):
    return tried(catalogue, database.url(role), role)


async def test_a_fresh_database_gives_nothing_away(accounts_with_rows, catalogue, database):
    assert faults_of_catalogue(catalogue) == []
    for role in roles.LOGIN_ROLES:
        count, worked = try_as(role, catalogue, database)
        assert (count > 100, worked) == (True, [])


async def test_a_hole_is_walked_through_and_nothing_is_changed(
    accounts_with_rows, catalogue, database
):
    catalogue.execute("CREATE POLICY support ON metrion.tokens TO metrion_api USING (true)")
    assert faults_of_catalogue(catalogue) == [
        Fault("a policy of a service role is not about its account", ("tokens.support",))
    ]
    _, worked = try_as(roles.API, catalogue, database)
    for who in ("without an account", "as another account"):
        for what in ("read a row of", "read an account's row of", "deleted a row of"):
            assert f"metrion_api {what} tokens {who}" in worked
    assert catalogue.execute("SELECT count(*) FROM metrion.tokens").fetchone() == (2,)


async def test_what_passes_all_policies_is_found_both_ways(accounts_with_rows, catalogue, database):
    """A role belongs to the whole server, which other tests use: it is lent for a moment."""
    catalogue.execute("ALTER ROLE metrion_jobs BYPASSRLS")
    catalogue.execute("GRANT SELECT ON metrion.provider_keys, metrion.tokens TO metrion_jobs")
    try:
        faults = {fault.rule: fault.places for fault in faults_of_catalogue(catalogue)}
        _, worked = try_as(roles.JOBS, catalogue, database)
    finally:
        catalogue.execute("ALTER ROLE metrion_jobs NOBYPASSRLS")
    assert faults["a role is more than it must be"] == ("metrion_jobs has BYPASSRLS",)
    assert "provider_keys.sealed (metrion_jobs)" in faults["a service role can read sealed values"]
    assert "metrion_jobs read a row of tokens without an account" in worked


def test_a_role_that_is_missing_ends_it(catalogue, monkeypatch):
    monkeypatch.setattr(rights, "_EVERYONE", [*rights._EVERYONE, "metrion_nobody"])
    assert faults_of_catalogue(catalogue) == [Fault("a role is missing", ("metrion_nobody",))]
