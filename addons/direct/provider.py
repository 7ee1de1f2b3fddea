"""A connection to a provider, and those that are kept for the next request of anybody."""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import cast, override

from addons.body_reader import BodyReader, MalformedBodyError
from addons.exchange import Exchange, Headers
from addons.framing import MalformedAnswerError, ReceiveBuffer, read_response_head
from addons.providers.base import Origin
from addons.relay import Relay

# A kept connection that the provider closes at the very moment we write costs a request, so an old
# one is not used again. Providers keep idle connections for at least a minute.
REUSE_SECONDS = 20.0
# For each origin; more are closed when their answers have ended.
MAX_IDLE = 256


class ProviderConnection(asyncio.Protocol):
    """One request at a time.

    Args:
        origin: who is at the other end.

    Attributes:
        is_open: it can still be used.
        idle_since: when its last answer had ended, in seconds of `time.monotonic`.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self.is_open = False
        self._relay: Relay | None = None
        self._flush: Callable[[], None] = _nothing
        self._give_back: Callable[[ProviderConnection], None] = _forget
        # What is written to, which may be TLS, and the socket's own, which is below it.
        self._transport: asyncio.Transport | None = None
        self._below: asyncio.Transport | None = None
        self._has_ended = False  # and the provider has said so
        self._buffer = ReceiveBuffer()
        self._method = ""
        self._body: BodyReader | None = None
        self._keeps_alive = True

    # ---- asyncio ----------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclasses
        self._transport = self._below = cast("asyncio.Transport", transport)
        self.is_open = True

    async def begin_tls(self, tls: ssl.SSLContext) -> None:
        """Speak TLS from now on.

        Args:
            tls: how the provider's certificate is checked.

        Raises:
            OSError: the provider does not, or it is not the provider.
        """
        below = self._below
        if below is None or below.is_closing():
            raise ConnectionResetError
        loop = asyncio.get_running_loop()
        try:
            self._transport = await loop.start_tls(
                below, self, tls, server_hostname=self.origin.host
            )
        except BaseException:
            below.abort()
            raise

    @override
    def data_received(self, data: bytes) -> None:
        relay = self._relay
        if relay is None:
            self.close()  # nothing was asked: what comes cannot be an answer to anybody
            return
        flush = self._flush  # the relay may be done with this connection after what comes now
        self._read(relay, data)
        flush()

    @override
    def eof_received(self) -> bool:
        # With TLS: `close_notify`. A connection that ends without it may have been cut off.
        self._has_ended = True
        self.is_open = False  # `connection_lost` comes later, and nobody may take it meanwhile
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        relay, flush = self._relay, self._flush
        if relay is None:
            return
        body = self._body
        self.release()
        if body is None:
            # Bytes without a whole head are as little an answer as none at all.
            reason = "not an HTTP answer" if self._buffer else "connection closed"
            relay.tell(relay.provider_failed, reason)
        elif exc is None and self._has_ended and body.ends_with_connection:
            relay.tell(relay.answer_end)
        else:
            relay.tell(relay.provider_failed, "the body is cut off")
        flush()

    # ---- a request --------------------------------------------------------------------------

    def take(
        self,
        relay: Relay,
        flush: Callable[[], None],
        give_back: Callable[["ProviderConnection"], None],
    ) -> None:
        """This connection is the relay's until its answer has ended.

        Args:
            relay: whom to tell what comes.
            flush: called after it was told.
            give_back: called when the connection is free again.
        """
        self._relay, self._flush, self._give_back = relay, flush, give_back

    def send(self, exchange: Exchange, key_headers: Headers, body: bytes) -> None:
        """Write a request. The head is the only object that ever holds the key."""
        if exchange.origin is not self.origin and exchange.origin != self.origin:
            raise RuntimeError("a request, and its key, for another provider")
        self._method = exchange.method
        self._body = None
        lines = [f"{exchange.method} {exchange.upstream_path} HTTP/1.1".encode()]
        lines += [name + b": " + value for name, value in exchange.upstream_headers]
        lines += [name + b": " + value for name, value in key_headers]
        if exchange.method != "GET" or body:
            lines.append(b"content-length: %d" % len(body))
        if self._transport is not None:
            self._transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    def _read(self, relay: Relay, data: bytes) -> None:
        try:
            if self._body is None:
                self._buffer += data
                head = read_response_head(self._buffer, self._method)
                if head is None:
                    return
                self._keeps_alive = head.keeps_alive
                self._body = BodyReader(head.body_bytes)
                relay.tell(relay.answer_head, head)
                data, ended = self._body.read(self._buffer)
            else:
                data, ended = self._body.read_next(data, self._buffer)
        except (MalformedAnswerError, MalformedBodyError) as error:
            self.close()
            relay.tell(relay.provider_failed, str(error))
            return
        if data:
            relay.tell(relay.answer_data, data)
        if ended and self._relay is not None:
            self._end()
            relay.tell(relay.answer_end)

    def _end(self) -> None:
        """The answer is whole: free for the next, if nothing speaks against it."""
        give_back = self._give_back
        self.release()
        # An answer may come before its request has left; the next would wait behind the rest.
        if self._keeps_alive and not self._buffer and self.has_sent_all:
            give_back(self)
        else:
            self.close()

    @property
    def has_sent_all(self) -> bool:
        """Nothing of what was written is still here."""
        if self._transport is None or self._below is None:
            return True
        waiting = self._transport.get_write_buffer_size() or self._below.get_write_buffer_size()
        return not waiting

    def pause(self) -> None:
        """The client does not keep up: read nothing for now.

        Nothing from the socket: uvloop's TLS, when only it is told to pause, reads on, and when the
        provider closes meanwhile it drops what it has read.
        """
        if self._below is not None and self.is_open:
            self._below.pause_reading()

    def resume(self) -> None:
        """The client has caught up."""
        if self._below is not None and self.is_open:
            self._below.resume_reading()

    def release(self) -> None:
        """The relay is told nothing more."""
        self._relay, self._flush, self._give_back = None, _nothing, _forget

    def close(self) -> None:
        """Close at once: nothing more is wanted."""
        self.is_open = False
        self.release()
        if self._transport is not None:
            self._transport.abort()


def _nothing() -> None:
    """Nobody waits."""


def _forget(connection: ProviderConnection) -> None:
    """Nobody keeps it."""


class ProviderPool:
    """Connections that are idle, for any client's next request.

    A connection belongs to an origin alone: keys are written with each request.

    Args:
        tls: how providers' certificates are checked.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        # Oldest first.
        self._idle: dict[Origin, deque[ProviderConnection]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def take(self, origin: Origin) -> ProviderConnection | None:
        """A connection that is idle and not too old, the youngest first; None if there is none."""
        idle = self._idle.get(origin)
        now = time.monotonic()
        while idle:
            connection = idle.pop()
            if connection.is_open and now - connection.idle_since < REUSE_SECONDS:
                return connection
            connection.close()
        return None

    async def connect(self, origin: Origin) -> ProviderConnection:
        """A new connection.

        Raises:
            OSError: there is none to be had (also for TLS).
        """
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: ProviderConnection(origin), origin.host, origin.port
        )
        if origin.scheme == "https":
            await connection.begin_tls(self._tls)
        return connection

    def give_back(self, connection: ProviderConnection) -> None:
        """Keep a connection whose answer has ended."""
        idle = self._idle.setdefault(connection.origin, deque())
        connection.idle_since = time.monotonic()
        idle.append(connection)
        if len(idle) > MAX_IDLE:
            idle.popleft().close()
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(REUSE_SECONDS, self._close_old)

    def _close_old(self) -> None:
        self._sweep = None
        now = time.monotonic()
        for idle in self._idle.values():
            while idle and (not idle[0].is_open or now - idle[0].idle_since >= REUSE_SECONDS):
                idle.popleft().close()
        if any(self._idle.values()):
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(REUSE_SECONDS, self._close_old)

    @property
    def idle(self) -> int:
        """How many connections are kept."""
        return sum(each.is_open for idle in self._idle.values() for each in idle)

    def close(self) -> None:
        """Close all that are idle."""
        if self._sweep is not None:
            self._sweep.cancel()
        for idle in self._idle.values():
            while idle:
                idle.pop().close()
