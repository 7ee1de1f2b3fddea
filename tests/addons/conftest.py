"""A real proxy (mitmproxy with our addon) in a thread of its own, on a real socket.

Accounts and rows are in memory here; `tests/e2e` has the same with everything real.
"""

import asyncio
import contextlib
import functools
import gc
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import certifi
import pytest
from mitmproxy import certs, options
from mitmproxy.tools.dump import DumpMaster
from prometheus_client import CollectorRegistry

from addons.addon import MetrionAddon
from addons.admission import Admission
from addons.body_checker import BodyChecker
from addons.event_loop import EventLoop
from addons.flow_clients import install
from addons.gateway import Gateway
from addons.keyring import Keyring
from addons.probes import Probes, RequestMetrics
from addons.production import ProductionProxy
from addons.providers import load_providers
from addons.providers.base import RouteTable
from addons.replay_cache import ReplayCache
from addons.shared_store import Script
from scripts.fake_provider import FakeProvider
from storage.callers import Caller, key_binding
from storage.errors import DatabaseUnavailable
from storage.response_cache import StoredAnswer
from storage.sealing import MasterKeys
from storage.settings import Settings

TOKEN = "sk-metrion-" + "0123456789abcdef" * 2
OTHER_TOKEN = "sk-metrion-" + "fedcba9876543210" * 2  # of an account without any stored key
FREE_TOKEN = "sk-metrion-" + "f" * 32  # of a Free account that has used its month up
AWAY_TOKEN = "sk-metrion-" + "a" * 32  # for which the database does not answer
KEYS = {p.name: f"sk-REAL-{p.name}-CANARYCANARY0123456789" for p in load_providers()}
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
CHAT_PATH = "/api/proxy/openai/v1/chat/completions"


class Rows:
    """Stands where the recorder stands, and keeps rows for the test to look at."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def record(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def complete(self, row: dict[str, Any]) -> dict[str, Any]:
        usage = row.get("usage")
        tokens = dict.fromkeys(("input_tokens", "output_tokens"))
        if usage:
            tokens = {name: getattr(usage, name) for name in tokens}
        return {**row, **tokens, "cost_usd": "0.000123000000" if usage else None, "usage": None}

    def wait(self, count: int, seconds: float = 5.0) -> list[dict[str, Any]]:
        deadline = time.monotonic() + seconds
        while len(self.rows) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        assert len(self.rows) >= count, self.rows
        return self.rows


class MadeUpStore:
    """Stands where a `SharedStore` stands, and answers what it is told to."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[bytes, ...]] = []

    async def run(self, script: Script, key: bytes, *arguments: bytes) -> int:
        self.asked.append((key, *arguments))
        return self.answers.pop(0)


class MemoryAnswers:
    """Stands where the response cache's table stands; nothing gets old in it."""

    def __init__(self) -> None:
        self.answers: dict[tuple[uuid.UUID, bytes], StoredAnswer] = {}

    async def find(self, account_id: uuid.UUID, fingerprint: bytes, max_age: int) -> Any:
        return self.answers.get((account_id, fingerprint))

    async def store(
        self, account_id: uuid.UUID, fingerprint: bytes, answer: StoredAnswer, life: int
    ) -> bool:
        self.answers[account_id, fingerprint] = answer
        return True


class MemoryService:
    """`addons.service.Service` without a database."""

    def __init__(self, settings: Settings) -> None:
        keys = MasterKeys({1: os.urandom(32)}, 1)
        account, other = uuid.uuid4(), uuid.uuid4()
        self.account_id = account
        sealed = {n: keys.seal(k.encode(), key_binding(account, n)) for n, k in KEYS.items()}
        callers = {
            TOKEN: Caller(account, "pro", sealed, date(2026, 1, 1), 0),
            OTHER_TOKEN: Caller(other, "pro", {}, date(2026, 1, 1), 0),
        }

        month = datetime.now(UTC).date().replace(day=1)
        callers[FREE_TOKEN] = Caller(uuid.uuid4(), "free", sealed, month, 10_000)

        async def find_caller(token: str) -> Caller | None:
            if token == AWAY_TOKEN:
                raise DatabaseUnavailable("away")
            return callers.get(token)

        self.recorder = Rows()
        self.checker = BodyChecker()
        registry = CollectorRegistry()
        self.gateway = Gateway(
            settings,
            routes=RouteTable(load_providers(), settings.origins),
            keyring=Keyring(find_caller, lambda: True, time.monotonic),
            admission=Admission(
                None,
                rate_per_minute=settings.rate_per_minute,
                monthly_requests_free=settings.monthly_requests_free,
                now=time.time,
                digest=lambda text: keys.digests("limits", text)[0].hex(),
            ),
            keys=keys,
            recorder=self.recorder,
            checker=self.checker,
            cache=ReplayCache(MemoryAnswers(), registry),
            probes=Probes(registry, lambda: self.gateway.is_stopping, lambda: True),
            metrics=RequestMetrics(registry),
        )

    async def start(self) -> None:
        pass

    def start_recorder(self) -> None:
        pass

    def flush(self, timeout: float) -> int:
        return 0

    def stop(self) -> None:
        self.checker.kill()

    async def close(self) -> None:
        await self.checker.close()


class Proxy:
    """A running proxy.

    Attributes:
        port: where it listens.
        rows: what it recorded.
    """

    authorities: str
    """A file with who is trusted to sign certificates of providers."""
    folder: Path
    """With the authority that signs the proxy's own certificate."""

    def __init__(
        self,
        settings: Settings,
        addons: list[object],
        make_service: Callable[[Settings], Any] | None = None,
        *,
        is_observed: bool = False,
        **flags: Any,
    ) -> None:
        self._make_service = make_service or MemoryService
        self._addons = addons
        self._is_observed = is_observed
        self._settings = settings
        self._flags = flags
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._thread.start()
        assert self._ready.wait(20)

    def _run(self) -> None:
        asyncio.run(self._main(), loop_factory=None if self._is_observed else EventLoop)

    async def _main(self) -> None:
        self.service = self._make_service(self._settings)
        self.rows = getattr(self.service, "recorder", None)
        self.gateway = self.service.gateway
        self._loop = asyncio.get_running_loop()
        if self._is_observed:
            await self._serve_observed()
        else:
            await self._serve()

    async def _serve(self) -> None:
        self.addon = ProductionProxy(self.service, self.folder, self.authorities)
        self._told_to_end = asyncio.Event()
        await self.addon.start()
        self.addon.listen("127.0.0.1", 0)
        self.port = self.addon.listen_addrs()[0][1]
        self._ready.set()
        await self._told_to_end.wait()
        await self.addon.close()

    async def _serve_observed(self) -> None:
        self.addon = MetrionAddon(lambda: self.service)
        self.master = DumpMaster(options.Options(), with_termlog=False, with_dumper=False)
        manager = self.master.addons
        install(self.master, self.addon)
        manager.add(*self._addons)
        self.master.options.update(
            mode=["reverse:http://metrion.invalid"],
            server=False,
            listen_host="127.0.0.1",
            listen_port=0,
            ssl_verify_upstream_trusted_ca=self.authorities,
            **self._flags,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.master.run())
            while not self.addon.listen_addrs():
                await asyncio.sleep(0.01)
            self.port = self.addon.listen_addrs()[0][1]
            self._ready.set()
        await self.service.close()

    async def _close(self) -> None:
        if not self._is_observed:
            self._told_to_end.set()
            return
        # mitmproxy leaves its listener and its clients to the end of the process
        server = self.master.addons.get("proxyserver")
        await server.servers.update([])
        for handler in list(server.connections.values()):
            io = handler.transports.get(handler.client)
            if io is not None and io.handler is not None and not io.handler.cancelling():
                await handler.on_timeout()
        while server.connections:
            await asyncio.sleep(0.01)
        self.master.shutdown()

    @property
    def connections(self) -> int:
        """Client connections that are still held."""
        return self.addon.clients

    def open_at(self, provider: FakeProvider) -> int:
        """Connections to the provider that are in use: those kept for the next request are not."""
        kept = 0 if self._is_observed else self.addon._direct.pool.idle
        return provider.connections_open - kept

    def stop(self) -> None:
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(20)
        self._thread.join(10)
        assert not self._thread.is_alive()


class RawClient:
    """A client that says exactly what it is told to."""

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(
        self,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        method: str = "POST",
    ) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: metrion"]
        fields = {"Authorization": f"Bearer {TOKEN}", **(headers or {})}
        if body or method == "POST":
            fields["Content-Length"] = str(len(body))
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def head(self) -> tuple[int, dict[str, str]]:
        line = self.file.readline()
        if not line:
            raise EOFError
        headers: dict[str, str] = {}
        while (field := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = field.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers

    def response(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = self.head()
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, b"".join(self.chunks())
        return status, headers, self.file.read(int(headers.get("content-length", 0)))

    def chunks(self) -> Iterator[bytes]:
        """The chunks of a chunked body; raises EOFError if it is cut off."""
        while True:
            line = self.file.readline()
            if not line.endswith(b"\n"):
                raise EOFError
            size = int(line, 16)
            data = self.file.read(size)
            if len(data) < size or not self.file.readline():
                raise EOFError
            if not size:
                return
            yield data

    def is_closed(self) -> bool:
        """The proxy has closed the connection (waits for it)."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True

    def send_until_closed(self, data: bytes) -> None:
        """Send the same again and again until the proxy has had enough (at most 64 MiB)."""
        with contextlib.suppress(OSError):
            for _ in range(64 * 1024 * 1024 // len(data)):
                self.send(data)
            pytest.fail("the proxy read all of it")

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def reset(self) -> None:
        """Close without a farewell (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.close()


@pytest.fixture(scope="session")
def proxy_type() -> type[Proxy]:
    """To start one that lives longer than a test."""
    return Proxy


@pytest.fixture(scope="session")
def client_type() -> type[RawClient]:
    """To connect to it."""
    return RawClient


@pytest.fixture(scope="session", autouse=True)
def frozen() -> None:
    """What was imported is no garbage: a collection after each test has little to look at."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def quick_starts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A proxy starts without 80 ms for the same private key and 40 ms for 140 authorities."""
    bundle = Path(certifi.where()).read_text()
    end = "-----END CERTIFICATE-----\n"
    one_authority = tmp_path_factory.mktemp("authorities") / "one.pem"
    one_authority.write_text(bundle[: bundle.index(end)] + end)
    Proxy.authorities = str(one_authority)
    Proxy.folder = one_authority.with_name("mitmproxy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certs, "load_pem_private_key", functools.cache(certs.load_pem_private_key))
        yield


@pytest.fixture(scope="session")
def provider() -> Iterator[FakeProvider]:
    """One stand-in for all providers."""
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def origins(provider: FakeProvider) -> dict[str, str]:
    """Provider name → origin."""
    return dict.fromkeys(KEYS, provider.origin)


@pytest.fixture(params=["direct", "mitmproxy"])
def way(request: pytest.FixtureRequest) -> str:
    """Both ways of a request: sockets of our own, and mitmproxy's for those who look at flows."""
    return request.param


@pytest.fixture
def start_proxy(origins: dict[str, str], way: str) -> Iterator[Callable[..., Proxy]]:
    """Start a proxy with some settings; it is stopped after the test."""
    started: list[Proxy] = []

    def start(addons: list[object] | None = None, **settings: Any) -> Proxy:
        flags = settings.pop("flags", {})
        defaults = {"origins": origins, "timeout_seconds": 0.6}
        is_observed = way == "mitmproxy" or bool(addons)
        proxy = Proxy(
            Settings(**{**defaults, **settings}), addons or [], is_observed=is_observed, **flags
        )
        started.append(proxy)
        return proxy

    yield start
    for proxy in started:
        proxy.stop()
    # What a proxy leaves open is told by the test that it was made for, not by a later one.
    gc.collect()


@pytest.fixture
def proxy(start_proxy: Callable[..., Proxy], provider: FakeProvider) -> Proxy:
    """A proxy with short time-outs; the provider's record is empty."""
    provider.clear()
    return start_proxy()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[RawClient]:
    """A connection to `proxy`."""
    raw = RawClient(proxy.port)
    yield raw
    raw.close()


@pytest.fixture
def lines_run() -> Callable[[ModuleType, Callable[[], object]], int]:
    """Count the lines of a module that are run for a piece of work: the same on every machine."""

    def count(module: ModuleType, work: Callable[[], object]) -> int:
        lines = 0

        def note(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal lines
            if frame.f_code.co_filename != module.__file__:
                return None
            lines += event == "line"
            return note

        before = sys.gettrace(), threading.gettrace()
        sys.settrace(note)
        threading.settrace(note)
        try:
            work()
        finally:
            sys.settrace(before[0])
            threading.settrace(before[1])
        return lines

    return count


@pytest.fixture
def connect_to() -> Iterator[Callable[[Proxy], RawClient]]:
    """Connections to any proxy."""
    opened: list[RawClient] = []

    def open_one(proxy: Proxy) -> RawClient:
        opened.append(RawClient(proxy.port))
        return opened[-1]

    yield open_one
    for raw in opened:
        raw.close()


@pytest.fixture
def connect(proxy: Proxy, connect_to: Callable[[Proxy], RawClient]) -> Callable[[], RawClient]:
    """More connections to `proxy`."""
    return lambda: connect_to(proxy)


@pytest.fixture
def chat() -> Callable[..., bytes]:
    """A chat body, with changes."""

    def body(**changes: Any) -> bytes:
        return json.dumps({**CHAT, **changes}).encode()

    return body


@pytest.fixture(scope="session")
def made_up_store() -> type[MadeUpStore]:
    """A store with given answers."""
    return MadeUpStore
