"""The proxy as it serves plain HTTP, but without mitmproxy, whose start takes valgrind too long.

Everything on a request's way is what production has: the wire, the gateway, journal and recorder.
What goes by time and not by requests is left out: the heartbeat of the listener for changes, twice
a second, and the collection of garbage, which goes through everything once in a while. Under
valgrind a request takes so long that they would be most of what is counted.
"""

import argparse
import asyncio
import gc
import ssl
import sys

from addons.direct.server import DirectServer
from addons.service import Service
from scripts.ports import HOST
from storage import invalidation
from storage.settings import Settings

_NEVER_SECONDS = 86_400.0


async def serve(port: int) -> None:
    """Serve until killed."""
    service = Service(Settings.load())
    server = DirectServer(service.gateway, ssl.create_default_context(), _refuse_tls, lambda: True)
    gc.disable()
    for name in ("HEARTBEAT_SECONDS", "LEASE_SECONDS"):
        setattr(invalidation, name, _NEVER_SECONDS)
    await service.start()
    await server.start(HOST, port)
    service.start_recorder()
    await asyncio.Event().wait()


async def _refuse_tls(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def main(arguments: list[str] | None = None) -> int:
    """Serve on a port; never returns by itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args(arguments).port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
