"""The production proxy without what goes by time and not by requests.

Left out are the heartbeat of the listener for changes, twice a second, and the collection of
garbage, which goes through everything once in a while. Under valgrind a request takes so long that
they would be most of what is counted.
"""

import argparse
import asyncio
import gc
import sys

import certifi

from addons.event_loop import EventLoop
from addons.production import ProductionProxy
from addons.service import Service
from scripts.ports import HOST
from storage import invalidation
from storage.settings import Settings

_NEVER_SECONDS = 86_400.0


async def serve(port: int) -> None:
    """Serve until killed."""
    settings = Settings.load()
    proxy = ProductionProxy(Service(settings), settings.data_dir / "mitmproxy", certifi.where())
    gc.disable()
    for name in ("HEARTBEAT_SECONDS", "LEASE_SECONDS"):
        setattr(invalidation, name, _NEVER_SECONDS)
    await proxy.start()
    proxy.listen(HOST, port)
    await asyncio.Event().wait()


def main(arguments: list[str] | None = None) -> int:
    """Serve on a port; never returns by itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args(arguments).port), loop_factory=EventLoop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
