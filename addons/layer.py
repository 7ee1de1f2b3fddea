"""All requests of one client connection: streams, deadlines, connections to providers.

Installed through mitmproxy's public `next_layer` hook. The base class routes events between the
client's connection, the streams and the providers' connections; this one brings its own ends
(`addons.wire`), its own streams (`addons.stream`), deadlines, and its own rule for reusing a
provider's connection. One timer is outstanding per client connection, whatever the number of
deadlines.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import asyncio
import time
from dataclasses import dataclass
from typing import cast

from mitmproxy.connection import Connection, Server
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, events, layer, layers, tunnel
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpLayer,
    HTTPMode,
    RegisterHttpConnection,
)
from mitmproxy.proxy.layers.http._events import ErrorCode, RequestProtocolError
from mitmproxy.proxy.layers.http._http2 import Http2Server
from mitmproxy.proxy.layers.tls import ClientTLSLayer, ServerTLSLayer

from addons.policy import NEVER, Policy
from addons.stream import GatewayStream
from addons.waiting import Commands, DeadlineExpired
from addons.wire import GatewayHttp1Client, GatewayHttp1Server

# A kept connection that the provider closes at the very moment we write costs a request, so an old
# one is not used again. Providers keep idle connections for at least a minute.
REUSE_SECONDS = 20.0
# A timer that fires this much early is good enough: saves a second one.
TICK_SLACK_SECONDS = 0.002
# Writes of one event are joined up to this size.
JOIN_MAX_BYTES = 64 * 1024
HTTP1_ALPN = (b"http/1.1",)


@dataclass
class ServerStops(events.Event):
    """The process ends now: what is under way is broken off."""


class GatewayLayer(HttpLayer):
    """The HTTP layer of one client connection."""

    def __init__(self, context: Context, policy: Policy) -> None:
        super().__init__(context, HTTPMode.transparent)
        self.policy = policy
        self.has_started = False
        self.is_empty = asyncio.Event()
        self.is_empty.set()
        self._tick: commands.RequestWakeup | None = None
        self._tick_at = NEVER
        self._wanted_at = NEVER
        self._client_deadline = NEVER
        self._providers: dict[Server, GatewayHttp1Client] = {}

    def __repr__(self) -> str:
        return f"GatewayLayer(streams: {len(self.streams)})"

    # ---- events -----------------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> Commands:
        """Join the writes that one event causes: a head and its body leave in one packet."""
        pending: commands.SendData | None = None
        for command in self._handle_one(event):
            if pending is not None:
                if (
                    type(command) is commands.SendData
                    and command.connection is pending.connection
                    and len(pending.data) < JOIN_MAX_BYTES
                ):
                    pending = commands.SendData(pending.connection, pending.data + command.data)
                    continue
                yield pending
                pending = None
            if type(command) is commands.SendData:
                pending = command
            else:
                yield command
        if pending is not None:
            yield pending

    def _handle_one(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            self.has_started = True
            if self.context.client.alpn != b"h2":
                self.connections[self.context.client] = GatewayHttp1Server(
                    self.context.fork(), self.policy.malformed
                )
            yield from super()._handle_event(event)
        elif isinstance(event, events.Wakeup) and event.command not in self.command_sources:
            yield from self._tick_arrived(event)
        elif isinstance(event, ServerStops):
            for stream_id, stream in list(self.streams.items()):
                yield from self.event_to_child(stream, DeadlineExpired(stream_id))
        elif isinstance(event, events.ConnectionEvent) and not self._is_known(event.connection):
            return  # the last word of a connection that was given up
        else:
            yield from super()._handle_event(event)
            if (
                isinstance(event, events.ConnectionEvent)
                and event.connection is self.context.client
            ):
                yield from self._tell_who_left(event)
        self._watch_client()
        self._set_emptiness()
        yield from self._set_timer()

    def _tell_who_left(self, event: events.ConnectionEvent) -> Commands:
        """Tell streams that nobody waits for any more, and that mitmproxy has forgotten.

        It forgets a stream when its request ends and it is closed. Both are so at once if a reset
        came in the same segment: then it tells neither of that nor, later, of the client's end.
        """
        server = self.connections.get(self.context.client)
        is_over = isinstance(event, events.ConnectionClosed)
        for stream_id, stream in cast("dict[int, GatewayStream]", dict(self.streams)).items():
            is_reset = isinstance(server, Http2Server) and server.is_closed(stream_id)
            if (is_over or is_reset) and not stream.relay.has_left:
                left = RequestProtocolError(stream_id, "it left", ErrorCode.CLIENT_DISCONNECTED)
                yield from self.event_to_child(cast("layer.Layer", stream), left)

    def _is_known(self, connection: Connection) -> bool:
        return connection in self.connections

    @property
    def is_resting(self) -> bool:
        """No request is under way, and nothing of the next one has come."""
        server = self.connections.get(self.context.client)
        return not self.streams and (not isinstance(server, GatewayHttp1Server) or server.is_idle)

    def make_stream(self, stream_id: int) -> Commands:
        """One more request."""
        stream = GatewayStream(self.context.fork(), stream_id, self.policy, self)
        # The base class declares its own HttpStream here and only ever passes events to it.
        cast("dict[int, layer.Layer]", self.streams)[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def _set_emptiness(self) -> None:
        if self.streams:
            self.is_empty.clear()
        else:
            self.is_empty.set()

    # ---- deadlines --------------------------------------------------------------------------

    def want_tick(self, at: float) -> None:
        """Something has a deadline at `at`, in seconds of `time.monotonic`."""
        self._wanted_at = min(self._wanted_at, at)

    def _set_timer(self) -> Commands:
        if self._wanted_at < self._tick_at - TICK_SLACK_SECONDS:
            delay = max(0.0, self._wanted_at - time.monotonic())
            self._tick = commands.RequestWakeup(delay)
            self._tick_at = self._wanted_at
            yield self._tick
        self._wanted_at = NEVER

    def _tick_arrived(self, event: events.Wakeup) -> Commands:
        if event.command is self._tick:
            self._tick, self._tick_at = None, NEVER
        now = time.monotonic() + TICK_SLACK_SECONDS
        if self._client_deadline <= now:
            self._client_deadline = NEVER
            yield commands.CloseConnection(self.context.client)
            return
        self.want_tick(self._client_deadline)
        for stream in cast("list[GatewayStream]", list(self.streams.values())):
            if stream.deadline <= now:
                yield from self.event_to_child(stream, DeadlineExpired(stream.stream_id))
            self.want_tick(stream.deadline)

    def _watch_client(self) -> None:
        """Close clients that dribble a head (slow loris); kept connections may rest longer."""
        server = self.connections.get(self.context.client)
        if not isinstance(server, GatewayHttp1Server) or not server.is_reading_head:
            self._client_deadline = NEVER
        elif server.is_idle:
            self._client_deadline = NEVER  # mitmproxy's own watchdog ends it (10 minutes)
        elif self._client_deadline == NEVER:
            self._client_deadline = time.monotonic() + self.policy.idle_timeout
            self.want_tick(self._client_deadline)

    # ---- connections to providers -----------------------------------------------------------

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> Commands:
        """Give a stream a connection to its provider: an idle one, or a new one.

        HTTP/1.1 only, one request at a time: framing stays in one place, and a provider's
        connection error touches one request. `reuse` belongs to the base class's signature.
        """
        for server, end in list(self._providers.items()):
            if server in self.waiting_for_establishment:
                continue
            if not server.connected:
                self._forget(server)
            elif event.connection_spec_matches(server) and end.is_idle:
                if time.monotonic() - end.idle_since < REUSE_SECONDS:
                    stream = self.command_sources.pop(event)
                    reply = GetHttpConnectionCompleted(event, (server, None))
                    yield from self.event_to_child(stream, reply)
                    return
                self._forget(server)
                yield commands.CloseConnection(server)
        yield from self._open(event)

    def _forget(self, server: Server) -> None:
        """Whatever this connection still says concerns nobody."""
        self._providers.pop(server, None)
        self.connections.pop(server, None)

    def _open(self, event: GetHttpConnection) -> Commands:
        context = self.context.fork()
        server = context.server = Server(address=event.address)
        server.alpn_offers = HTTP1_ALPN
        stack = tunnel.LayerStack()
        if event.tls:
            server.sni = event.address[0]
            stack /= ServerTLSLayer(context)
        connector = _Connector(context)
        stack /= connector
        self._providers[server] = connector.end
        self.connections[server] = stack[0]
        self.waiting_for_establishment[server].append(event)
        yield from self.event_to_child(stack[0], events.Start())

    def register_connection(self, command: RegisterHttpConnection) -> Commands:
        """A connect has ended, well or not; a failed one is forgotten, so that it is retried."""
        if command.err:
            self._forget(cast("Server", command.connection))
        if command.connection in self.waiting_for_establishment:
            yield from super().register_connection(command)

    def abandon(self, command: GetHttpConnection) -> Commands:
        """The stream no longer waits for this connection: stop the connect."""
        self.command_sources.pop(command, None)
        for server, waiting in list(self.waiting_for_establishment.items()):
            if command in waiting:
                del self.waiting_for_establishment[server]
                self._forget(cast("Server", server))
                yield commands.CloseConnection(server)


class _Connector(layer.Layer):
    """Opens the connection, then hands everything to its HTTP end."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.end = GatewayHttp1Client(context)

    def _handle_event(self, event: events.Event) -> Commands:
        error = yield commands.OpenConnection(self.context.server)
        if not error:
            self._handle_event = self.end.handle_event
            yield from self.end.handle_event(event)
        yield RegisterHttpConnection(self.context.server, error)


class _ClientTLS(ClientTLSLayer):
    """TLS with the client. What is none is not logged: mitmproxy would quote it whole, in hex."""

    def on_handshake_error(self, err: str) -> Commands:
        """The connection ends before its first request."""
        what, _, _ = err.partition("Cannot parse ClientHello: ")
        yield from super().on_handshake_error(what or "this is not TLS")


class _Closed(layer.Layer):
    """Closes a connection that no layer of ours serves."""

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


def closed_layer(context: Context) -> layer.Layer:
    """A layer that closes the client's connection and does nothing else."""
    return _Closed(context)


def gateway_layer(next_layer: layer.NextLayer, policy: Policy) -> GatewayLayer | None:
    """Make our layer the one of a new client connection.

    Args:
        next_layer: of mitmproxy's hook of the same name.
        policy: the gateway.

    Returns:
        The layer, or None where the hook is about something else than a fresh client connection.
    """
    context = next_layer.context
    is_fresh = len(context.layers) == 1 and isinstance(context.layers[0], layers.modes.ReverseProxy)
    if not is_fresh or next_layer.layer is not None:
        return None
    stack = tunnel.LayerStack()
    if starts_like_tls_record(next_layer.data_client()):
        stack /= _ClientTLS(context)
    ours = GatewayLayer(context, policy)
    stack /= ours
    next_layer.layer = stack[0]
    return ours
