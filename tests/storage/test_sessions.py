import asyncio
import uuid

import pytest

from storage import roles, sessions
from storage.codes import issue_code, try_code
from storage.database import Database
from storage.errors import NotFound
from storage.sessions import (
    create_session,
    delete_expired,
    delete_session,
    find_session,
    list_sessions,
)


async def open_session(api, keys, account_id, browser="Firefox"):
    async with api.account(account_id) as connection:
        return await create_session(connection, keys, account_id, browser)


async def listed(api, account_id):
    async with api.account(account_id) as connection:
        return await list_sessions(connection)


async def test_a_session_is_found_by_its_secret(api, lookups, database, new_account):
    account = await new_account("pro")
    new = await open_session(api, database.keys, account.id)
    found = await find_session(lookups, database.keys, new.secret)
    assert (found.account_id, found.plan, found.session_id) == (account.id, "pro", new.id)
    assert new.secret not in repr(new)
    for secret in ("", "x", "A" * 43, new.secret + "A", new.secret[:-1]):
        assert await find_session(lookups, database.keys, secret) is None


async def test_only_its_account_sees_and_ends_it(api, lookups, database, new_account):
    ada, eve = await new_account(), await new_account()
    new = await open_session(api, database.keys, ada.id, "a" * 1000 + "\0")
    (session,) = await listed(api, ada.id)
    assert session.id == new.id
    assert session.user_agent == "a" * 300
    assert await listed(api, eve.id) == []
    for account, session_id in ((eve, new.id), (ada, uuid.uuid4())):
        with pytest.raises(NotFound):
            async with api.account(account.id) as connection:
                await delete_session(connection, session_id)
    async with api.account(ada.id) as connection:
        await delete_session(connection, new.id)
    assert await find_session(lookups, database.keys, new.secret) is None


async def test_the_oldest_make_room(api, database, new_account, monkeypatch):
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 3)
    account = await new_account()
    made = [await open_session(api, database.keys, account.id, None) for _ in range(5)]
    assert [session.id for session in await listed(api, account.id)] == [
        session.id for session in reversed(made[2:])
    ]


async def test_when_it_was_seen_is_noted_once_a_minute(
    api, lookups, database, new_account, administrator
):
    account = await new_account()
    new = await open_session(api, database.keys, account.id)
    seen = "SELECT now() - last_seen_at AS ago FROM metrion.sessions"
    for age, expected in ((50, 50), (61, 0)):
        administrator.execute(
            "UPDATE metrion.sessions SET last_seen_at = now() - make_interval(secs => %s)", [age]
        )
        await find_session(lookups, database.keys, new.secret)
        ago = administrator.execute(seen).fetchone()["ago"].total_seconds()
        assert expected <= ago < expected + 8


async def test_what_nobody_can_use_is_deleted(api, database, new_account, administrator):
    account = await new_account()
    for _ in range(3):
        await open_session(api, database.keys, account.id)
    async with api.system() as connection:
        await issue_code(connection, database.keys, "sign_in", "eve@example.com")
    jobs = Database(database.url(roles.JOBS))
    assert await delete_expired(jobs) == 0
    administrator.execute("UPDATE metrion.sessions SET expires_at = now()")
    administrator.execute("UPDATE metrion.codes SET expires_at = now() - interval '23 h'")
    assert await listed(api, account.id) == []
    assert await delete_expired(jobs) == 3
    administrator.execute("UPDATE metrion.codes SET expires_at = now() - interval '25 h'")
    assert await delete_expired(jobs) == 1
    await jobs.close()


def waits(administrator, role):
    query = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND usename = %s AND wait_event_type = 'Lock'"
    )
    return administrator.execute(query, [role]).fetchone() is not None


async def test_a_code_that_is_issued_meanwhile_is_not_deleted(api, database, administrator):
    """The row is that of an old code of the same address, which its deletion has found already."""
    async with api.system() as connection:
        await issue_code(connection, database.keys, "sign_in", "eve@example.com")
    administrator.execute("UPDATE metrion.codes SET expires_at = now() - interval '25 h'")
    jobs = Database(database.url(roles.JOBS))
    async with api.system() as connection:
        code = (await issue_code(connection, database.keys, "sign_in", "eve@example.com")).code
        deleting = asyncio.create_task(delete_expired(jobs))
        while not deleting.done() and not waits(administrator, roles.JOBS):
            await asyncio.sleep(0.01)
    assert await deleting == 0
    async with api.system() as connection:
        assert await try_code(connection, database.keys, "sign_in", "eve@example.com", code)
    await jobs.close()


async def test_an_old_codes_row_is_not_deleted_before_it_has_become_a_new_one(
    api, database, administrator
):
    async def issue():
        async with api.system() as connection:
            return await issue_code(connection, database.keys, "sign_in", "eve@example.com")

    await issue()
    administrator.execute("UPDATE metrion.codes SET expires_at = now() - interval '25 h'")
    # between the look for a row, which is there, and what is done with it
    administrator.execute("""
        CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
        CREATE TRIGGER wait AFTER INSERT ON metrion.codes EXECUTE FUNCTION public.wait();
        SELECT pg_advisory_lock(1)
    """)
    issuing = asyncio.create_task(issue())
    while not waits(administrator, roles.API):
        await asyncio.sleep(0.01)
    jobs = Database(database.url(roles.JOBS))
    assert await delete_expired(jobs) == 0
    administrator.execute("SELECT pg_advisory_unlock(1)")
    code = (await issuing).code
    async with api.system() as connection:
        assert await try_code(connection, database.keys, "sign_in", "eve@example.com", code)
    await jobs.close()
