"""mitmproxy, for the clients of a production proxy that speak TLS, and HTTP/2 over it.

Apart from `addons.production`, which imports this when the first of them comes: mitmproxy takes
0.9 s and 50 MB, and behind a balancer that ends TLS nobody ever needs it.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path

from mitmproxy import options
from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.certs import CertStore
from mitmproxy.master import Master
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.mode_servers import ServerInstance

from addons.connections import CUT_SECONDS, Held
from addons.flow_clients import FlowClients, install
from addons.log_redaction import redact_logs
from addons.policy import Policy

_MODE = "reverse:http://metrion.invalid"
_LOOK_SECONDS = 0.02


def prepare(folder: Path) -> None:
    """Make the authority that signs our certificate, unless it is there; takes up to a second.

    Args:
        folder: where it is kept; of several processes that need it at once, one makes it.
    """
    # Connects, disconnects and "streaming" lines of every request: nobody reads them.
    logging.getLogger("mitmproxy.proxy.server").setLevel(logging.WARNING)
    redact_logs()
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        CertStore.from_store(folder, "mitmproxy", options.KEY_SIZE)
    finally:
        os.close(descriptor)


class TlsServer:
    """A mitmproxy without a listener: it is handed connections. Nobody looks at its flows.

    Args:
        policy: the gateway.
        folder: with the authority; `prepare` was there.
        trusted: a file with who may sign certificates of providers.
        may_come: whether there is room for one more client.
    """

    def __init__(
        self, policy: Policy, folder: Path, trusted: str, may_come: Callable[[], bool]
    ) -> None:
        self._master = Master(options.Options())
        server = Proxyserver()
        # Of its forty addons, those that a connection needs: the others are about flows.
        self._master.addons.add(server, NextLayer(), TlsConfig())
        self._hooks = FlowClients(may_come)
        self._hooks.policy = policy
        install(self._master, self._hooks)
        self._master.options.update(
            mode=[_MODE],
            server=False,
            connection_strategy="lazy",  # there is nothing to connect to
            confdir=str(folder),
            ssl_verify_upstream_trusted_ca=trusted,
        )
        self._instance = ServerInstance.make(mode_specs.ProxyMode.parse(_MODE), server)
        # Owned: ended by `close`.
        self._running = asyncio.get_running_loop().create_task(self._master.run())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it has left."""
        await self._instance.handle_stream(reader, writer)

    @property
    def clients(self) -> int:
        """How many clients there are."""
        return self._hooks.clients

    def held(self) -> dict[str, Held]:
        """Their connections."""
        return self._hooks.held()

    async def close(self) -> None:
        """End it, with the clients that are left."""
        for client in self.held().values():
            client.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CUT_SECONDS):
                while self.held():  # noqa: ASYNC110 - mitmproxy has no event for it
                    await asyncio.sleep(_LOOK_SECONDS)
        self._master.shutdown()
        await self._running
