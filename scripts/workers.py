"""Several proxy processes on one port: their sockets, their command lines, and their supervisor.

One listening socket is made here, before any of them, and inherited by all (see
`addons.connections`); it stays open while they come and go. Each also gets a socket of its own, on
this machine only: whoever wants this very worker (readiness, its metrics) asks there.

`scripts.proxy --workers N` becomes this program: what ends is started again with backoff, SIGHUP
replaces one after the other (the others take its connections; requests under way on it finish),
SIGTERM ends all of them, each as a single proxy would.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

from scripts.console import LogVoice
from scripts.ports import HOST
from scripts.supervision import ChildProcess, ChildSpec, Fleet, StartError, answers
from storage.json_logs import log_as_json

_BACKLOG = 1024
_START_SECONDS = 60.0
AFTER_DRAIN_SECONDS = 15.0  # to write the last rows; then by force
_CANNOT_START = 1

logger = logging.getLogger("metrion.workers")


class WorkerSockets:
    """One listening socket for all workers, and one for each.

    Args:
        host: address to listen on.
        port: port to listen on; 0: any free one.
        count: of workers.

    Raises:
        OSError: the port is taken or not for this user.
    """

    def __init__(self, host: str, port: int, count: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._shared = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._own = [socket.create_server((HOST, 0)) for _ in range(count)]
        for listener in (self._shared, *self._own):
            listener.setblocking(False)  # noqa: FBT003 - its own way of saying so

    @property
    def port(self) -> int:
        """The port of all."""
        return self._shared.getsockname()[1]

    def open_files(self, number: int) -> list[int]:
        """What a worker inherits; the first is 1."""
        return [self._shared.fileno(), self._own[number - 1].fileno()]

    def arguments(self, number: int) -> list[str]:
        """What a worker is told about it, on its command line."""
        ports = ",".join(str(own.getsockname()[1]) for own in self._own)
        files = ",".join(map(str, self.open_files(number)))
        return ["--worker", str(number), "--listeners", files, "--worker-ports", ports]

    def ready_url(self, number: int) -> str:
        """Where a worker says that it is ready."""
        return f"http://{HOST}:{self._own[number - 1].getsockname()[1]}/readyz"

    def close(self) -> None:
        """Let go of all of them."""
        for listener in (self._shared, *self._own):
            listener.close()


def worker_spec(
    sockets: WorkerSockets,
    number: int,
    command: list[str],
    environment: dict[str, str] | None,
    folder: Path,
    *,
    stop_seconds: float,
) -> ChildSpec:
    """A worker, to be kept running.

    Args:
        sockets: of all workers.
        number: its own; the first is 1.
        command: starts a proxy.
        environment: None: this process's own, and its output, too.
        folder: where it runs.
        stop_seconds: from SIGTERM to SIGKILL.
    """
    return ChildSpec(
        name=f"proxy-{number}",
        command=[*command, *sockets.arguments(number)],
        environment=environment,
        folder=folder,
        is_ready=partial(answers, sockets.ready_url(number)),
        stop_seconds=stop_seconds,
        open_files=sockets.open_files(number),
        shares_output=environment is None,
    )


def run_workers(host: str, port: int, count: int, drain: float) -> int:
    """Keep workers running until SIGTERM or SIGINT; return the exit status."""
    try:
        sockets = WorkerSockets(host, port, count)
    except OSError as error:
        logger.warning("port %d is taken or not allowed: %s", port, error.strerror)
        return _CANNOT_START
    try:
        return asyncio.run(_Workers(sockets, count, drain).run())
    finally:
        sockets.close()


class _Workers:
    """One run of `scripts.proxy --workers N`."""

    def __init__(self, sockets: WorkerSockets, count: int, drain: float) -> None:
        voice = LogVoice(logger)
        self._fleet = Fleet(voice)
        self._voice = voice
        self._wishes = asyncio.Queue[signal.Signals]()
        command = [sys.executable, "-P", "-m", "scripts.service", str(os.getpid()), "scripts.proxy"]
        command += ["--drain-seconds", str(drain)]
        self._workers: list[ChildProcess] = []
        for number in range(1, count + 1):
            spec = worker_spec(
                sockets, number, command, None, Path.cwd(), stop_seconds=drain + AFTER_DRAIN_SECONDS
            )
            self._workers.append(ChildProcess(spec, voice))

    async def run(self) -> int:
        """Start, keep running, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._wishes.put_nowait, number)
        try:
            await self._fleet.start(*self._workers, seconds=_START_SECONDS)
        except StartError as error:
            self._voice.complain(str(error))
            await self._fleet.stop()
            return _CANNOT_START
        self._voice.say(f"{len(self._workers)} workers are ready")
        # Owned: cancelled below, before the workers are stopped.
        keeping = loop.create_task(self._fleet.keep_running(lambda: None))
        replacing: asyncio.Task[None] | None = None
        while await self._wishes.get() == signal.SIGHUP:
            if replacing is None or replacing.done():
                replacing = loop.create_task(self._replace_all())
        for task in (replacing, keeping):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._fleet.stop()
        return 0

    async def _replace_all(self) -> None:
        """Let each make room for a new one, one after the other, for as long as that goes well."""
        for worker in self._workers:
            self._voice.say(f"{worker.name} is replaced")
            await worker.stop()
            try:
                await worker.wait_for_successor(_START_SECONDS)
            except StartError as error:
                self._voice.complain(f"{error}; the others go on as they are")
                return
        self._voice.say("all workers were replaced")


def main(arguments: list[str] | None = None) -> int:
    """Keep workers running; what it takes was checked by `scripts.proxy`."""
    parser = argparse.ArgumentParser(prog="python -m scripts.workers", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--drain-seconds", type=float, required=True)
    chosen = parser.parse_args(arguments)
    log_as_json(sys.stderr)
    return run_workers(chosen.host, chosen.port, chosen.workers, chosen.drain_seconds)


if __name__ == "__main__":
    sys.exit(main())
