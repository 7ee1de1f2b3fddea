"""The proxy's process: `python -m scripts.proxy --port 8080`.

mitmproxy with our addon and without what watches files or prints flows: nothing is reloaded, and
nobody looks at traffic. SIGTERM and SIGINT drain: no new connections, requests under way are
finished for up to `--drain-seconds`, rows go to disk and, if it can, to the database.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false

import argparse
import asyncio
import logging
import signal
import sys

from mitmproxy import options
from mitmproxy.tools.dump import DumpMaster

from addons.addon import MetrionAddon, install
from addons.service import Service
from storage.errors import StorageError
from storage.json_logs import log_as_json
from storage.settings import Settings

CLOSED_MODE = "reverse:http://metrion.invalid"
_CANNOT_START = 2

logger = logging.getLogger("metrion.proxy")


async def serve(settings: Settings, service: Service, host: str, port: int, drain: float) -> None:
    """Serve until a signal; an addon that cannot start ends the process with exit code 1."""
    master = DumpMaster(options.Options(), with_termlog=False, with_dumper=False)
    addon = MetrionAddon(lambda: service, is_observed=False)
    install(master, addon)
    master.options.update(
        mode=[CLOSED_MODE],
        server=False,
        listen_host=host,
        listen_port=port,
        confdir=str(settings.data_dir / "mitmproxy"),
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(master.run())
        await stop.wait()
        await addon.drain(drain)
        master.shutdown()
    await service.close()


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.proxy", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on")
    parser.add_argument(
        "--drain-seconds", type=float, default=10.0, help="time for requests under way at the end"
    )
    chosen = parser.parse_args(arguments)
    log_as_json(sys.stderr)
    # Connects, disconnects and "streaming" lines of every request: nobody reads them.
    logging.getLogger("mitmproxy.proxy.server").setLevel(logging.WARNING)
    try:
        settings = Settings.load()
        service = Service(settings)
    except StorageError as error:
        print(f"metrion proxy: {error}", file=sys.stderr)
        return _CANNOT_START
    asyncio.run(serve(settings, service, chosen.host, chosen.port, chosen.drain_seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
