"""Three proxy processes beside one database: revoked tokens, and a rotation of the master key."""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from scripts.fake_provider import FakeProvider
from storage import accounts, keys, roles, rotation
from storage.accounts import NewAccount, token_binding
from storage.database import Database
from storage.identifiers import uuid7
from storage.invalidation import LEASE_SECONDS
from storage.sealing import MasterKeys, sealed_under
from storage.tokens import new_token

PROXIES = 3
TOKENS = 32
OTHERS = 2000
PATH = "/api/proxy/openai/v1/chat/completions"
BODY = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}]}
# What only the listener's connection says.
CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE usename = 'metrion_proxy' AND datname = current_database()
      AND query IN ('SELECT 1', 'LISTEN metrion_invalidate', 'SELECT pg_backend_pid()')
"""


@dataclass
class Shared:
    """The processes and their database."""

    database: Any
    proxies: list[str]


@pytest.fixture(scope="module")
def shared(
    postgres: Any,
    start_service: Callable[..., str],
    fake_provider: FakeProvider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shared]:
    """Three proxies, each with a data directory of its own."""
    with postgres.fresh_database(tmp_path_factory.mktemp("shared")) as database:
        settings = {
            "METRION_DATABASE_URL": database.url(roles.PROXY).get_secret_value(),
            "METRION_MASTER_KEY_FILE": str(database.settings.master_key_path),
            "METRION_ORIGINS": json.dumps({"openai": fake_provider.origin}),
            "METRION_RATE_PER_MINUTE": "100000",
        }
        yield Shared(database, [start_service("proxy", **settings) for _ in range(PROXIES)])


@pytest.fixture
async def api(shared: Shared) -> AsyncIterator[Database]:
    """The database as the API sees it."""
    opened = Database(shared.database.url(roles.API), pool_seconds=60)
    yield opened
    await opened.close()


@pytest.fixture
async def http(shared: Shared) -> AsyncIterator[httpx.AsyncClient]:
    """A client; every proxy listens to changes."""
    async with httpx.AsyncClient(timeout=30) as client:
        for proxy in shared.proxies:
            async with asyncio.timeout(60):
                while not await is_listening(client, proxy):
                    await asyncio.sleep(0.05)
        yield client


async def is_listening(client: httpx.AsyncClient, proxy: str) -> bool:
    try:
        return (await client.get(f"{proxy}/readyz")).json()["database"] == "listening"
    except httpx.TransportError:  # it is just starting
        return False


async def make_account(api: Database, master_keys: MasterKeys) -> NewAccount:
    account = await accounts.create_account(api, master_keys, f"{uuid7()}@example.com", "pro")
    async with api.account(account.id) as connection:
        await keys.set_key(
            connection, master_keys, account.id, "openai", "sk-real-0123456789abcdef"
        )
    return account


@dataclass
class Traffic:
    """Requests with one token to one proxy, again and again, until stopped.

    Attributes:
        answers: when a request began (monotonic seconds), and its status.
    """

    client: httpx.AsyncClient
    proxy: str
    token: str
    pause: float
    answers: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    stopped: bool = False

    async def ask(self) -> int:
        begun = time.monotonic()
        answer = await self.client.post(
            self.proxy + PATH, json=BODY, headers={"authorization": f"Bearer {self.token}"}
        )
        self.answers.append((begun, answer.status_code))
        return answer.status_code

    async def run(self) -> None:
        while not self.stopped:
            await self.ask()
            await asyncio.sleep(random.uniform(0, 2 * self.pause))


@contextlib.asynccontextmanager
async def running(all_traffic: list[Traffic]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        for traffic in all_traffic:
            group.create_task(traffic.run())
        try:
            yield
        finally:
            for traffic in all_traffic:
                traffic.stopped = True


@dataclass
class Revocation:
    """A token in use at every proxy that is regenerated.

    Attributes:
        committed: when the change was committed (monotonic seconds).
        answered: when API and command would have said that it is done (`until_known`).
    """

    account: NewAccount
    traffic: list[Traffic]
    committed: float = 0.0
    answered: float = 0.0

    async def run(self, api: Database, master_keys: MasterKeys) -> None:
        await asyncio.sleep(random.uniform(0, 2))
        async with api.account(self.account.id) as connection:
            await accounts.regenerate_token(connection, master_keys, self.account.id)
        self.committed = time.monotonic()
        for _ in range(2):
            await asyncio.gather(*(one.ask() for one in self.traffic))
        await asyncio.sleep(self.committed + LEASE_SECONDS - time.monotonic())
        self.answered = time.monotonic()
        assert [await one.ask() for one in self.traffic] == [401] * PROXIES

    @property
    def last_admitted(self) -> float:
        """When the last request began that a proxy admitted."""
        return max(begun for one in self.traffic for begun, status in one.answers if status == 200)


async def regenerate_tokens_in_use(
    shared: Shared, api: Database, http: httpx.AsyncClient
) -> list[float]:
    """Regenerate tokens under traffic; returns for how many seconds each was still admitted.

    After the answer none may be, by any proxy.
    """
    revocations: list[Revocation] = []
    for _ in range(TOKENS):
        account = await make_account(api, shared.database.keys)
        traffic = [Traffic(http, proxy, account.token, 2) for proxy in shared.proxies]
        assert [await one.ask() for one in traffic] == [200] * PROXIES
        revocations.append(Revocation(account, traffic))
    async with running([one for revocation in revocations for one in revocation.traffic]):
        await asyncio.gather(*(one.run(api, shared.database.keys) for one in revocations))
    for revocation in revocations:
        assert revocation.last_admitted < revocation.answered
    return [revocation.last_admitted - revocation.committed for revocation in revocations]


async def test_no_proxy_admits_a_token_after_it_was_regenerated(
    shared: Shared, api: Database, http: httpx.AsyncClient
) -> None:
    lateness = await regenerate_tokens_in_use(shared, api, http)
    assert max(lateness) < LEASE_SECONDS


async def test_nor_while_no_proxy_can_hear_of_it(
    shared: Shared, api: Database, http: httpx.AsyncClient
) -> None:
    """The listeners' connections are cut, and cut again as soon as they are back."""
    stop = asyncio.Event()

    def cut() -> int:
        with psycopg.connect(
            shared.database.administrator_url.get_secret_value(), autocommit=True
        ) as administrator:
            times = 0
            while not stop.is_set():
                times += administrator.execute(CUT).rowcount
                time.sleep(0.01)
            return times

    cutting = asyncio.create_task(asyncio.to_thread(cut))
    try:
        lateness = await regenerate_tokens_in_use(shared, api, http)
    finally:
        stop.set()
        times = await cutting
    assert times > PROXIES
    assert max(lateness) < LEASE_SECONDS


# ---------------------------------------------------------------------------- rotation


def add_accounts(database: Any, count: int) -> None:
    """Make many accounts at once, with tokens."""
    rows: list[tuple[Any, ...]] = []
    for _ in range(count):
        account_id, token_id, token = uuid7(), uuid7(), new_token()
        sealed = database.keys.seal(token.encode(), token_binding(account_id, token_id))
        rows.append((account_id, token_id, database.keys.token_digests(token)[0], sealed))
    with psycopg.connect(database.administrator_url.get_secret_value()) as administrator:
        cursor = administrator.cursor()
        cursor.executemany(
            "INSERT INTO metrion.accounts (id, email) VALUES (%s, gen_random_uuid() || '@b.example')",
            [row[:1] for row in rows],
        )
        cursor.executemany(
            "INSERT INTO metrion.tokens (account_id, id, digest, sealed) VALUES (%s, %s, %s, %s)",
            rows,
        )


def command(database: Any) -> subprocess.Popen[str]:
    """Start `metrion rotate-master-key`, as an operator does."""
    settings = database.settings
    return subprocess.Popen(
        [Path(sys.executable).with_name("metrion"), "rotate-master-key"],
        env={
            "PATH": os.defpath,
            "METRION_DATA_DIR": str(settings.data_dir),
            "METRION_DATABASE_URL": database.administrator_url.get_secret_value(),
        },
        stdout=subprocess.PIPE,
        text=True,
    )


def kill_in_the_middle(database: Any) -> str:
    """Start a rotation and kill it -9 when it has begun; returns what it had said."""
    with command(database) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        while tokens_under(database, 2) == 0:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        return said + process.stdout.read()


def tokens_under(database: Any, key_id: int) -> int:
    with psycopg.connect(database.administrator_url.get_secret_value()) as administrator:
        counted = administrator.execute(
            "SELECT count(*) FROM metrion.tokens WHERE substring(sealed, 1, 6) = %s",
            [sealed_under(key_id)],
        ).fetchone()
    assert counted is not None
    return counted[0]


async def test_a_rotation_is_killed_and_finished_and_traffic_notices_nothing(
    shared: Shared, api: Database, http: httpx.AsyncClient
) -> None:
    database = shared.database
    add_accounts(database, OTHERS)
    known = [await make_account(api, database.keys) for _ in range(2)]
    traffic = [Traffic(http, proxy, one.token, 0.2) for proxy in shared.proxies for one in known]
    async with running(traffic):
        said = await asyncio.to_thread(kill_in_the_middle, database)
        assert re.fullmatch(r"(tokens\.sealed: \d+ of \d+\n)+", said)
        done = tokens_under(database, 2)
        assert 0 < done < OTHERS
        assert tokens_under(database, 1) >= OTHERS - done

        # life goes on between two attempts
        known[0] = await make_account(api, database.keys)
        traffic[0].token = known[0].token
        async with api.account(known[1].id) as connection:
            await keys.set_key(
                connection, database.keys, known[1].id, "openai", "sk-real-" + "2" * 20
            )

        report, _ = await asyncio.to_thread(command(database).communicate)
        assert "master key 2 is active\n" in report  # the same, not another one
        assert report.endswith("no value needs an older key: --retire drops them\n")
        await asyncio.sleep(0.5)
    assert tokens_under(database, 1) == 0
    statuses = {status for one in traffic for _, status in one.answers}
    assert statuses == {200}
    assert min(len(one.answers) for one in traffic) > 5

    acting = Database(database.administrator_url, act_as=roles.DEFINER, pool_size=1)
    assert await rotation.count_needed(acting, 2) == {}
    await acting.close()
