"""Clients whose connections mitmproxy holds: how they come, get our layer, and end.

All of them where somebody looks at flows (`addons.addon`), else those that speak TLS
(`addons.tls_server`).
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import asyncio
import collections
import logging
from collections.abc import Callable
from typing import cast

from mitmproxy import ctx, http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client, Connection
from mitmproxy.log import ALERT
from mitmproxy.master import Master
from mitmproxy.proxy import layer
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.connections import CUT_SECONDS, Held
from addons.inspection import MARK
from addons.layer import GatewayLayer, ServerStops, closed_layer, gateway_layer
from addons.policy import Policy
from addons.waiting import MetrionStepHook

logger = logging.getLogger("metrion")

# HTTP/2 clients may have 100 requests under way; mitmproxy's own bound is 5 connections per target.
MAX_CONNECTIONS_PER_CLIENT = 128
NO_REPLAY = "Metrion replays nothing: a saved flow has no credentials"


class FlowClient:
    """A connection that mitmproxy holds.

    Args:
        server: mitmproxy's.
        client_id: of the connection.
        ours: its layer; None: it has not sent a byte.
    """

    def __init__(self, server: Proxyserver, client_id: str, ours: GatewayLayer | None) -> None:
        self._server = server
        self._client_id = client_id
        self._ours = ours

    @property
    def is_resting(self) -> bool:
        """No request is under way, and nothing of the next one has come."""
        return self._ours is None or self._ours.is_resting

    def leave(self) -> None:
        """Close it: it rests."""
        handler = self._server.connections.get(self._client_id)
        transport = handler.transports.get(handler.client) if handler is not None else None
        task = transport.handler if transport is not None else None
        if task is not None and not task.cancelling():  # twice is too often, see `closed`
            task.cancel("the process ends")

    async def stop(self) -> None:
        """Break off what is under way, visibly; its row is written."""
        handler = self._server.connections.get(self._client_id)
        if handler is not None:
            await handler.server_event(ServerStops())


async def closed(server: Proxyserver, client_id: str) -> None:
    """Wait until the connections of a client that are being closed are closed.

    mitmproxy closes one by cancelling its task, and cancels all of a client that has left: a task
    that is cancelled twice leaves its socket to the garbage collector.
    """
    handler = server.connections.get(client_id)
    transports = handler.transports.values() if handler is not None else ()
    tasks = [each.handler for each in transports if each.handler and each.handler.cancelling()]
    if tasks:
        await asyncio.wait(tasks, timeout=CUT_SECONDS)
    if handler is not None:
        close_socket(server, client_id, handler.client)


def close_socket(server: Proxyserver, client_id: str, connection: Connection) -> None:
    """Close a connection that has ended, if mitmproxy has not.

    A task that is cancelled while it waits its turn to tell of what it has read ends without that.
    """
    handler = server.connections.get(client_id)
    io = handler.transports.get(connection) if handler is not None else None
    if io is not None and isinstance(io.writer, asyncio.StreamWriter):
        io.writer.close()


class FlowClients:
    """mitmproxy's hooks that are about connections, and about flows that are not ours.

    Args:
        may_come: whether there is room for one more client.

    Attributes:
        policy: the gateway; None until it is ready.
    """

    def __init__(self, may_come: Callable[[], bool]) -> None:
        self.policy: Policy | None = None
        self._may_come = may_come
        self._layers: dict[str, GatewayLayer] = {}

    @property
    def clients(self) -> int:
        """How many clients there are."""
        return len(self._layers)

    def held(self) -> dict[str, Held]:
        """Their connections."""
        server = proxy_server()
        return {
            client_id: FlowClient(server, client_id, self._layers.get(client_id))
            for client_id in server.connections
            if isinstance(client_id, str)
        }

    # ---- connections ------------------------------------------------------------------------

    def client_connected(self, client: Client) -> None:
        """Bound the number of clients, and raise the bound on each one's connections."""
        if not self._may_come():
            client.error = "too many connections"
            return
        handler = proxy_server().connections.get(client.id)
        if handler is not None:
            handler.max_conns = collections.defaultdict(
                lambda: asyncio.Semaphore(MAX_CONNECTIONS_PER_CLIENT)
            )
        if self.policy is not None:
            seconds = self.policy.idle_timeout
            asyncio.get_running_loop().call_later(seconds, self._close_if_silent, client)

    def _close_if_silent(self, client: Client) -> None:
        """A client that has not come as far as HTTP (no byte, or half a TLS handshake) is closed.

        From there on the layer watches it; mitmproxy alone would wait for ten minutes.
        """
        ours = self._layers.get(client.id)
        handler = proxy_server().connections.get(client.id)
        if handler is not None and (ours is None or not ours.has_started):
            transport = handler.transports.get(client)
            if transport is not None and transport.handler is not None:
                transport.handler.cancel("no request came")

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Put our layer on the connection; if that fails in any way, close it."""
        context = nextlayer.context
        try:
            ours = gateway_layer(nextlayer, self.policy) if self.policy else None
        except Exception:
            logger.exception("a connection could not be set up")
            ours = None
        if ours is None:
            nextlayer.layer = closed_layer(context)
        else:
            self._layers[context.client.id] = ours

    async def client_disconnected(self, client: Client) -> None:
        """Hold the providers' connections open while answers are read to their end.

        mitmproxy closes them when this hook returns (`proxy/server.py`, `handle_client`).
        """
        ours = self._layers.get(client.id)
        if ours is None or self.policy is None:
            return
        try:
            async with asyncio.timeout(self.policy.drain_seconds):
                await ours.is_empty.wait()
        except TimeoutError:
            logger.info("an answer was not read to its end: its client had left")
        finally:
            del self._layers[client.id]
            await closed(proxy_server(), client.id)

    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        """See that the provider's socket is closed."""
        close_socket(proxy_server(), data.client.id, data.server)

    async def metrion_step(self, step: "asyncio.Task[object]") -> None:
        """Wait for a step of the gateway (see `MetrionStepHook`)."""
        await asyncio.wait([step])

    # ---- what did not come through our layer ------------------------------------------------

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Kill a flow that is not ours: it would be forwarded without any check.

        A replayed one still has our mark: it was ours when it was recorded. One that is read from a
        file to be looked at (`-r`) is not live and goes nowhere.
        """
        if not flow.killable:
            return
        if flow.is_replay:
            logger.log(ALERT, "%s; send the request again", NO_REPLAY)
            flow.comment = f"not replayed · {flow.comment}"
        if flow.is_replay or MARK not in flow.metadata:
            flow.kill()

    def request(self, flow: http.HTTPFlow) -> None:
        """As `requestheaders`: replays of whole requests start here."""
        self.requestheaders(flow)


def install(master: Master, clients: FlowClients) -> None:
    """Add the hooks where they have to stand: before NextLayer (the first to answer wins).

    Scripts (`-s`) stand there by themselves.
    """
    master.addons.register(clients)
    master.addons.chain.insert(0, clients)


def proxy_server() -> Proxyserver:
    """The addon that has mitmproxy's listeners and connections."""
    return cast("Proxyserver", ctx.master.addons.get("proxyserver"))


assert MetrionStepHook.name == "metrion_step"  # noqa: S101 - the hook above is found by this name
