import asyncio
import contextlib
import re
import time

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from storage import accounts, invalidation, keys, roles
from storage.invalidation import InvalidationListener

KEY = "sk-proj-0123456789abcdefWXYZ"
TERMINATE = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE usename = 'metrion_proxy' AND datname = current_database()"
)


# What a server says of the process that it gives a connection: its number and a secret.
BACKEND_KEY_DATA = re.compile(rb"(K\x00\x00\x00\x0c)[\x00-\xff]{8}")


class Relay:
    """A TCP port in front of the server that can swallow all bytes without closing anything.

    Like a pooler it can announce another process than the server's own (`is_pooler`).
    """

    def __init__(self, service_url, *, is_pooler=False):
        self._is_pooler = is_pooler
        self._service = conninfo_to_dict(service_url.get_secret_value())
        self._tasks = set()
        self.swallowing = False

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = SecretStr(make_conninfo(**self._service | {"host": host, "port": port}))
        return self

    async def __aexit__(self, *exception):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        host, port = self._service["host"], self._service["port"]
        if host.startswith("/"):
            server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            server = await asyncio.open_connection(host, port)
        try:
            await asyncio.gather(self._pass(reader, server[1]), self._pass(server[0], writer))
        finally:
            writer.close()
            server[1].close()

    async def _pass(self, reader, writer):
        while data := await reader.read(65536):
            if self._is_pooler:
                data = BACKEND_KEY_DATA.sub(rb"\g<1>poolSAFE", data)
            if not self.swallowing:
                writer.write(data)
        writer.close()


class News:
    """Notes what a listener says, and lets a test wait for it."""

    def __init__(self):
        self.heard = []
        self._more = asyncio.Event()

    def __call__(self, account_id):
        self.heard.append(account_id)
        self._more.set()

    async def wait_for(self, account_id):
        async with asyncio.timeout(20):
            while account_id not in self.heard:
                self._more.clear()
                await self._more.wait()

    def forget(self):
        self.heard.clear()


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(url):
    news = News()
    listener = InvalidationListener(url, news)
    task = asyncio.ensure_future(listener.run())
    try:
        await until(lambda: listener.listening)
        assert news.heard == [None]  # what was known before it listened is old
        news.forget()
        yield listener, news
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def listening(database):
    async with running(database.url(roles.PROXY)) as pair:
        yield pair


async def test_every_change_that_a_proxy_must_know_is_announced(
    api, database, listening, new_account
):
    _, news = listening
    account = await new_account()
    await news.wait_for(account.id)  # its token was made

    async def change(how):
        news.forget()
        async with api.account(account.id) as connection:
            await how(connection)
        await news.wait_for(account.id)
        assert set(news.heard) == {account.id}

    await change(lambda c: keys.set_key(c, database.keys, account.id, "openai", KEY))
    await change(lambda c: keys.set_key(c, database.keys, account.id, "openai", KEY + "2"))
    await change(lambda c: keys.delete_key(c, "openai"))
    await change(lambda c: accounts.regenerate_token(c, database.keys, account.id))
    await change(lambda c: accounts.set_plan(c, "pro"))


async def test_what_is_not_committed_is_not_announced(api, listening, new_account):
    _, news = listening
    account = await new_account()
    await news.wait_for(account.id)
    news.forget()
    async with api.account(account.id) as connection:
        await accounts.set_plan(connection, "pro")
        await asyncio.sleep(2 * invalidation.HEARTBEAT_SECONDS)
        assert news.heard == []
    await news.wait_for(account.id)


async def test_an_erased_account_is_announced(administrator, listening, new_account):
    _, news = listening
    account = await new_account()
    await news.wait_for(account.id)
    news.forget()
    administrator.execute("DELETE FROM metrion.accounts WHERE id = %s", [account.id])
    await news.wait_for(account.id)


async def test_a_word_it_does_not_understand_means_everybody(administrator, listening):
    _, news = listening
    for payload in ("", "{}", "[]", '{"account": 1}', '{"account": "x"}', "null"):
        administrator.execute("SELECT pg_notify('metrion_invalidate', %s)", [payload])
        await news.wait_for(None)
        news.forget()


async def test_a_lost_connection_is_made_again_and_everything_forgotten(
    api, administrator, listening, new_account
):
    listener, news = listening
    account = await new_account()
    await news.wait_for(account.id)
    news.forget()
    administrator.execute(TERMINATE)
    await news.wait_for(None)
    await until(lambda: listener.listening)
    news.forget()
    async with api.account(account.id) as connection:
        await accounts.set_plan(connection, "pro")
    await news.wait_for(account.id)


async def test_it_is_not_listening_while_it_cannot_connect(database, administrator, caplog):
    async with running(database.url(roles.PROXY)) as (listener, _):
        name = administrator.info.dbname
        administrator.execute(f'REVOKE CONNECT ON DATABASE "{name}" FROM metrion_proxy')
        administrator.execute(TERMINATE)
        await until(lambda: not listener.listening)
        await asyncio.sleep(0.5)  # several vain attempts
        assert not listener.listening
        administrator.execute(f'GRANT CONNECT ON DATABASE "{name}" TO metrion_proxy')
        await until(lambda: listener.listening)
    # a long outage is one line in the log, not one every two seconds
    assert len([record for record in caplog.records if "no news" in record.message]) == 1


async def test_silence_ends_the_lease_and_the_connection(database):
    """A network that swallows everything: nobody says that the connection is gone."""
    async with (
        Relay(database.url(roles.PROXY)) as relay,
        running(relay.url) as (listener, news),
    ):
        relay.swallowing = True
        await until(lambda: not listener.listening)
        await news.wait_for(None)
        relay.swallowing = False
        await until(lambda: listener.listening)


async def test_no_change_is_trusted_away_for_longer_than_the_lease(api, database, new_account):
    """The stated bound: of a change that cannot be heard, the lease speaks in time."""
    account = await new_account()
    async with (
        Relay(database.url(roles.PROXY)) as relay,
        running(relay.url) as (listener, news),
    ):
        relay.swallowing = True
        async with api.account(account.id) as connection:
            await accounts.set_plan(connection, "pro")
        await invalidation.until_known()
        assert not listener.listening
        assert account.id not in news.heard


async def test_a_hanging_event_loop_ends_the_lease(listening):
    listener, _ = listening
    time.sleep(invalidation.LEASE_SECONDS)  # noqa: ASYNC251 - the hanging is the point
    assert not listener.listening
    await until(lambda: listener.listening)


async def test_behind_a_pooler_it_never_listens_and_says_so_once(database, caplog):
    """Its heartbeats would be answered over one connection, and the news lost on another."""
    async with Relay(database.url(roles.PROXY), is_pooler=True) as relay:
        news = News()
        listener = InvalidationListener(relay.url, news)
        task = asyncio.ensure_future(listener.run())
        await until(lambda: len(news.heard) > 3)
        assert not listener.listening
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == 1
    assert "pooler's" in warnings[0]
