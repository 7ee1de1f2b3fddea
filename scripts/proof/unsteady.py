"""A deployment whose clocks and names can be disturbed from outside, process by process.

`python -P -m scripts.proof.unsteady FOLDER …` is `scripts.supervisor …`, only that proxies, API and
jobs start through this module. A process of them reads `FOLDER/PID.json` at SIGUSR1 and from then
on lives by it: `wall_seconds` and `steady_seconds` are added to what its clocks say, `dns_seconds`
is how long it takes to find a host by its name. It writes `FOLDER/PID.txt` then: how many asyncio
tasks it has.

What is shifted is what Metrion reads: `time` for all of it, and `datetime.now` where a request
gets its time. The clock of the machine is everybody's, and is left alone.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Final, Self, override

from scripts import service

_NANOSECONDS: Final = 1_000_000_000
_THIS: Final = "scripts.proof.unsteady"
_IN_THE_PLACE_OF: Final = "scripts.service"
_PROXY: Final = "scripts.proxy"
_AS_CHILD: Final = "--child"
_WRITTEN_SECONDS: Final = 5.0


@dataclass
class Disturbance:
    """What is wrong with a process."""

    wall_seconds: float = 0.0
    steady_seconds: float = 0.0
    dns_seconds: float = 0.0


NOTHING: Final = Disturbance()
_now = Disturbance()


def disturb(folder: Path, pid: int, what: Disturbance = NOTHING) -> None:
    """Disturb a process, or leave it in peace again; it knows when this returns, if it lives."""
    draft = folder / f"{pid}.draft"
    draft.write_text(json.dumps(vars(what)))
    draft.replace(folder / f"{pid}.json")
    count_tasks(folder, pid)


def count_tasks(folder: Path, pid: int) -> int | None:
    """Return how many tasks a process has; None: it is gone, or does not say so in time."""
    said = folder / f"{pid}.txt"
    if not said.exists():
        return None  # it would die of the signal: it does not listen yet
    said.unlink()
    try:
        os.kill(pid, signal.SIGUSR1)
    except ProcessLookupError:
        return None
    deadline = time.monotonic() + _WRITTEN_SECONDS
    while time.monotonic() < deadline:
        if said.exists():
            return int(said.read_text())
        time.sleep(0.005)
    return None


def main() -> int:
    """Be the supervisor, or one of its children."""
    if sys.argv[1] == _AS_CHILD:
        folder = Path(sys.argv.pop(2))
        sys.argv.pop(1)
        _make_unsteady(folder)
        if sys.argv[2] == _PROXY:
            _shift_requests()
        service.main()
        return 0
    from scripts import supervisor  # noqa: PLC0415 - a child shall not have it in memory

    folder = Path(sys.argv.pop(1))
    steady = supervisor._command  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def command(module: str, *arguments: str) -> list[str]:
        words = steady(module, *arguments)
        at = words.index(_IN_THE_PLACE_OF)
        return [*words[:at], _THIS, _AS_CHILD, str(folder), *words[at + 1 :]]

    supervisor._command = command  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    return supervisor.main()


def _make_unsteady(folder: Path) -> None:
    """Put everything in place; before any module of the product is loaded."""
    wall, wall_ns, steady, find = time.time, time.time_ns, time.monotonic, socket.getaddrinfo

    def slowly(host: Any, *arguments: Any, **named: Any) -> Any:
        if _now.dns_seconds and host == "localhost":
            time.sleep(_now.dns_seconds)
        return find(host, *arguments, **named)

    time.time = lambda: wall() + _now.wall_seconds
    time.time_ns = lambda: wall_ns() + round(_now.wall_seconds * _NANOSECONDS)
    time.monotonic = lambda: steady() + _now.steady_seconds
    socket.getaddrinfo = slowly

    own = folder / f"{os.getpid()}.json"
    own.unlink(missing_ok=True)  # of another process that had this number

    def look(*_: object) -> None:
        if own.exists():
            vars(_now).update(json.loads(own.read_text()))
        _say(folder)

    signal.signal(signal.SIGUSR1, look)
    _say(folder)


def _say(folder: Path) -> None:
    """Say that this process listens, and how many tasks it has."""
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:
        tasks = 0  # its loop does not run yet
    draft = folder / f"{os.getpid()}.said"
    draft.write_text(str(tasks))
    draft.replace(folder / f"{os.getpid()}.txt")


class _ShiftedDatetime(datetime):
    """`datetime` of a process whose wall clock goes wrong."""

    @override
    @classmethod
    def now(cls, tz: tzinfo | None = UTC) -> Self:
        return super().now(tz) + timedelta(seconds=_now.wall_seconds)


def _shift_requests() -> None:
    from addons import gateway  # noqa: PLC0415 - the clocks above are its clocks then

    gateway.datetime = _ShiftedDatetime


if __name__ == "__main__":
    sys.exit(main())
