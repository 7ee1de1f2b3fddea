"""The proxy as it serves plain HTTP, but without mitmproxy, whose start takes valgrind too long.

Everything on a request's way is what production has: the wire, the gateway, journal and recorder.
Garbage is not collected: of some dozen requests, one more or less would meet with a collection that
goes through everything, and cost as much as all of them.
"""

import argparse
import asyncio
import gc
import ssl
import sys

from addons.direct.server import DirectServer
from addons.service import Service
from scripts.ports import HOST
from storage.settings import Settings


async def serve(port: int) -> None:
    """Serve until killed."""
    service = Service(Settings.load())
    await service.start()
    server = DirectServer(service.gateway, ssl.create_default_context(), _refuse_tls, lambda: True)
    gc.disable()
    await server.start(HOST, port)
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
