import asyncio

import psycopg
import pytest
from pydantic import SecretStr

from storage import roles, single_statements
from storage.errors import DatabaseUnavailable
from storage.single_statements import SingleStatements

PID = "SELECT pg_backend_pid()"


@pytest.fixture
async def statements(database):
    opened = SingleStatements(database.url(roles.PROXY), pool_size=2)
    yield opened
    await opened.close()


async def test_a_statement_is_done_and_its_connection_used_again(statements):
    first = await statements.fetch("SELECT %s::text, %s::bytea, %s::uuid[]", ["a", b"\x00", []])
    assert first == ("a", b"\x00", [])
    assert await statements.fetch("SELECT 1 WHERE false", []) is None
    pids = {await statements.fetch(PID, []) for _ in range(5)}
    assert len(pids) == 1


async def test_nothing_lasts(statements):
    await statements.fetch("SELECT set_config('metrion.account_id', 'x', true)", [])
    assert await statements.fetch("SELECT current_setting('metrion.account_id', true)", []) == ("",)


async def test_there_are_so_many_connections_and_no_more(statements):
    asked = [statements.fetch("SELECT pg_backend_pid(), pg_sleep(0.05)", []) for _ in range(6)]
    assert len({row[0] for row in await asyncio.gather(*asked)}) == 2


async def test_a_connection_that_died_is_replaced(statements, administrator):
    before = await statements.fetch(PID, [])
    administrator.execute("SELECT pg_terminate_backend(%s, 5000)", before)
    assert await statements.fetch(PID, []) != before


async def test_a_mistake_is_no_unavailability_and_costs_no_connection(statements):
    before = await statements.fetch(PID, [])
    with pytest.raises(psycopg.ProgrammingError):
        await statements.fetch("SELECT * FROM metrion.accounts", [])
    assert await statements.fetch(PID, []) == before


async def test_a_server_that_only_reads_is_unavailability_and_is_left(database):
    # as after a failover, until the address leads to the new server
    url = database.url(roles.PROXY).get_secret_value()
    question_mark = "&" if "?" in url else "?"
    reading = f"{url}{question_mark}options=-c%20default_transaction_read_only%3Don"
    statements = SingleStatements(SecretStr(reading), pool_size=1)
    before = await statements.fetch(PID, [])
    with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
        await statements.fetch("CREATE TABLE written ()", [])
    assert await statements.fetch(PID, []) != before
    await statements.close()


async def test_who_waits_no_longer_leaves_a_good_pool(statements):
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await statements.fetch("SELECT pg_sleep(10)", [])
    assert await statements.fetch("SELECT 1", []) == (1,)


async def test_a_look_up_does_not_wait_for_long(statements, monkeypatch):
    with monkeypatch.context() as hurry:
        hurry.setattr(single_statements, "LOOK_UP_SECONDS", 0.1)
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await statements.look_up("SELECT pg_sleep(10)", [])
    assert await statements.look_up("SELECT 1", []) == (1,)


async def test_a_database_that_is_away_is_said_without_its_password():
    away = SingleStatements(SecretStr("postgresql://x:hush@127.0.0.1:1/none"))
    with pytest.raises(DatabaseUnavailable) as refused:
        await away.fetch("SELECT 1", [])
    assert "hush" not in str(refused.value)
    await away.close()
