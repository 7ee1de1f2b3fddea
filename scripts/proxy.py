"""The proxy's process: `python -m scripts.proxy --port 8080`.

Nothing is reloaded, and nobody looks at traffic: `addons.production` serves. SIGTERM and SIGINT
drain: no new connections, those that are there are closed after their answers, requests under way
are finished for up to `--drain-seconds` and then broken off, rows go to disk and, if it can, to the
database. `--workers N` keeps N such processes on one port.

It starts in half of the time that it once took because it does not import what it does not need to
listen (tests/scripts/test_proxy.py has the list): SQLAlchemy, mitmproxy, the catalogue of prices.
"""

import argparse
import asyncio
import os
import resource
import signal
import socket
import sys
from typing import Never

import certifi

from addons.connections import MAX_CLIENTS
from addons.event_loop import EventLoop
from addons.fellow_workers import Fellows
from addons.log_redaction import key_log_refusal
from addons.production import ProductionProxy
from addons.service import Service
from scripts.ports import HOST
from storage.core_dumps import forbid_core_dumps
from storage.errors import SettingsError, StorageError
from storage.json_logs import log_as_json
from storage.settings import Settings

# How soon the recorder's thread lets a request go on that has come meanwhile. With Python's 5 ms
# the slowest hundredth of a busy process's requests took a third longer, and nothing was saved.
_SWITCH_SECONDS = 0.0005
# For each client its own connection and one to a provider, and some for all else. Shells often give
# 1,024, which 500 streams fill.
_OPEN_FILES = 2 * MAX_CLIENTS + 512
_CANNOT_START = 2
_CANNOT_LISTEN = 1


async def serve(
    settings: Settings, service: Service, trusted: str, chosen: argparse.Namespace
) -> int:
    """Serve until a signal. Returns the exit code.

    Raises:
        SettingsError: `trusted`, who may sign certificates of providers, cannot be read.
    """
    try:
        proxy = ProductionProxy(service, settings.data_dir / "mitmproxy", trusted)
    except OSError as error:
        raise SettingsError(f"SSL_CERT_FILE: there is no certificate in {trusted}") from error
    # said to be TCP: else asyncio, on macOS, lets small answers wait for 40 ms
    listeners = [socket.socket(proto=socket.IPPROTO_TCP, fileno=n) for n in chosen.listeners]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await proxy.start()
        try:
            proxy.listen(chosen.host, chosen.port, listeners)
        except OSError:
            _say(f"port {chosen.port} is taken or not allowed")
            return _CANNOT_LISTEN
        await stop.wait()
        await proxy.drain(chosen.drain_seconds)
    finally:
        await proxy.close()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end. Returns the exit code."""
    chosen = _parse(arguments)
    log_as_json(sys.stderr)
    forbid_core_dumps()
    raise_limit_of_open_files()
    sys.setswitchinterval(_SWITCH_SECONDS)
    environment = os.environ  # noqa: TID251 - no settings: what every program with TLS looks at
    if reason := key_log_refusal(environment):
        _say(reason)
        return _CANNOT_START
    try:
        settings = Settings.load()
        if chosen.workers > 1:
            _become_workers(settings, chosen)
        fellows = Fellows(chosen.worker, chosen.worker_ports) if chosen.worker else None
        trusted = environment.get("SSL_CERT_FILE") or certifi.where()
        service = Service(settings, fellows)
        return asyncio.run(serve(settings, service, trusted, chosen), loop_factory=EventLoop)
    except StorageError as error:
        _say(str(error))
        return _CANNOT_START


def raise_limit_of_open_files() -> None:
    """Let this process, and all that it starts, have as many files and sockets as it may need.

    As many as the hard limit, which somebody has set, allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _say(reason: str) -> None:
    print(f"metrion proxy: {reason}", file=sys.stderr)


def _become_workers(settings: Settings, chosen: argparse.Namespace) -> Never:
    """Become their supervisor, which takes a third of the memory.

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
