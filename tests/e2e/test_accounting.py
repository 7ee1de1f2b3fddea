"""Nothing is lost and nothing counted twice while processes die under load (SPEC section 8).

What is claimed: the row of a request is on disk before the last bytes of its answer leave. So for
every answer that a client has seen whole there is a row, whatever is killed afterwards, and one.
"""

import asyncio
import http.client
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from addons.providers import load_providers
from scripts.fake_provider import FakeProvider
from scripts.ports import claim_port
from storage import accounts, keys, migrate, roles
from storage.database import Database
from storage.database_url import service_url
from storage.embedded import EmbeddedPostgres
from storage.sealing import MasterKeys
from storage.settings import Settings

ROOT = Path(__file__).parent.parent.parent
CLIENTS = 6
PROXY_KILLS = 20
DATABASE_KILLS = (5, 13)
PATIENCE_SECONDS = 45.0

JUMP_SECONDS = 600

# The proxy's program, loaded once: each life of it is a fork, which saves the seconds of imports.
# SIGUSR1 lets `JUMP_SECONDS` pass for it at once: its clock, its timers, its time-outs.
NURSERY = f"""
import os, signal, sys, time
clock, jumped = time.monotonic, 0
time.monotonic = lambda: clock() + jumped
from scripts import proxy, service
def jump(*_):
    global jumped
    jumped += {JUMP_SECONDS}
signal.signal(signal.SIGUSR1, jump)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
nursery = os.getpid()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        service.die_with(nursery)
        sys.exit(proxy.main(line.split()))
    print(child, flush=True)
"""


@dataclass(frozen=True)
class Call:
    """One kind of request.

    Attributes:
        path: behind /api/proxy.
        body: None for a GET.
        knobs: what the provider does with it.
        last_word: the answer is whole for a client that has read this line; None: when HTTP says.
    """

    path: str
    body: dict[str, Any] | None
    knobs: dict[str, str] = field(default_factory=dict[str, str])
    last_word: bytes | None = None


CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": CHAT["messages"]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
OPENAI = "/openai/v1/chat/completions"
GEMINI = "/gemini/v1beta/models/gemini-2.5-flash"
CALLS = [
    Call(OPENAI, CHAT),
    # the body in several reads; its last bytes and its end in one
    Call(OPENAI, CHAT, {"chunk": "150", "interval": "0.001"}),
    Call(OPENAI, CHAT, {"framing": "chunked", "chunk": "100"}),
    Call(OPENAI, CHAT, {"framing": "close"}),
    Call(OPENAI, CHAT, {"encoding": "gzip"}),
    Call(OPENAI, CHAT, {"big": "300000"}),
    Call(OPENAI, CHAT, {"status": "429"}),
    Call(OPENAI, CHAT | {"model": "nobody-knows-this"}),
    Call(OPENAI, CHAT, {"usage": "none"}),
    Call(OPENAI, CHAT | {"stream": True}, {"events": "8"}, b"data: [DONE]"),
    Call(OPENAI, CHAT | {"stream": True}, {"events": "8", "interval": "0.002"}, b"data: [DONE]"),
    Call("/v1/messages", MESSAGES | {"stream": True}, {}, b'data: {"type":"message_stop"}'),
    Call("/v1/messages", MESSAGES),
    Call(f"{GEMINI}:streamGenerateContent?alt=sse", CONTENTS),
    Call(f"{GEMINI}:generateContent", CONTENTS),
    Call("/mistral/v1/models", None),
]


class Installation:
    """A data directory with a database of its own, one account, and proxies that come and go."""

    def __init__(self, folder: Path, origin: str) -> None:
        self.data_dir = folder / "data"
        self.server = EmbeddedPostgres(self.data_dir, options={"fsync": "off"})
        url = self.server.start(stop_with_thread=True)
        self.settings = Settings(data_dir=self.data_dir, database_url=url)
        migrate.migrate(url, roles.roles_folder(self.settings))
        self.master_keys = MasterKeys.create(self.settings.master_key_path)
        self.token = self.create_account("first@example.com")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("METRION_")} | {
            "METRION_DATA_DIR": str(self.data_dir),
            # by its address, as in production: a proxy may then also start while it is away
            "METRION_DATABASE_URL": url.get_secret_value(),
            "METRION_ORIGINS": json.dumps({p.name: origin for p in load_providers()}),
            "METRION_RATE_PER_MINUTE": "1000000",
        }
        self._said = (folder / "proxies.txt").open("ab")
        self._nursery = subprocess.Popen(
            [sys.executable, "-P", "-c", NURSERY],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def create_account(self, email: str) -> str:
        """Make an account with a key for every provider; returns its token."""
        return asyncio.run(self._create_account(email))

    async def _create_account(self, email: str) -> str:
        database = Database(service_url(self.settings, roles.API), pool_size=1)
        try:
            new = await accounts.create_account(database, self.master_keys, email, "pro")
            async with database.account(new.id) as connection:
                for provider in load_providers():
                    await keys.set_key(
                        connection, self.master_keys, new.id, provider.name, "sk-" + "x" * 40
                    )
        finally:
            await database.close()
        return new.token

    def start_proxy(self) -> "ProxyProcess":
        """Start one more proxy on the same journal; it may not answer yet."""
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        port = claim_port(0, "")
        self._nursery.stdin.write(f"--port {port}\n")
        self._nursery.stdin.flush()
        return ProxyProcess(int(self._nursery.stdout.readline()), port)

    def kill_database(self) -> None:
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGKILL)

    def close(self) -> None:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.close()
        self._nursery.wait(PATIENCE_SECONDS)
        self._nursery.stdout.close()
        self._said.close()
        self.server.release()


@dataclass(frozen=True)
class ProxyProcess:
    """A proxy under way."""

    pid: int
    port: int

    def is_answering(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def ask(self, token: str) -> http.client.HTTPResponse:
        """Send one request on a connection of its own; return the answer, read to its end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        headers = {"authorization": f"Bearer {token}"}
        connection.request("POST", f"/api/proxy{OPENAI}", json.dumps(CHAT), headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    def end(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
        eventually(lambda: not Path(f"/proc/{self.pid}").exists())


class Clients:
    """Several clients that send one request after the other to whatever proxy there is.

    Attributes:
        port: of the proxy.
        seen: the ids of all answers that a client has seen whole, and their rows' status.
    """

    def __init__(self, token: str, port: int) -> None:
        self.port = port
        self.seen: dict[str, int] = {}
        self.unavailable = 0
        self._token = token
        self._numbers = itertools.count()
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

    def _work(self) -> None:
        while not self._done.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                while self._one(connection):
                    pass
            except (OSError, http.client.HTTPException):
                self._done.wait(0.01)  # killed in the middle: this answer was not seen whole
            finally:
                connection.close()

    def _one(self, connection: http.client.HTTPConnection) -> bool:
        """Send one request; False if the next one needs another connection."""
        number = next(self._numbers)
        call = CALLS[number % len(CALLS)]
        connection.request(
            "GET" if call.body is None else "POST",
            f"/api/proxy{call.path}",
            body=None if call.body is None else json.dumps(call.body),
            headers={
                "authorization": f"Bearer {self._token}",
                "x-metrion-user": f"person {number % 3}",
                **{f"x-fake-{name}": value for name, value in call.knobs.items()},
            },
        )
        response = connection.getresponse()
        identifier = response.headers["x-metrion-request-id"]
        while call.last_word is not None and response.status == 200:
            line = response.readline()
            if not line:
                raise http.client.IncompleteRead(b"")  # killed in the middle
            if line.startswith(call.last_word):
                # an SDK stops reading here: what HTTP adds is nothing to it
                self.seen[identifier] = response.status
                break
        response.read()
        if response.status == 503:
            self.unavailable += 1
            time.sleep(0.02)
        else:
            assert response.status in (200, 429), response.status
            self.seen[identifier] = response.status
        return not self._done.is_set() and not response.will_close


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with FakeProvider() as provider:
        made = Installation(tmp_path, provider.origin)
        yield made
        made.close()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


SUMS = """
    count(*), count(*) FILTER (WHERE status >= 400),
    count(*) FILTER (WHERE outcome <> 'refused' AND (overhead_ms IS NOT NULL OR cached)),
    coalesce(sum(input_tokens), 0), coalesce(sum(cache_read_tokens), 0),
    coalesce(sum(output_tokens), 0), coalesce(sum(reasoning_tokens), 0),
    coalesce(sum(total_tokens), 0), coalesce(sum(cost_usd), 0),
    count(*) FILTER (WHERE total_tokens IS NULL
      AND outcome NOT IN ('refused', 'provider_error')),
    count(*) FILTER (WHERE total_tokens IS NOT NULL AND cost_usd IS NULL)
"""
RECORDED = """
    sum(requests), sum(errors), sum(forwarded), sum(input_tokens), sum(cache_read_tokens),
    sum(output_tokens), sum(reasoning_tokens), sum(total_tokens), sum(cost_usd),
    sum(unreported), sum(unpriced)
"""


def check_sums(connection: psycopg.Connection[Any]) -> None:
    """The hourly and daily records are the sums of the rows, group by group."""
    for table, moment in (("usage_hours", "hour"), ("usage_days", "day")):
        begin = f"date_trunc('{moment}', created_at AT TIME ZONE 'UTC')"
        begin = f"({begin})::date" if moment == "day" else f"{begin} AT TIME ZONE 'UTC'"
        of_rows = connection.execute(
            f"SELECT account_id, {begin}, provider, coalesce(model, ''), coalesce(requester, ''),"
            f" {SUMS} FROM metrion.request_logs GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"
        ).fetchall()
        recorded = connection.execute(
            f"SELECT account_id, {moment}, provider, model, requester, {RECORDED}"
            f" FROM metrion.{table} GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"
        ).fetchall()
        assert recorded == of_rows


def kill_again_and_again(installation: Installation, clients: Clients, first: ProxyProcess) -> None:
    """Replace the proxy `PROXY_KILLS` times by another, and kill it while it works."""
    chance = random.Random(8)
    proxy = first
    for number in range(PROXY_KILLS):
        following = installation.start_proxy()
        before = len(clients.seen)
        eventually(lambda count=before: len(clients.seen) > count + 20)
        if number in DATABASE_KILLS:
            installation.kill_database()
            time.sleep(0.3)
        eventually(following.is_answering)
        time.sleep(chance.uniform(0, 0.1))
        proxy.end(signal.SIGKILL)
        clients.port = following.port
        proxy = following
        if number in DATABASE_KILLS:
            installation.server.start(stop_with_thread=True)
    proxy.end(signal.SIGKILL)


def test_every_answer_that_was_seen_whole_has_one_row(installation: Installation) -> None:
    first = installation.start_proxy()
    eventually(first.is_answering)
    clients = Clients(installation.token, first.port)
    try:
        kill_again_and_again(installation, clients, first)
    finally:
        clients.stop()
    last = installation.start_proxy()  # finds what all of them have left
    with psycopg.connect(installation.server.url.get_secret_value(), autocommit=True) as connection:
        eventually(last.is_answering)
        last.end(signal.SIGTERM)
        rows = connection.execute("SELECT id::text, status FROM metrion.request_logs").fetchall()
        found = dict(rows)
        assert len(found) == len(rows), "twice"
        missing = clients.seen.keys() - found.keys()
        assert not missing, f"{len(missing)} of {len(clients.seen)} are missing"
        assert {each: found[each] for each in clients.seen} == clients.seen
        check_sums(connection)
    journal = installation.data_dir / "journal"
    assert not list(journal.glob("*.journal"))
    assert not list(journal.glob("rejected/*"))
    assert len(clients.seen) > 20 * PROXY_KILLS


def test_an_hour_without_a_database(installation: Installation) -> None:
    proxy = installation.start_proxy()
    eventually(proxy.is_answering)
    new_token = installation.create_account("second@example.com")
    seen = {proxy.ask(installation.token).headers["x-metrion-request-id"]}
    installation.kill_database()
    for _ in range(3600 // JUMP_SECONDS):
        for _ in range(10):
            answer = proxy.ask(installation.token)
            assert answer.status == 200, answer.headers["x-metrion-error"]
            seen.add(answer.headers["x-metrion-request-id"])
        answer = proxy.ask(new_token)
        assert (answer.status, answer.headers["x-metrion-error"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        os.kill(proxy.pid, signal.SIGUSR1)
    for _ in range(7200 // JUMP_SECONDS):  # and longer than a token is trusted without it
        os.kill(proxy.pid, signal.SIGUSR1)
        time.sleep(0.02)  # signals of one number do not queue
    assert proxy.ask(installation.token).status == 503
    installation.server.start(stop_with_thread=True)
    eventually(lambda: proxy.ask(new_token).status == 200)
    answer = proxy.ask(installation.token)
    assert answer.status == 200
    seen.add(answer.headers["x-metrion-request-id"])
    with psycopg.connect(installation.server.url.get_secret_value(), autocommit=True) as connection:
        query = "SELECT id::text FROM metrion.request_logs"
        eventually(lambda: seen <= {each for (each,) in connection.execute(query)})
        proxy.end(signal.SIGTERM)
        assert len(connection.execute(query).fetchall()) == len(seen) + 1
        check_sums(connection)
