"""Instructions per request, counted by valgrind: a figure that a busy machine cannot move."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

from scripts.benchmarks.contestants import (
    Contestant,
    Field,
    chat_request,
    metrion_command,
    metrion_environment,
)
from scripts.benchmarks.load import send_number
from scripts.benchmarks.processes import MeasuredProcess

_FEW, _MORE = 20, 120
_WARM_REQUESTS = 30
_MAIN_THREAD = "-01"  # how the names of its counts end
_COUNTED = re.compile(rb"^summary: (\d+)", re.MULTILINE)


def is_possible() -> bool:
    """Valgrind is installed."""
    return shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None


def instructions_per_request(field: Field, folder: Path) -> int:
    """Count what Metrion's proxy does for a small JSON request, one after the other.

    On the request's way, that is, in its main thread: what the recorder's thread does is done in
    batches, and under valgrind, which takes fifty times as long, every row would be one. Of two
    counts of different length the difference is taken: what it costs to start one falls out.
    """
    counts = folder / "callgrind.out"
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"]
    command += [f"--callgrind-out-file={counts}", *metrion_command()]
    with MeasuredProcess(command, metrion_environment(field.metrion), folder) as process:
        metrion = field.contestants["metrion"]
        contestant = Contestant("metrion", process, metrion.path, metrion.key)
        _send(contestant, _WARM_REQUESTS)
        few, more = (_count(contestant, counts, number) for number in (_FEW, _MORE))
    return (more - few) // (_MORE - _FEW)


def _send(contestant: Contestant, number: int) -> None:
    request = chat_request(contestant, streamed=False)
    asyncio.run(send_number(contestant.process.port, request, 1, number))


def _count(contestant: Contestant, counts: Path, number: int) -> int:
    """Count the instructions of so many requests."""
    _control(contestant, "--instr=on")
    _send(contestant, number)
    before = set(counts.parent.glob(f"{counts.name}*{_MAIN_THREAD}"))
    _control(contestant, "--dump")
    _control(contestant, "--instr=off")
    dumped = set(counts.parent.glob(f"{counts.name}*{_MAIN_THREAD}")) - before
    found = [_COUNTED.search(path.read_bytes()) for path in dumped]
    return sum(int(each[1]) for each in found if each)


def _control(contestant: Contestant, what: str) -> None:
    subprocess.run(  # noqa: S603 - a command of ours
        ["callgrind_control", what, str(contestant.process.pid)],  # noqa: S607
        check=True,
        capture_output=True,
    )
