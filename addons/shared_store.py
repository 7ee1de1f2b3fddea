"""What several proxy processes count together: scripts run by a Valkey (or Redis), atomically.

One connection per process. Requests of one turn of the event loop leave in one write, and replies
come in order, so that a script costs 10 to 50 µs of CPU here; the ordinary clients, and `limits` on
top of them, take 200, which would be a third of a whole request.

The store may be away. Nobody waits for it longer than `REPLY_SECONDS`, and while it is known to be
away nobody waits at all: `run` raises `StoreAway`, and whoever asked decides alone (see
`addons.rate_window`, `addons.monthly_allowance`). It is said once in the log, shown by
`metrion_shared_limits_up`, and found again by itself.
"""

import asyncio
import contextlib
import hashlib
import logging
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import SecretStr

from storage.errors import SettingsError

CONNECT_SECONDS = 1.0
# Much longer than any reply of a store that lives: a busy machine must not look like an outage.
REPLY_SECONDS = 1.0
PING_SECONDS = 5.0
# libuv runs timers before it reads what has come: who is late because this process was busy has
# answered by then.
_GRACE_SECONDS = 0.01
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_DEFAULT_PORT = 6379
_LONGEST_REPLY_BYTES = 4096
_TLS_SCHEMES = ("rediss", "valkeys")

logger = logging.getLogger("metrion.shared_store")


class StoreAway(Exception):  # noqa: N818 - a state that is expected, like `DatabaseUnavailable`
    """The store cannot be asked, or did not answer in time; the script may have run."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script of one key that returns a whole number."""

    source: str
    sha: bytes = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest.encode())


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the store is, from `redis[s]://user:password@host:port/db` or `unix:///path?db=0`."""

    host: str
    port: int
    path: str
    database: int
    user: str
    password: str = field(repr=False)
    tls: ssl.SSLContext | None

    @classmethod
    def parse(cls, url: SecretStr) -> "StoreAddress":
        """Read a URL, of which `storage.settings` has checked the scheme.

        Raises:
            SettingsError: it is malformed; says how, and repeats nothing of it.
        """
        try:
            return cls._parse(urlsplit(url.get_secret_value()))
        except (ValueError, OSError):  # their texts quote parts of the address
            raise SettingsError(
                "METRION_VALKEY_URL must look like redis://user:password@host:6379/0, "
                "rediss://… (TLS, with ?ssl_ca_certs=FILE for an authority of your own) "
                "or unix:///path/of/socket"
            ) from None

    @classmethod
    def _parse(cls, url: SplitResult) -> "StoreAddress":
        query = parse_qs(url.query, strict_parsing=bool(url.query))
        if query.keys() - {"db", "ssl_ca_certs"}:
            raise ValueError("a parameter that is not known")
        is_path = url.scheme == "unix"
        if not (url.path if is_path else url.hostname):
            raise ValueError("no place")
        number = query.get("db", [""])[0] or ("" if is_path else url.path.strip("/"))
        authorities = query.get("ssl_ca_certs", [None])[0]
        is_tls = url.scheme in _TLS_SCHEMES
        return cls(
            host=url.hostname or "",
            port=url.port or _DEFAULT_PORT,
            path=unquote(url.path) if is_path else "",
            database=int(number or 0),
            user=unquote(url.username or ""),
            password=unquote(url.password or ""),
            tls=ssl.create_default_context(cafile=authorities) if is_tls else None,
        )

    def greeting(self) -> list[tuple[bytes, ...]]:
        """What a new connection says first."""
        said: list[tuple[bytes, ...]] = []
        if self.password:
            user = (self.user.encode(),) if self.user else ()
            said.append((b"AUTH", *user, self.password.encode()))
        if self.database:
            said.append((b"SELECT", b"%d" % self.database))
        return [*said, (b"PING",)]


class SharedStore:
    """The connection to the store, kept up by `run_forever`.

    Args:
        url: of the store.
        metrics: where to show whether it is there, if anywhere.
    """

    def __init__(self, url: SecretStr, metrics: CollectorRegistry | None = None) -> None:
        self._address = StoreAddress.parse(url)
        self._link: _Link | None = None
        self._connected = asyncio.Event()
        self._away_since: float | None = None
        registry = metrics or CollectorRegistry()
        self._up = Gauge(
            "metrion_shared_limits_up",
            "Whether limits are counted together with other processes (1) or alone (0)",
            registry=registry,
        )
        self._alone = Counter(
            "metrion_shared_limits_decided_alone",
            "Decisions on limits that this process made alone, because Valkey was away",
            registry=registry,
        )

    @property
    def is_up(self) -> bool:
        """The store is connected and has answered."""
        return self._link is not None

    async def run_forever(self) -> None:
        """Connect, and connect again whenever that has ended; until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    link = await self._connect()
            except (OSError, StoreAway) as error:  # a time-out is an OSError
                self._went_away(str(error) or "it does not answer")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                continue
            pause = _FIRST_PAUSE_SECONDS
            self._came_back(link)
            try:
                reason = await _end_of(link)
            finally:
                self._link = None
                link.abort()
            self._went_away(reason)

    async def wait_until_connected(self, seconds: float) -> None:
        """Wait for the first connection, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._connected.wait()

    async def run(self, script: Script, key: bytes, *arguments: bytes) -> int:
        """Run a script and return its number.

        Raises:
            StoreAway: nobody knows whether it has run; decide alone.
        """
        link = self._link
        reply = b"" if link is None else await self._ask(link, script, key, arguments)
        if reply[:1] == b":":
            return int(reply[1:])
        self._alone.inc()
        raise StoreAway

    async def _ask(
        self, link: "_Link", script: Script, key: bytes, arguments: Sequence[bytes]
    ) -> bytes:
        """The reply; an empty one if there is none."""
        try:
            reply = await link.call(b"EVALSHA", script.sha, b"1", key, *arguments)
            if reply.startswith(b"-NOSCRIPT"):  # a new server, or it was told to forget
                source = script.source.encode()
                reply = await link.call(b"EVAL", source, b"1", key, *arguments)
        except StoreAway:
            return b""
        if reply[:1] == b"-":
            # It answers, but does not count: read-only, out of memory, loading. Try a new link.
            self._link = None
            link.give_up(_error_code(reply))
        return reply

    async def _connect(self) -> "_Link":
        loop, where = asyncio.get_running_loop(), self._address
        if where.path:
            _, link = await loop.create_unix_connection(_Link, where.path)
        else:
            _, link = await loop.create_connection(_Link, where.host, where.port, ssl=where.tls)
        try:
            for words in where.greeting():
                _check(await link.call(*words))
        except BaseException:
            link.abort()
            raise
        return link

    def _went_away(self, reason: str) -> None:
        self._up.set(0)
        if self._away_since is None:
            self._away_since = time.monotonic()
            logger.warning(
                "Valkey is away (%s): until it is back, this process limits by itself", reason
            )

    def _came_back(self, link: "_Link") -> None:
        self._link = link
        self._up.set(1)
        self._connected.set()
        if self._away_since is not None:
            seconds = time.monotonic() - self._away_since
            self._away_since = None
            logger.warning("Valkey is back after %.1f s: limits are shared again", seconds)


class _Link(asyncio.Protocol):
    """One connection; calls are answered in their order, each by one line.

    Attributes:
        ended: why the connection is no more, once it is.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._unsent: list[bytes] = []
        self._calls: deque[tuple[asyncio.Future[bytes], float]] = deque()
        self._watch: asyncio.TimerHandle | None = None

    async def call(self, *words: bytes) -> bytes:
        """Send a command and return the line that answers it.

        Raises:
            StoreAway: the connection has ended, or the answer took too long.
        """
        if self.ended.done():
            raise StoreAway(self.ended.result())
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._calls.append((answer, self._loop.time()))
        if not self._unsent:
            self._loop.call_soon(self._flush)
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
        self._unsent.append(b"".join(parts))
        if self._watch is None:
            self._watch = self._loop.call_later(REPLY_SECONDS, self._look)
        return await answer

    def abort(self) -> None:
        """Close the connection now."""
        self.give_up("it was closed")

    def give_up(self, reason: str) -> None:
        """End the connection and everybody's wait."""
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        if not self.ended.done():
            self.ended.set_result(reason)
        while self._calls:
            answer, _ = self._calls.popleft()
            if not answer.done():
                answer.set_exception(StoreAway(reason))

    def _flush(self) -> None:
        if self._transport is not None and not self.ended.done():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _look(self) -> None:
        """One timer for all calls: the oldest is answered first."""
        self._watch = None
        if self._calls:
            oldest, since = self._calls[0]
            left = since + REPLY_SECONDS - self._loop.time()
            if left > 0:
                self._watch = self._loop.call_later(left, self._look)
            else:
                self._watch = self._loop.call_later(_GRACE_SECONDS, self._look_again, oldest)

    def _look_again(self, oldest: asyncio.Future[bytes]) -> None:
        if self._calls and self._calls[0][0] is oldest:
            self.give_up(f"no answer within {REPLY_SECONDS:g} s")
        else:
            self._look()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Give each line to who waits for it."""
        *lines, self._received = (self._received + data).split(b"\r\n")
        if len(self._received) > _LONGEST_REPLY_BYTES or len(lines) > len(self._calls):
            self.give_up("it says what was not asked for")
            return
        for line in lines:
            answer, _ = self._calls.popleft()
            if not answer.done():
                answer.set_result(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has closed, or the network."""
        self.give_up(str(exc) if exc else "it closed the connection")


async def _end_of(link: _Link) -> str:
    """Wait for its end, which no request should have to find out: it is asked when it rests."""
    while not link.ended.done():
        await asyncio.wait([link.ended], timeout=PING_SECONDS)
        if not link.ended.done():
            with contextlib.suppress(StoreAway):
                await link.call(b"PING")
    return link.ended.result()


def _check(reply: bytes) -> None:
    if reply[:1] == b"-":
        raise StoreAway(_error_code(reply))


def _error_code(reply: bytes) -> str:
    """The first word of an error (WRONGPASS, READONLY, OOM …): the rest may quote anything."""
    return reply[1:].split(b" ")[0].decode(errors="replace")[:40]
