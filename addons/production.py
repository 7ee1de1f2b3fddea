"""The proxy where nobody looks at flows: everything on the way of a request is ours.

Clients that speak plain HTTP are served by `addons.direct`. The first that speaks TLS has mitmproxy
loaded, by a thread, so that the others do not wait; it and who comes meanwhile wait a second.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addons.connections import MAX_CLIENTS, Acceptor, Held, drain, open_listener
from addons.direct.server import DirectServer
from addons.service import Service

if TYPE_CHECKING:
    from addons.tls_server import TlsServer

logger = logging.getLogger("metrion")


class ProductionProxy:
    """One process's proxy.

    Args:
        service: not started yet.
        folder: for the authority that signs our certificate (see `addons.tls_server`).
        trusted: a file with who may sign certificates of providers.
    """

    def __init__(self, service: Service, folder: Path, trusted: str) -> None:
        self._service = service
        self._folder = folder
        self._trusted = trusted
        tls = ssl.create_default_context(cafile=trusted)
        tls.set_alpn_protocols(["http/1.1"])
        self._direct = DirectServer(service.gateway, tls, self._serve_tls, self._may_come)
        self._listeners: Sequence[socket.socket] = ()
        self._acceptor: Acceptor | None = None
        # Owned: ended by `close`.
        self._loading: asyncio.Task[TlsServer] | None = None
        self._tls: TlsServer | None = None
        self._waiting: dict[str, _Waiting] = {}

    async def start(self) -> None:
        """Make ready what requests need."""
        asyncio.get_running_loop().set_exception_handler(_say_unhandled)
        await self._service.start()

    def listen(self, host: str, port: int, listeners: Sequence[socket.socket] = ()) -> None:
        """Take clients from now on.

        Args:
            host: the address to listen on.
            port: the port to listen on.
            listeners: sockets to take connections from, instead of one of its own.

        Raises:
            OSError: the port is taken or not allowed.
        """
        self._listeners = listeners or [open_listener(host, port)]
        are_shared = bool(listeners)
        self._acceptor = Acceptor(self._listeners, self._direct.client, are_shared=are_shared)
        self._service.start_recorder()

    def listen_addrs(self) -> list[tuple[str, int]]:
        """Where clients can come in."""
        return [each.getsockname()[:2] for each in self._listeners]

    @property
    def clients(self) -> int:
        """How many clients there are."""
        others = self._tls.clients if self._tls is not None else 0
        return self._direct.clients + len(self._waiting) + others

    def _may_come(self) -> bool:
        return self.clients < MAX_CLIENTS

    def _held(self) -> dict[str, Held]:
        """All connections of clients, whoever serves them."""
        others = self._tls.held() if self._tls is not None else {}
        return {**self._direct.held(), **self._waiting, **others}

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, and let what is under way finish.

        Args:
            seconds: how long that may take.
        """
        gateway = self._service.gateway
        gateway.is_draining = True
        if self._acceptor is not None:
            await self._acceptor.stop()

        def refuse_all() -> None:
            gateway.is_stopping = True

        await drain(self._held, seconds, refuse_all)
        self._direct.close()

    async def close(self) -> None:
        """Close everything, and the service: what is recorded goes to disk and to the database."""
        if self._acceptor is not None:
            await self._acceptor.stop()
        self._direct.close()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        if self._tls is not None:
            await self._tls.close()
        await self._service.close()

    # ---- clients that speak TLS -------------------------------------------------------------

    async def _serve_tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = self._tls or await self._load(writer)
        if tls is None:
            writer.close()
        else:
            await tls.serve(reader, writer)

    async def _load(self, writer: asyncio.StreamWriter) -> "TlsServer | None":
        """Wait with others until mitmproxy is loaded; None: failed, or the client must go."""
        if not self._may_come():
            return None
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._start_tls())
        loading = self._loading
        waiting = _Waiting(writer)
        self._waiting[waiting.name] = waiting
        try:
            await asyncio.wait([loading])
        finally:
            del self._waiting[waiting.name]
        if loading.cancelled() or writer.is_closing():
            return None
        if error := loading.exception():
            if self._loading is loading:  # the next client has it tried again
                self._loading = None
                logger.error("TLS cannot be served", exc_info=error)
            return None
        return loading.result()

    async def _start_tls(self) -> "TlsServer":
        make = await asyncio.to_thread(_prepared, self._folder)
        self._tls = make(self._service.gateway, self._folder, self._trusted, self._may_come)
        return self._tls


def _prepared(folder: Path) -> "type[TlsServer]":
    from addons import tls_server  # noqa: PLC0415 - large; see its docstring

    tls_server.prepare(folder)
    return tls_server.TlsServer


class _Waiting:
    """A client that has said the first word of TLS."""

    is_resting = True

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.name = f"waiting {id(self)}"
        self._writer = writer

    def leave(self) -> None:
        """Close it: nothing of a request has come."""
        self._writer.close()

    async def stop(self) -> None:
        """Nothing is under way."""


def _say_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody has caught, without what asyncio would quote: it may be anybody's data."""
    message = context.get("message", "Unhandled exception in event loop")  # uvloop may give none
    logger.error("%s", message, exc_info=context.get("exception"))
