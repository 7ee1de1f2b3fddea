"""Where client connections come from and how they end: sockets shared with others, and the drain.

Several worker processes take connections from one listening socket, which their supervisor made
and keeps (`scripts.workers`). Against a socket for each (SO_REUSEPORT): nothing waits in the queue
of a process that is busy, stopping or dead, so a restart loses no connection that the kernel has
taken; and it is the same on macOS, where SO_REUSEPORT gives all to one.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy.mode_servers import ServerInstance

from addons.layer import GatewayLayer, ServerStops

# No file descriptors, no memory: asked again after this.
_PAUSE_SECONDS = 1.0
# How long a connection at rest may still bring a request when the process drains: closing it at
# once would cost the request that its client is just sending.
REST_SECONDS = 1.0
_LOOK_SECONDS = 0.02
# To write the last rows and answers of what is cut off.
_CUT_SECONDS = 2.0

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

logger = logging.getLogger("metrion.connections")


def serve_by(server: Proxyserver, mode: str) -> Serve:
    """What mitmproxy does with a connection, without a listener of its own."""
    instance: ServerInstance[Any] = ServerInstance.make(mode, server)
    return instance.handle_stream


class Acceptor:
    """Takes connections from listening sockets, one per turn of the event loop.

    One, so that of several at once each process gets some: asyncio's own server takes all that
    wait, and with them all that a burst of clients will ever send on these connections.

    Args:
        listeners: non-blocking, listening; closed by `stop`.
        serve: what is done with a connection.
    """

    def __init__(self, listeners: Iterable[socket.socket], serve: Serve) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners = list(listeners)
        self._serve = serve
        self._opening: set[asyncio.Task[None]] = set()
        for listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def stop(self) -> None:
        """Take no more; who waits in the queue is for the others who share it."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another process was faster, or the client has left
        except OSError as error:
            logger.warning("no connection can be taken: %s", error.strerror)
            self._loop.remove_reader(listener.fileno())
            self._loop.call_later(_PAUSE_SECONDS, self._resume, listener)
            return
        connection.setblocking(False)  # noqa: FBT003 - its own way of saying so
        # Owned: kept here until the connection has a handler, which asyncio keeps.
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    async def _open(self, connection: socket.socket) -> None:
        reader = asyncio.StreamReader(loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, self._serve, loop=self._loop)
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError:  # it was reset before it began
            connection.close()


async def drain(
    server: Proxyserver,
    layers: Mapping[str, GatewayLayer],
    seconds: float,
    refuse_all: Callable[[], None],
) -> None:
    """End all connections well: each when its requests are done and it rests, or after `seconds`.

    Args:
        server: has the connections.
        layers: ours, by the client's id; a connection without one has not sent a byte.
        seconds: what is under way then is cut off, visibly, and has its row.
        refuse_all: no request is taken from now on.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    rests_since: dict[object, float] = {}
    while server.connections and (now := clock()) < end:
        for client_id in list(server.connections):
            ours = layers.get(str(client_id))
            if ours is not None and not ours.is_resting:
                rests_since.pop(client_id, None)
            elif now - rests_since.setdefault(client_id, now) >= REST_SECONDS:
                _close(server, client_id)
        await asyncio.sleep(_LOOK_SECONDS)
    refuse_all()
    if any(not ours.is_resting for ours in layers.values()):
        logger.warning("requests were still under way when the time to drain was over")
        await _cut(server, layers)


def _close(server: Proxyserver, client_id: Any) -> None:
    handler = server.connections.get(client_id)
    transport = handler.transports.get(handler.client) if handler is not None else None
    if transport is not None and transport.handler is not None:
        transport.handler.cancel("the process ends")


async def _cut(server: Proxyserver, layers: Mapping[str, GatewayLayer]) -> None:
    """Break off what is under way; each has its row when this returns."""
    for client_id in list(layers):
        handler = server.connections.get(client_id)
        if handler is not None:
            await handler.server_event(ServerStops())
    try:
        async with asyncio.timeout(_CUT_SECONDS):
            for ours in list(layers.values()):
                await ours.is_empty.wait()
    except TimeoutError:
        logger.warning("a request could not be broken off")
