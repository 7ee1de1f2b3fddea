"""The proxy's process: `python -m scripts.proxy --port 8080`.

mitmproxy with our addon and without what watches files or prints flows: nothing is reloaded, and
nobody looks at traffic. SIGTERM and SIGINT drain: no new connections, those that are there are
closed after their answers, requests under way are finished for up to `--drain-seconds` and then
broken off, rows go to disk and, if it can, to the database. `--workers N` keeps N such processes
on one port.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from typing import Never

from mitmproxy import options
from mitmproxy.tools.dump import DumpMaster

from addons.addon import MetrionAddon, install
from addons.fellow_workers import Fellows
from addons.service import Service
from scripts.ports import HOST
from storage.core_dumps import forbid_core_dumps
from storage.errors import SettingsError, StorageError
from storage.json_logs import log_as_json
from storage.settings import Settings

CLOSED_MODE = "reverse:http://metrion.invalid"
_CANNOT_START = 2

logger = logging.getLogger("metrion.proxy")


async def serve(settings: Settings, service: Service, chosen: argparse.Namespace) -> None:
    """Serve until a signal; an addon that cannot start ends the process with exit code 1."""
    master = DumpMaster(options.Options(), with_termlog=False, with_dumper=False)
    # said to be TCP: else asyncio, on macOS, lets small answers wait for 40 ms
    listeners = [socket.socket(proto=socket.IPPROTO_TCP, fileno=n) for n in chosen.listeners]
    addon = MetrionAddon(lambda: service, is_observed=False, listeners=listeners)
    install(master, addon)
    master.options.update(
        mode=[CLOSED_MODE],
        server=False,
        listen_host=chosen.host,
        listen_port=chosen.port,
        confdir=str(settings.data_dir / "mitmproxy"),
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(master.run())
        await stop.wait()
        await addon.drain(chosen.drain_seconds)
        master.shutdown()
    await service.close()


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end. Returns the exit code."""
    chosen = _parse(arguments)
    log_as_json(sys.stderr)
    forbid_core_dumps()
    # Connects, disconnects and "streaming" lines of every request: nobody reads them.
    logging.getLogger("mitmproxy.proxy.server").setLevel(logging.WARNING)
    try:
        settings = Settings.load()
        if chosen.workers > 1:
            _become_workers(settings, chosen)
        fellows = Fellows(chosen.worker, chosen.worker_ports) if chosen.worker else None
        service = Service(settings, fellows)
    except StorageError as error:
        print(f"metrion proxy: {error}", file=sys.stderr)
        return _CANNOT_START
    asyncio.run(serve(settings, service, chosen))
    return 0


def _become_workers(settings: Settings, chosen: argparse.Namespace) -> Never:
    """Become their supervisor, which without mitmproxy takes a third of the memory.

    Raises:
        SettingsError: they could not count together.
    """
    if settings.valkey_url is None:
        raise SettingsError(
            "--workers: several processes count together what a token may send, in a Valkey: set "
            "METRION_VALKEY_URL (redis://host:6379/0), or start one"
        )
    given = ("host", "port", "workers", "drain_seconds")
    arguments = [f"--{name.replace('_', '-')}={getattr(chosen, name)}" for name in given]
    command = [sys.executable, "-P", "-m", "scripts.workers", *arguments]
    os.execv(sys.executable, command)  # noqa: S606 - this very program


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.proxy", description=__doc__)
    parser.add_argument("--host", default=HOST, help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on")
    parser.add_argument("--workers", type=int, default=1, help="processes on this port")
    parser.add_argument(
        "--drain-seconds", type=float, default=10.0, help="time for requests under way at the end"
    )
    # What `scripts.workers` tells each of several.
    hidden = argparse.SUPPRESS
    parser.add_argument("--worker", type=int, default=0, help=hidden)
    parser.add_argument("--listeners", type=_numbers, default=[], help=hidden)
    parser.add_argument("--worker-ports", type=_numbers, default=[], help=hidden)
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
