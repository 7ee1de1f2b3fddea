"""Who serves clients: plain HTTP/1 is served here, TLS is handed to mitmproxy."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from addons.direct.client import ClientConnection
from addons.direct.provider import ProviderPool
from addons.policy import Policy

HandOver = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class DirectServer:
    """Clients of one process.

    Args:
        policy: the gateway.
        tls: how providers' certificates are checked.
        hand_over: serves a client that speaks TLS.
        may_come: whether there is room for one more client.
    """

    def __init__(
        self,
        policy: Policy,
        tls: ssl.SSLContext,
        hand_over: HandOver,
        may_come: Callable[[], bool],
    ) -> None:
        self.policy = policy
        self.pool = ProviderPool(tls)
        self._hand_over = hand_over
        self._may_come = may_come
        self._clients: set[ClientConnection] = set()
        self._handed_over: set[asyncio.Task[None]] = set()

    def client(self) -> ClientConnection:
        """What serves a connection that has come in."""
        return ClientConnection(self)

    def held(self) -> dict[str, ClientConnection]:
        """The clients, each by a name that none gets again."""
        return {client.name: client for client in self._clients}

    def close(self) -> None:
        """Close everything at once."""
        for client in list(self._clients):
            client.leave()
        self.pool.close()

    @property
    def clients(self) -> int:
        """How many clients there are."""
        return len(self._clients)

    # ---- the door of the clients ------------------------------------------------------------

    def came(self, client: ClientConnection) -> bool:
        """One more client; False if there are too many."""
        if not self._may_come():
            return False
        self._clients.add(client)
        return True

    def left(self, client: ClientConnection) -> None:
        """A client and its last exchange are gone."""
        self._clients.discard(client)

    def hand_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """Give a client that speaks TLS to mitmproxy, as if it had come there."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        reader.feed_data(data)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        task = loop.create_task(_serve(self._hand_over, reader, writer))
        self._handed_over.add(task)
        task.add_done_callback(self._handed_over.discard)


async def _serve(
    hand_over: HandOver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await hand_over(reader, writer)
