"""`scripts.proxy --workers N`, as production starts it: all workers are replaced under load.

No request may fail: neither of clients that keep their connection, nor of those that make a new one
for each request; and every stream comes to its end.
"""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scripts.child_environment import base_environment
from scripts.fake_provider import FakeProvider
from scripts.ports import claim_port
from storage import accounts, keys, roles
from storage.database import Database

HOST = "127.0.0.1"
CHAT = "/api/proxy/openai/v1/chat/completions"
KEEPING, NEW, STREAMS = 4, 2, 2
TAIL_SECONDS = 1.0


@pytest.fixture
async def token(database):
    api = Database(database.url(roles.API), pool_size=1)
    account = await accounts.create_account(api, database.keys, "anna@example.com", "pro")
    async with api.account(account.id) as connection:
        await keys.set_key(connection, database.keys, account.id, "openai", "sk-" + "x" * 40)
    await api.close()
    return account.token


class Fleet:
    """The parent of some workers."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str) -> None:
        self.port = claim_port(0, "")
        self._said = folder / "said.txt"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "scripts.proxy", "--port", str(self.port)),
                    *arguments,
                ],
                env=environment,
                cwd=folder,
                stderr=said,
            )

    def events(self) -> list[str]:
        lines = self._said.read_text().splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    async def until(self, event: str) -> None:
        async with asyncio.timeout(90):
            while event not in self.events():
                assert self.process.poll() is None, self._said.read_text()
                await asyncio.sleep(0.05)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def fleet(database, valkey, tmp_path):
    with FakeProvider() as provider:
        environment = base_environment() | {
            "METRION_DATA_DIR": str(database.settings.data_dir),
            "METRION_DATABASE_URL": database.url(roles.PROXY).get_secret_value(),
            "METRION_VALKEY_URL": valkey.url.get_secret_value(),
            "METRION_ORIGINS": json.dumps({"openai": provider.origin}),
            "METRION_RATE_PER_MINUTE": "1000000",
        }
        fleet = Fleet(tmp_path, environment, "--workers", "2", "--drain-seconds", "10")
        yield fleet
        if fleet.process.poll() is None:
            fleet.process.kill()
            fleet.process.wait()


class Load:
    """Clients that ask until they are told to stop.

    Attributes:
        counts: what happened, how often; anything but an answer is named.
    """

    def __init__(self, port: int, token: str) -> None:
        self.counts: Counter[str] = Counter()
        self._port = port
        self._token = token
        self.is_over = False

    async def keep(self) -> None:
        """Ask again and again on one connection, until it is said that it will be closed."""
        while not self.is_over:
            with self._noted("kept"):
                reader, writer = await asyncio.open_connection(HOST, self._port)
                keeps = True
                while keeps and not self.is_over:
                    keeps = await self._ask(reader, writer, "kept")
                    await asyncio.sleep(0.01)
                self.counts["told to go elsewhere"] += not keeps
                writer.close()

    async def renew(self) -> None:
        """Ask on a new connection each time."""
        while not self.is_over:
            with self._noted("new"):
                reader, writer = await asyncio.open_connection(HOST, self._port)
                await self._ask(reader, writer, "new")
                writer.close()
            await asyncio.sleep(0.01)

    async def stream(self) -> None:
        """Have answers streamed, a second and a half each."""
        while not self.is_over:
            with self._noted("stream"):
                reader, writer = await asyncio.open_connection(HOST, self._port)
                await self._ask(reader, writer, "stream")
                writer.close()

    async def _ask(self, reader, writer, kind: str) -> bool:
        """One request; says whether the connection may be used again."""
        wish = {"model": "gpt-4o", "messages": [], "stream": kind == "stream"}
        body = json.dumps(wish)
        knobs = "X-Fake-Events: 15\r\nX-Fake-Interval: 0.1\r\n" if kind == "stream" else ""
        head = f"POST {CHAT} HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer {self._token}\r\n"
        writer.write(f"{head}{knobs}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in answer:
            whole = await reader.readuntil(b"\r\n0\r\n\r\n")
            assert b"data: [DONE]" in whole
        else:
            await reader.readexactly(int(answer.partition(b"content-length:")[2].split()[0]))
        self.counts[f"{kind} {answer.split()[1].decode()}"] += 1
        return b"connection: close" not in answer

    @contextlib.contextmanager
    def _noted(self, kind: str):
        try:
            yield
        except (OSError, asyncio.IncompleteReadError, AssertionError) as error:
            self.counts[f"{kind} FAILED {type(error).__name__}"] += 1


async def test_no_request_fails_while_all_workers_are_replaced(fleet, token):
    await fleet.until("2 workers are ready")
    load = Load(fleet.port, token)
    async with asyncio.TaskGroup() as tasks:
        for work, count in ((load.keep, KEEPING), (load.renew, NEW), (load.stream, STREAMS)):
            for _ in range(count):
                tasks.create_task(work())
        await asyncio.sleep(TAIL_SECONDS)
        fleet.process.send_signal(signal.SIGHUP)
        await fleet.until("all workers were replaced")
        await asyncio.sleep(TAIL_SECONDS)
        load.is_over = True
    print(f"while both workers were replaced: {dict(load.counts)}")  # noqa: T201
    elsewhere = load.counts.pop("told to go elsewhere")
    assert load.counts.keys() == {"kept 200", "new 200", "stream 200"}
    assert elsewhere > 0
    assert min(load.counts.values()) > STREAMS
    assert [e for e in fleet.events() if "has ended" in e] == [
        f"proxy-{number} has ended (status 0); it starts again in 0.2 s" for number in (1, 2)
    ]
    assert fleet.stop() == 0


def test_several_without_a_valkey_are_refused(database, tmp_path):
    environment = base_environment() | {
        "METRION_DATA_DIR": str(database.settings.data_dir),
        "METRION_DATABASE_URL": database.url(roles.PROXY).get_secret_value(),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "scripts.proxy", "--workers", "2"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "METRION_VALKEY_URL" in done.stderr
    assert "Traceback" not in done.stderr
