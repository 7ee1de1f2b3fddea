"""The proxy's own wire without sockets, disk and database: half a millisecond for a request.

What is real: `addons.direct`, the relay and the gateway with all that they call. What is made up:
the transports on both sides, accounts, and rows, which are kept. Time stands still: who waits for
more is hung up on.
"""

import asyncio
import logging
import secrets
import ssl
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, override

from prometheus_client import CollectorRegistry

from addons.admission import Admission
from addons.body_checker import BodyChecker
from addons.direct.client import ClientConnection
from addons.direct.provider import ProviderConnection, ProviderPool
from addons.gateway import Gateway
from addons.keyring import Keyring
from addons.policy import Policy
from addons.probes import Probes, RequestMetrics
from addons.providers.base import Origin, RouteTable
from addons.replay_cache import ReplayCache
from scripts.fake_provider.wire import ProtocolViolation, Request, RequestReader
from scripts.proof.fuzzing.callers import PROVIDERS, Callers
from scripts.proof.fuzzing.error_log import ErrorLog
from storage.callers import Caller, key_binding
from storage.response_cache import StoredAnswer
from storage.sealing import MasterKeys
from storage.settings import Settings

HOST = "provider.invalid"
USUAL_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_MOST_TURNS = 1000

type Answer = Callable[[Request], Sequence[bytes]]


@dataclass
class Happened:
    """What came of one input.

    Attributes:
        forwarded: what the provider got, one by one.
        violations: what it got that is no request.
        said: what the client got.
        rows: what was recorded.
        crashes: what was logged as an error, or raised.
        closed: the gateway closed the connection, or let go of it.
        hung: something was still under way after the client had left.
    """

    forwarded: list[Request] = field(default_factory=list[Request])
    violations: list[str] = field(default_factory=list[str])
    said: bytes = b""
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    crashes: list[str] = field(default_factory=list[str])
    closed: bool = False
    hung: bool = False


class Pipe(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_closed = False

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    @override
    def close(self) -> None:
        self.is_closed = True

    @override
    def abort(self) -> None:
        self.is_closed = True

    @override
    def is_closing(self) -> bool:
        return self.is_closed

    @override
    def get_write_buffer_size(self) -> int:
        return 0

    @override
    def pause_reading(self) -> None:
        """What is offered comes all the same."""

    @override
    def resume_reading(self) -> None:
        """As `pause_reading`."""

    def take(self) -> bytes:
        """What was written since."""
        data = b"".join(self.written)
        self.written.clear()
        return data


class _Pool(ProviderPool):
    """A new connection for each request, at once."""

    def __init__(self) -> None:
        super().__init__(ssl.create_default_context())
        self.connections: list[tuple[ProviderConnection, Pipe, RequestReader]] = []

    @override
    def take(self, origin: Origin) -> ProviderConnection | None:
        connection, pipe = ProviderConnection(origin), Pipe()
        connection.connection_made(pipe)
        self.connections.append((connection, pipe, RequestReader()))
        return connection

    @override
    def give_back(self, connection: ProviderConnection) -> None:
        """It is not used again."""


class _Answers:
    """Stands where the response cache's table stands, and keeps nothing."""

    async def find(self, account_id: uuid.UUID, fingerprint: bytes, max_age: int) -> None:
        """There is none."""

    async def store(
        self, account_id: uuid.UUID, fingerprint: bytes, answer: StoredAnswer, life: int
    ) -> bool:
        """Keep nothing."""
        return True


class ClosedRoom:
    """One gateway. Everything happens in the event loop that runs.

    Args:
        callers: who may call.
        answer: what the provider says to a request, in pieces; an empty one ends its connection.

    Attributes:
        tokens: account id → the account's token.
    """

    def __init__(self, callers: Callers, answer: Answer = lambda _: (USUAL_ANSWER,)) -> None:
        self._made = _Pool()
        self.pool: ProviderPool = self._made
        self.tokens: dict[str, str] = {}
        self.answer = answer
        self._rows: list[dict[str, Any]] = []
        self._log = ErrorLog()
        self._clients: set[ClientConnection] = set()
        self._registry = CollectorRegistry()
        self.policy: Policy = self._gateway(callers)

    def _gateway(self, callers: Callers) -> Gateway:
        keys = MasterKeys({1: secrets.token_bytes(32)}, 1)
        known: dict[str, Caller] = {}
        month = datetime.now(UTC).date().replace(day=1)
        for account in callers.admitted:
            number = uuid.uuid4()
            self.tokens[str(number)] = account.token
            sealed = {
                n: keys.seal(k.encode(), key_binding(number, n)) for n, k in account.keys.items()
            }
            known[account.token] = Caller(number, "pro", sealed, date(2026, 1, 1), 0)
        for key, token in zip(callers.forbidden_keys, callers.refused, strict=False):
            number = uuid.uuid4()
            sealed = {n: keys.seal(key.encode(), key_binding(number, n)) for n in PROVIDERS}
            known[token] = Caller(number, "free", sealed, month, 10_000)

        async def find_caller(token: str) -> Caller | None:
            return known.get(token)

        origins = dict.fromkeys(PROVIDERS, f"http://{HOST}")
        return Gateway(
            Settings(origins=origins),
            routes=RouteTable(PROVIDERS.values(), origins),
            keyring=Keyring(find_caller, lambda: True, time.monotonic),
            admission=Admission(
                None,
                rate_per_minute=1_000_000_000,
                monthly_requests_free=10_000,
                now=time.time,
                digest=lambda text: text,
                # every hit is in a window of its own: none is kept
                clock=_minutes(),
            ),
            keys=keys,
            recorder=self,
            checker=BodyChecker(),
            cache=ReplayCache(_Answers(), self._registry),
            probes=Probes(self._registry, lambda: False, lambda: True),
            metrics=RequestMetrics(self._registry),
        )

    @contextmanager
    def open(self) -> Generator[None]:
        """Errors are noticed inside."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self._log.lines.append(str(context)))
        logging.getLogger().addHandler(self._log)
        meter = logging.getLogger("addons.meter")
        before = meter.level
        meter.setLevel(logging.ERROR)  # what cannot be metered is a warning, and expected here
        try:
            yield
        finally:
            logging.getLogger().removeHandler(self._log)
            meter.setLevel(before)
            loop.set_exception_handler(None)

    @property
    def open_requests(self) -> float:
        """Requests under way at the provider, as the gateway counts them."""
        return self._registry.get_sample_value("metrion_requests_open") or 0.0

    async def offer(self, pieces: Sequence[bytes]) -> Happened:
        """A client comes, sends these pieces and hangs up."""
        happened = Happened()
        self._rows, self._log.lines = happened.rows, happened.crashes
        client, pipe = ClientConnection(self), Pipe()
        client.connection_made(pipe)
        for piece in pieces:
            if pipe.is_closed or client not in self._clients:
                break
            client.data_received(piece)
            await self._settle(happened)
        happened.closed = pipe.is_closed or client not in self._clients
        if not pipe.is_closed:
            client.eof_received()
            await self._settle(happened)
        client.connection_lost(None)
        await self._settle(happened)
        happened.said = pipe.take()
        happened.hung = happened.hung or client in self._clients
        self._clients.discard(client)
        self._made.connections.clear()
        await asyncio.sleep(0)  # the loop forgets cancelled timers only when it turns
        return happened

    async def _settle(self, happened: Happened) -> None:
        """Let steps and the provider finish."""
        for _ in range(_MOST_TURNS):
            if len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0)
            elif not self._provider_answers(happened):
                return
        happened.hung = True

    def _provider_answers(self, happened: Happened) -> bool:
        """Read what was written to providers and answer it; False if there was nothing."""
        moved = False
        for connection, pipe, reader in list(self._made.connections):
            data = pipe.take()
            if not data:
                continue
            moved = True
            reader.feed(data)
            try:
                while (request := reader.next_request()) is not None:
                    happened.forwarded.append(request)
                    self._say(connection, self.answer(request))
            except ProtocolViolation as violation:
                happened.violations.append(f"{violation}: {data[:300]!r}")
            if reader.buffered:
                happened.violations.append(f"more than a request: {data[:300]!r}")
        return moved

    def _say(self, connection: ProviderConnection, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            if not piece:
                connection.connection_lost(None)
                return
            if connection.is_open:
                connection.data_received(piece)

    # ---- the door of the clients, and the recorder ----------------------------------------------

    def came(self, client: ClientConnection) -> bool:
        """One more client."""
        self._clients.add(client)
        return True

    def left(self, client: ClientConnection) -> None:
        """A client and its last exchange are gone."""
        self._clients.discard(client)

    def hand_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """Nobody speaks TLS here."""
        transport.abort()

    def record(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        self._rows.append(row)

    def complete(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """Nobody looks."""
        return None


def _minutes() -> Callable[[], float]:
    """A clock that goes on by more than a minute each time."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 61.0
        return now

    return clock
