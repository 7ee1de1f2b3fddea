"""Where client connections come from and how they end: sockets shared with others, and the drain.

Several worker processes take connections from one listening socket, which their supervisor made
and keeps (`scripts.workers`). Against a socket for each (SO_REUSEPORT):

- Nothing waits in the queue of a process that is busy, stopping or dead. Of 40 connections that
  clients had made when one of two listeners was closed, 25 were reset; of a shared one, none.
- Each gets its share: of 64 connections at once, the busiest of four processes has 1.2 times its
  share, as with SO_REUSEPORT (1.2 to 1.6), and one that is busy with streams gets less.
- It is the same on macOS, where SO_REUSEPORT gives all connections to one.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

MAX_CLIENTS = 4096
# What waits at mitmproxy's listener when it is to be closed is taken before: select, accept,
# transport.
TURNS_TO_ACCEPT = 3
_BACKLOG = 1024
# No file descriptors, no memory: asked again after this.
_PAUSE_SECONDS = 1.0
# Who has taken a connection leaves the next one to the others for as long.
_TURN_SECONDS = 0.001
# How long a connection at rest may still bring a request when the process drains: closing it at
# once would cost the request that its client is just sending.
REST_SECONDS = 1.0
_LOOK_SECONDS = 0.02
# To write the last rows and answers of what is cut off.
CUT_SECONDS = 2.0

logger = logging.getLogger("metrion.connections")


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens and that nobody else has.

    Raises:
        OSError: the port is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listener.setblocking(False)  # noqa: FBT003 - its own way of saying so
    return listener


class Acceptor:
    """Takes connections from listening sockets.

    Of those that are shared one, and the next a moment later, so that of several at once each
    process gets some: asyncio's own server takes all that wait (2.3 times its share, up to 3), and
    with them all that a burst of clients will ever send on these connections.

    uvloop's server is no choice either: it takes one in a turn, so that of 40 that waited when it
    was closed 37 were reset, and without file descriptors it closes who comes and says nothing.

    Args:
        listeners: non-blocking, listening; closed by `stop`.
        client: makes what serves a connection.
        are_shared: other processes take connections from them, too.
    """

    def __init__(
        self,
        listeners: Iterable[socket.socket],
        client: Callable[[], asyncio.Protocol],
        *,
        are_shared: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners = list(listeners)
        self._client = client
        self._are_shared = are_shared
        self._opening: set[asyncio.Task[None]] = set()
        for listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    async def stop(self) -> None:
        """Take no more; who waits in the queue is for the others who share it, if any do."""
        for listener in self._listeners:
            if not self._are_shared:
                self._accept(listener)
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()
        if self._opening:
            await asyncio.wait(self._opening)

    def _accept(self, listener: socket.socket) -> None:
        if self._are_shared:
            if self._take(listener):
                self._rest(listener, _TURN_SECONDS)
        else:
            for _ in range(_BACKLOG):
                if not self._take(listener):
                    break

    def _take(self, listener: socket.socket) -> bool:
        """Take the next connection; False if there is none."""
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # another process was faster, or the client has left
        except OSError as error:
            logger.warning("no connection can be taken: %s", error.strerror)
            self._rest(listener, _PAUSE_SECONDS)
            return False
        connection.setblocking(False)  # noqa: FBT003 - its own way of saying so
        # Owned: kept here until the connection has its protocol, which asyncio keeps.
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    def _rest(self, listener: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listener.fileno())
        self._loop.call_later(seconds, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._client, connection)
        except OSError:  # it was reset before it began
            connection.close()


class Held(Protocol):
    """A client's connection, of either wire."""

    @property
    def is_resting(self) -> bool:
        """No request is under way, and nothing of the next one has come."""
        ...

    def leave(self) -> None:
        """Close it: it rests."""
        ...

    async def stop(self) -> None:
        """Break off what is under way, visibly; its row is written."""
        ...


async def drain(
    held: Callable[[], Mapping[str, Held]], seconds: float, refuse_all: Callable[[], None]
) -> None:
    """End all connections well: each when its requests are done and it rests, or after `seconds`.

    Args:
        held: the connections that there are, by a name that none gets again.
        seconds: what is under way then is cut off, visibly, and has its row.
        refuse_all: no request is taken from now on.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    rests_since: dict[str, float] = {}
    while (connections := held()) and (now := clock()) < end:
        for name, connection in connections.items():
            if not connection.is_resting:
                rests_since.pop(name, None)
            elif now - rests_since.setdefault(name, now) >= REST_SECONDS:
                connection.leave()
        await asyncio.sleep(_LOOK_SECONDS)
    refuse_all()
    busy = [each for each in held().values() if not each.is_resting]
    if busy:
        logger.warning("requests were still under way when the time to drain was over")
        for connection in busy:
            await connection.stop()
        try:
            async with asyncio.timeout(CUT_SECONDS):
                while any(not each.is_resting for each in busy):  # noqa: ASYNC110 - two wires
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            logger.warning("a request could not be broken off")
