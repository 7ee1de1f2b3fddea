import asyncio

import pytest
from pydantic import SecretStr

from storage import news, roles
from storage.news import listen


@pytest.fixture
def heard():
    return asyncio.Event()


async def wait_for(heard: asyncio.Event) -> None:
    await asyncio.wait_for(heard.wait(), 10)
    heard.clear()


async def test_what_is_announced_on_either_channel_is_heard(database, administrator, heard):
    async with asyncio.TaskGroup() as group:
        listener = group.create_task(listen(database.url(roles.JOBS), ["one", "two"], heard.set))
        await wait_for(heard)  # something may have been announced before
        for channel in ("one", "two"):
            administrator.execute(f"NOTIFY {channel}".encode())
            await wait_for(heard)
        administrator.execute("NOTIFY three")
        await asyncio.sleep(0.2)
        assert not heard.is_set()
        listener.cancel()


async def test_a_connection_that_breaks_is_made_again(database, administrator, heard, caplog):
    async with asyncio.TaskGroup() as group:
        listener = group.create_task(listen(database.url(roles.JOBS), ["one"], heard.set))
        await wait_for(heard)
        administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'metrion_jobs' AND datname = current_database()"
        )
        await wait_for(heard)
        administrator.execute("NOTIFY one")
        await wait_for(heard)
        listener.cancel()
    assert "no news from the database" in caplog.text


async def test_a_database_that_is_away_is_asked_again(monkeypatch, caplog, heard):
    monkeypatch.setattr(news, "_FIRST_PAUSE_SECONDS", 0.01)
    url = SecretStr("postgresql://nobody:secret@127.0.0.1:1/none")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await listen(url, ["one"], heard.set)
    assert not heard.is_set()
    assert len(caplog.records) > 1
    assert "secret" not in caplog.text
