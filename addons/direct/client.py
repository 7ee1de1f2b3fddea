"""A client's connection: requests one after the other, each with a relay of its own."""

import asyncio
import itertools
import time
from typing import cast, override

from addons.answers import Answer, reason_of
from addons.body_reader import BodyReader, MalformedBodyError
from addons.direct.door import Door
from addons.direct.provider import ProviderConnection
from addons.direct.tick import SLACK_SECONDS, Tick
from addons.exchange import Exchange, Headers, Phase
from addons.framing import PIPELINE_MAX_BYTES, MalformedHeadError, ReceiveBuffer, read_request_head
from addons.policy import NEVER, Step, View
from addons.providers.base import Origin
from addons.relay import Relay

# A kept connection may rest this long between two requests.
KEEP_ALIVE_SECONDS = 600.0
_TLS_HANDSHAKE = 0x16
_numbers = itertools.count(1)


class ClientConnection(asyncio.Protocol):
    """One client; the wire of its relay.

    Args:
        door: where it came in.

    Attributes:
        name: that no other has had.
    """

    def __init__(self, door: Door) -> None:
        self.name = f"direct {next(_numbers)}"
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._buffer = ReceiveBuffer()
        self._out: list[bytes] = []
        self._relay: Relay | None = None
        self._body: BodyReader | None = None
        self._provider: ProviderConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_gone = False
        self._is_paused = False
        self._is_congested = False  # the client does not take what is written to it
        self._untaken_bytes = NEVER  # of that, when it was last looked
        self._is_chunked = False
        self._closes_after = False
        self._is_first = True
        self._deadline = NEVER
        self._tick = Tick(self._ticked)

    # ---- asyncio ----------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # the listener is one of streams
        if not self._door.came(self):
            self._transport.abort()
            return
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        self._set_deadline(self._door.policy.idle_timeout)

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_first:
            self._is_first = False
            if data[0] == _TLS_HANDSHAKE and self._transport is not None:
                transport, self._transport = self._transport, None
                self._end()
                self._door.hand_over(transport, data)
                return
        self._buffer += data
        self._advance()
        self.flush()

    @override
    def eof_received(self) -> bool:
        # Who has said goodbye is not interested in more (as mitmproxy has it, and nginx).
        self._leave()
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    @override
    def pause_writing(self) -> None:
        self._is_congested = True
        if self._provider is not None:
            self._provider.pause()

    @override
    def resume_writing(self) -> None:
        self._is_congested, self._untaken_bytes = False, NEVER
        if self._provider is not None:
            self._provider.resume()
        if self._relay is None and not self._is_gone:
            self._set_deadline(KEEP_ALIVE_SECONDS)
        self._go_on()

    def _leave(self) -> None:
        if self._is_gone:
            return
        self._is_gone = True
        self.resume_writing()  # what is left of the answer is read for its usage
        if self._relay is None:
            self._end()
        else:
            self._relay.tell(self._relay.client_left)

    # ---- reading ----------------------------------------------------------------------------

    def _advance(self) -> None:
        """Read on, as far as what has come allows: heads, bodies, heads."""
        while not self._is_gone:
            relay = self._relay
            if relay is None:
                if self._is_congested or not self._read_head():
                    break
            elif relay.is_waiting or self._body is None or not self._read_body(relay):
                break
        self._hold_back()

    def _go_on(self) -> None:
        """Read on after something else has happened, and send what came of both."""
        self._advance()
        self.flush()

    def _hold_back(self) -> None:
        """Read from the socket only what there is room for."""
        if self._transport is None or self._is_gone:
            return
        relay = self._relay
        is_full = len(self._buffer) > PIPELINE_MAX_BYTES and (self._is_congested or bool(relay))
        if relay is not None and is_full and not relay.is_waiting:
            self._give_up()  # much more than its request while that is under way
        elif is_full != self._is_paused:
            self._is_paused = is_full
            if is_full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _read_head(self) -> bool:
        """Begin the next request; False if its head is not whole yet, or never will be."""
        try:
            head = read_request_head(self._buffer)
        except MalformedHeadError as error:
            self._refuse(self._door.policy.malformed(error.status, error.message))
            return False
        if head is None:
            if self._buffer and self._deadline > time.monotonic() + self._door.policy.idle_timeout:
                self._set_deadline(self._door.policy.idle_timeout)  # a head that dribbles in
            return False
        self._deadline = NEVER
        self._body = BodyReader(head.body_bytes, of_request=True)
        self._closes_after = not head.keeps_alive
        relay = self._relay = Relay(self._door.policy, self)
        relay.tell(relay.head, head, self._peer)
        return True

    def _read_body(self, relay: Relay) -> bool:
        """Read on in the request's body; False if more has to come first."""
        if self._body is None:
            return False
        try:
            data, ended = self._body.read(self._buffer)
        except MalformedBodyError:
            self._give_up()
            return False
        if ended:
            self._body = None
        if data:
            relay.tell(relay.body, data)
        if ended:
            relay.tell(relay.body_end)
        return ended

    def _refuse(self, answer: Answer) -> None:
        """Answer a head that cannot be read, and close."""
        headers = [*answer.headers, (b"connection", b"close")]
        self.send_head(answer.status, b"", headers, ends=False)
        self.send_data(answer.body)
        self.flush()
        self._close()

    def _give_up(self) -> None:
        """What the client sends makes no sense: for its request, it has left."""
        self._close_transport()
        self._leave()

    # ---- time -------------------------------------------------------------------------------

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self.want_tick(self._deadline)

    def want_tick(self, at: float) -> None:
        """See `addons.policy.Wire`, as for all that follow."""
        self._tick.want(at)

    def _ticked(self) -> None:
        now = time.monotonic() + SLACK_SECONDS
        relay = self._relay
        if relay is not None and relay.deadline <= now:
            relay.tell(relay.expired)
            self._go_on()
        elif self._deadline <= now and not (self._is_congested and self._takes_more()):
            self._close()
            return
        relay = self._relay
        self.want_tick(min(self._deadline, relay.deadline if relay is not None else NEVER))

    def _takes_more(self) -> bool:
        """The client has taken some of its answer: it has longer for the rest, else none at all."""
        transport, before = self._transport, self._untaken_bytes
        if transport is None:
            return False
        self._untaken_bytes = transport.get_write_buffer_size()
        if self._untaken_bytes < before:
            self._set_deadline(self._door.policy.idle_timeout)
            return True
        transport.abort()
        return False

    # ---- the wire of the relay --------------------------------------------------------------

    def wait_for(self, step: Step) -> None:
        """Go on when the step has finished; the relay holds it until then."""
        step.add_done_callback(self._step_done)

    def _step_done(self, _step: Step) -> None:
        relay = self._relay
        if relay is not None:
            relay.tell(relay.step_done)
        self._go_on()

    def look(self, exchange: Exchange) -> View | None:
        """Nobody looks here."""
        return None

    def send_continue(self) -> None:
        """An interim answer."""
        self._out.append(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.flush()

    def send_head(self, status: int, reason: bytes, headers: Headers, *, ends: bool) -> None:
        """The head of the answer."""
        lines = [b"HTTP/1.1 %d %s" % (status, reason or reason_of(status))]
        self._is_chunked = False
        for name, value in headers:
            lines.append(name + b": " + value)
            if name == b"transfer-encoding":
                self._is_chunked = True
            elif name == b"connection":
                self._closes_after = True
        lines.append(b"\r\n")
        self._out.append(b"\r\n".join(lines))

    def send_data(self, data: bytes) -> None:
        """Some of the answer's body."""
        if self._is_chunked:
            self._out.append(b"%x\r\n%s\r\n" % (len(data), data))
        else:
            self._out.append(data)

    def send_end(self) -> None:
        """The end of the answer."""
        if self._is_chunked:
            self._out.append(b"0\r\n\r\n")

    def break_off(self, reason: str) -> None:
        """Close in the middle of the answer."""
        self.flush()
        self._is_gone = True
        self._close_transport()

    def flush(self) -> None:
        """Send what was written since: all that one event causes leaves in one packet."""
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            if self._transport is not None and not self._is_gone:
                self._transport.write(data)

    def connect(self, origin: Origin) -> None:
        """Take a connection that is kept, or make one."""
        relay = self._relay
        if relay is None:
            raise RuntimeError("nobody asked for a connection")
        connection = self._door.pool.take(origin)
        if connection is not None:
            self._connected(relay, connection)
            return
        # Owned: cancelled by `abandon_connect`, and its end is told by itself.
        task = asyncio.get_running_loop().create_task(self._connect(origin, relay))
        if not task.done():
            self._connecting = task

    async def _connect(self, origin: Origin, relay: Relay) -> None:
        try:
            connection = await self._door.pool.connect(origin)
            # It may have ended, or said something unasked, before this task had its turn.
            connection = connection if connection.is_open else None
        except (OSError, UnicodeError):  # the latter: no name server could be asked for such a name
            connection = None
        # Before it has waited, whoever called `connect` is still at it, and reads on by itself.
        has_waited = self._connecting is not None
        if relay is not self._relay or relay.phase is not Phase.CONNECT:
            if connection is not None:
                connection.close()
            return
        self._connecting = None
        if connection is None:
            relay.tell(relay.connect_failed)
        else:
            self._connected(relay, connection)
        if has_waited:
            self._go_on()

    def _connected(self, relay: Relay, connection: ProviderConnection) -> None:
        self._provider = connection
        connection.take(relay, self._go_on, self._door.pool.give_back)
        relay.tell(relay.connected)

    def abandon_connect(self) -> None:
        """Nobody waits for it any more."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None

    def send_request(self, exchange: Exchange, key_headers: Headers, body: bytes) -> None:
        """The whole request, to the provider."""
        if self._provider is not None:
            self._provider.send(exchange, key_headers, body)

    def has_sent_all(self) -> bool:
        """Nothing of the request waits to leave."""
        return self._provider is None or self._provider.has_sent_all

    def close_upstream(self) -> None:
        """The provider's connection has no further use."""
        if self._provider is not None:
            self._provider.close()

    def dropped(self) -> None:
        """The exchange is over: the next request may be read."""
        self._provider = None  # it may be another's by now: not to be held back for this client
        self.flush()
        self._relay = self._body = None
        if self._is_gone:
            self._end()
        elif self._closes_after:
            self._close()
        elif not (self._is_congested and self._takes_more()):
            self._set_deadline(KEEP_ALIVE_SECONDS)

    # ---- the end ----------------------------------------------------------------------------

    @property
    def is_resting(self) -> bool:
        """No request is under way, and nothing of the next one has come."""
        return self._relay is None and not self._buffer

    def leave(self) -> None:
        """Close it; what is still under way is dropped."""
        if self._provider is not None:
            self._provider.close()
        self._close()

    async def stop(self) -> None:
        """Break off what is under way, visibly; its row is written."""
        if (relay := self._relay) is not None:
            relay.tell(relay.expired)
            self._go_on()

    def _close(self) -> None:
        self._is_gone = True
        self._close_transport()
        self._end()

    def _close_transport(self) -> None:
        """Close when what was written has left; who does not take it is cut off."""
        transport = self._transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                loop = asyncio.get_running_loop()
                loop.call_later(self._door.policy.idle_timeout, transport.abort)

    def _end(self) -> None:
        """Neither client nor exchange is left."""
        self._tick.cancel()
        self._deadline = NEVER
        self._door.left(self)
