import asyncio
import contextlib
import random
import socket
import uuid

import pytest
from pydantic import SecretStr
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from storage import roles
from storage.database import Database
from storage.errors import DatabaseUnavailable

ACCOUNTS = text("SELECT id FROM metrion.accounts")
TERMINATE = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE usename = 'metrion_api' AND datname = current_database()"
)
BACKEND = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
CONNECTED = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE usename = 'metrion_api' AND datname = current_database()"
)
SETTING = text("SELECT current_setting('metrion.account_id', true)")


async def visible(connection):
    return set((await connection.execute(ACCOUNTS)).scalars())


async def test_a_transaction_sees_its_account_and_no_other(api, new_account):
    first, second = await new_account(), await new_account()
    async with api.account(first.id) as connection:
        assert await visible(connection) == {first.id}
    async with api.account(second.id) as connection:
        assert await visible(connection) == {second.id}
    async with api.system() as connection:
        assert await visible(connection) == set()


async def test_what_is_done_is_committed_and_undone_on_error(api, new_account):
    account = await new_account()
    change = text("UPDATE metrion.accounts SET currency = 'EUR'")
    currency = text("SELECT currency FROM metrion.accounts")
    with contextlib.suppress(ZeroDivisionError):
        async with api.account(account.id) as connection:
            await connection.execute(change)
            raise ZeroDivisionError
    async with api.account(account.id) as connection:
        assert (await connection.execute(currency)).scalar_one() == "USD"
        await connection.execute(change)
    async with api.account(account.id) as connection:
        assert (await connection.execute(currency)).scalar_one() == "EUR"


async def test_committing_early_ends_the_account_too(api, new_account):
    account = await new_account()
    async with api.account(account.id) as connection:
        await connection.commit()
        assert await visible(connection) == set()


async def test_a_snapshot_stays_as_it_was(api, new_account):
    account = await new_account()
    currency = text("SELECT currency FROM metrion.accounts")
    async with api.snapshot(account.id) as snapshot:
        assert await visible(snapshot) == {account.id}
        async with api.account(account.id) as connection:
            await connection.execute(text("UPDATE metrion.accounts SET currency = 'EUR'"))
        assert (await snapshot.execute(currency)).scalar_one() == "USD"


async def test_many_tasks_on_few_connections_never_see_another_account(database, new_account):
    owners = [(await new_account()).id for _ in range(20)]
    shared = Database(database.url(roles.API), pool_size=2, pool_seconds=60)
    strangers: list[set[uuid.UUID]] = []

    async def use(seed):
        choose = random.Random(seed)
        for _ in range(25):
            owner = choose.choice([*owners, None])
            opened = shared.system() if owner is None else shared.account(owner)
            # some fail in the middle, as real ones do
            with contextlib.suppress(DBAPIError):
                async with opened as connection:
                    if (seen := await visible(connection)) != ({owner} if owner else set()):
                        strangers.append(seen)
                    if choose.random() < 0.1:
                        await connection.execute(text("SELECT 1 / 0"))

    async with asyncio.TaskGroup() as tasks:
        for seed in range(200):
            tasks.create_task(use(seed))
    await shared.close()
    assert strangers == []


async def test_a_cancelled_task_gives_its_connection_back_clean(database, new_account):
    account = await new_account()
    single = Database(database.url(roles.API), pool_size=1)

    async def wait():
        async with single.account(account.id) as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with single.system() as connection:
        assert await visible(connection) == set()
        assert (await connection.execute(SETTING)).scalar_one() == ""
    await single.close()


async def test_a_session_wide_setting_does_not_outlive_its_transaction(database, new_account):
    account = await new_account()
    single = Database(database.url(roles.API), pool_size=1)
    async with single.system() as connection:
        await connection.execute(
            text("SELECT set_config('metrion.account_id', :id, false)"), {"id": str(account.id)}
        )
    async with single.system() as connection:
        assert await visible(connection) == set()
    await single.close()


async def test_a_pool_survives_the_loss_of_its_connections(database, administrator, new_account):
    account = await new_account()
    pool = Database(database.url(roles.API), pool_size=3)

    async def use():
        async with pool.account(account.id) as connection:
            await connection.execute(text("SELECT pg_sleep(0.05)"))
            return await visible(connection)

    await asyncio.gather(*(use() for _ in range(3)))
    administrator.execute(TERMINATE)
    assert await asyncio.gather(*(use() for _ in range(3))) == [{account.id}] * 3
    await pool.close()


async def test_a_connection_lost_in_the_middle_is_unavailability(api, administrator, new_account):
    account = await new_account()

    async def lose():
        async with api.account(account.id) as connection:
            administrator.execute(TERMINATE)
            await connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        await lose()


@pytest.mark.parametrize("asks_on", [True, False])
async def test_a_server_that_has_ended_an_idle_transaction_is_unavailability(
    api, administrator, asks_on
):
    async def be_idle():
        async with api.system() as connection:
            backend = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 10"))
            async with asyncio.timeout(10):
                while administrator.execute(BACKEND, [backend]).fetchone()["count"]:
                    await asyncio.sleep(0.02)
            if asks_on:  # else it is committed
                await connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable, match="idle-in-transaction"):
        await be_idle()
    async with api.system() as connection:
        await connection.execute(text("SELECT 1"))


async def test_a_server_that_only_reads_is_unavailability_and_is_left(database):
    # as after a failover, until the address leads to the new server
    single = Database(database.url(roles.API), pool_size=1)
    pids: list[int] = []

    async def write():
        async with single.system() as connection:
            pid = await connection.execute(text("SELECT pg_backend_pid()"))
            pids.append(pid.scalar_one())
            await connection.execute(text("SET TRANSACTION READ ONLY"))
            await connection.execute(text("CREATE TABLE written ()"))

    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
            await write()
    assert pids[0] != pids[1]
    await single.close()


async def test_waits_are_bounded(database):
    hasty = Database(database.url(roles.API), pool_size=1, pool_seconds=0.1, statement_seconds=0.1)
    with pytest.raises(DatabaseUnavailable, match="statement timeout"):
        async with hasty.system() as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))
    async with asyncio.timeout(20), hasty.system():
        with pytest.raises(DatabaseUnavailable, match="in use"):
            async with hasty.system():
                pass
    await hasty.close()


async def test_bounds_when_nobody_gives_any(api):
    pool = api._engine.pool
    assert (pool.size(), pool.timeout()) == (5, 5.0)
    async with api.system() as connection:
        limit = await connection.execute(text("SHOW statement_timeout"))
        assert limit.scalar_one() == "30s"


async def test_a_closed_pool_has_left(database, administrator):
    pool = Database(database.url(roles.API))
    async with pool.system():
        assert administrator.execute(CONNECTED).fetchone() == {"count": 1}
    await pool.close()
    async with asyncio.timeout(20):
        while administrator.execute(CONNECTED).fetchone() != {"count": 0}:
            await asyncio.sleep(0.01)


async def test_nothing_is_prepared_for_a_pooler_that_knows_no_such_thing(api):
    async with api.system() as connection:
        for _ in range(10):
            await connection.execute(text("SELECT 1"))
        prepared = await connection.execute(text("SELECT count(*) FROM pg_prepared_statements"))
        assert prepared.scalar_one() == 0


async def test_what_a_new_connection_would_not_mend_is_tried_once_and_given_back(database):
    single = Database(
        database.administrator_url, act_as="metrion_nobody", pool_size=1, pool_seconds=0.1
    )
    taken: list[object] = []
    event.listen(single._engine.sync_engine, "checkout", lambda *given: taken.append(given))
    kept: list[DBAPIError] = []  # with all that a failed attempt might hold on to
    for _ in range(2):
        with pytest.raises(DBAPIError, match="metrion_nobody") as caught:
            async with single.system():
                pass
        kept.append(caught.value)
    assert len(taken) == 2
    await single.close()


async def test_no_server_is_unavailability_that_names_no_password():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        database = Database(SecretStr(f"postgresql://metrion_api:hush@127.0.0.1:{port}/metrion"))
        with pytest.raises(DatabaseUnavailable) as caught:
            async with database.system():
                pass
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)
    await database.close()


async def test_errors_of_statements_do_not_show_their_values(api):
    with pytest.raises(DBAPIError) as caught:
        async with api.system() as connection:
            await connection.execute(text("SELECT 1 / :zero, :value"), {"zero": 0, "value": "hush"})
    assert "hush" not in str(caught.value)


async def test_an_administrator_acts_as_another_role(database):
    acting = Database(database.administrator_url, act_as=roles.API)
    async with acting.system() as connection:
        assert (await connection.execute(text("SELECT current_user"))).scalar_one() == roles.API
    await acting.close()
