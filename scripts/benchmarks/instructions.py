"""Instructions per request, counted by valgrind: a figure that a busy machine cannot move."""

import asyncio
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from scripts.benchmarks.contestants import (
    EVENTS,
    Contestant,
    chat_request,
    metrion_environment,
)
from scripts.benchmarks.load import send_number
from scripts.benchmarks.processes import MeasuredProcess
from storage.settings import Settings

PLAIN_PROXY = [sys.executable, "-P", "-m", "scripts.benchmarks.plain_proxy", "--port", "{port}"]
# Not collected before it is said, and the rest in a hurry: the start is most of what valgrind does.
_VALGRIND = [
    "valgrind",
    "--tool=callgrind",
    "--instr-atstart=no",
    "--separate-threads=yes",
    "--vex-iropt-level=0",
]
_WARM_REQUESTS = 12
_REQUESTS = 8
# The least of so many counts: what is done now and then, say a look-up, is not in all of them.
_COUNTS = 5
# Valgrind takes fifty times as long for an event: each shall come by itself all the same.
_PACE = 0.03
_MAIN_THREAD = "-01"  # how the names of its counts end
_COUNTED = re.compile(rb"^totals: (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Instructions:
    """What the proxy's main thread did.

    Attributes:
        json: for a small JSON request.
        event: for an event of a paced stream; the request before it is shared out among them.
    """

    json: int
    event: int


RECORDED: Final = Instructions(json=1_250_000, event=125_000)
"""On Python 3.13.0, x86-64, in November 2026."""
MARGIN: Final = 1.3
"""Another build of Python, or a provider's chunks cut in another way, are less than that."""


def exceeded(counted: Instructions) -> list[str]:
    """What has become more than the margin over what was recorded; nothing: all is well."""
    pairs = ((name, value, asdict(RECORDED)[name]) for name, value in asdict(counted).items())
    return [
        f"{name}: {value:,} instructions, recorded {recorded:,}"
        for name, value, recorded in pairs
        if value > recorded * MARGIN
    ]


def is_possible() -> bool:
    """Valgrind is installed."""
    return shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None


def count_instructions(settings: Settings, path: str, token: str, folder: Path) -> Instructions:
    """Count what Metrion's proxy does for requests and streams, one after the other.

    On the request's way, that is, in its main thread: what the recorder's thread does is done in
    batches, and under valgrind, which takes fifty times as long, every row would be one.

    Args:
        settings: of an installation whose database and providers run.
        path: where chat requests go.
        token: of an account of it.
        folder: for the counts.
    """
    counts = folder / "callgrind.out"
    command = [*_VALGRIND, f"--callgrind-out-file={counts}", *PLAIN_PROXY]
    # the same dictionaries in the same order every time
    environment = metrion_environment(settings) | {"PYTHONHASHSEED": "0"}
    with MeasuredProcess(command, environment, folder) as process:
        metrion = Contestant("metrion", process, path, token)
        request = chat_request(metrion, streamed=False)
        stream = chat_request(metrion, streamed=True, pace=_PACE)
        _send(process, request, _WARM_REQUESTS)
        _send(process, stream, 1)
        _control(process, "--instr=on")
        return Instructions(
            json=_least(process, counts, request, _REQUESTS) // _REQUESTS,
            event=_least(process, counts, stream, 1) // EVENTS,
        )


def _send(process: MeasuredProcess, request: bytes, number: int) -> None:
    asyncio.run(send_number(process.port, request, 1, number))


def _least(process: MeasuredProcess, counts: Path, request: bytes, number: int) -> int:
    """Count the instructions of so many requests, several times; return the least."""
    _dump(process, counts)
    return min(_count(process, counts, request, number) for _ in range(_COUNTS))


def _count(process: MeasuredProcess, counts: Path, request: bytes, number: int) -> int:
    _send(process, request, number)
    found = [_COUNTED.search(path.read_bytes()) for path in _dump(process, counts)]
    return sum(int(each[1]) for each in found if each)


def _dump(process: MeasuredProcess, counts: Path) -> set[Path]:
    """Have what was counted since the last time written to files; those of the main thread."""
    before = set(counts.parent.glob(f"{counts.name}*{_MAIN_THREAD}"))
    _control(process, "--dump")
    return set(counts.parent.glob(f"{counts.name}*{_MAIN_THREAD}")) - before


def _control(process: MeasuredProcess, what: str) -> None:
    subprocess.run(  # noqa: S603 - a command of ours
        ["callgrind_control", what, str(process.pid)],  # noqa: S607
        check=True,
        capture_output=True,
    )
