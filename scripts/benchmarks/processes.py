"""Processes that are measured: started, pinned, and what the kernel says that they used."""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from scripts.ports import HOST, claim_port

_PROC = Path("/proc")
_START_SECONDS = 300.0  # also under valgrind, on a busy machine
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class MeasuredProcess:
    """A program that listens on a port; a context manager that stops it in the end.

    Args:
        command: with `{port}` where the port goes.
        environment: its environment.
        folder: its working directory, where its output goes too.
        core: the processor it stays on; None: any.

    Attributes:
        start_seconds: from its start until it listened.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        folder: Path,
        *,
        core: int | None = None,
    ) -> None:
        self.port = claim_port(0, "")
        self._command = [part.format(port=self.port) for part in command]
        self._environment = environment
        self._output = folder / f"{self.port}.txt"
        self._folder = folder
        self._core = core
        self.start_seconds = 0.0

    def __enter__(self) -> Self:
        begun = time.monotonic()
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a command of ours
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        if self._core is not None:
            os.sched_setaffinity(self._process.pid, {self._core})
        deadline = begun + _START_SECONDS
        while not _is_listening(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._command[0]} did not start:\n{self.said}")
            time.sleep(_POLL_SECONDS)
        self.start_seconds = time.monotonic() - begun
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._output.read_text(errors="replace")


def _is_listening(port: int) -> bool:
    """Somebody listens there; told by the kernel, not by connecting: nothing is to be answered."""
    return any(
        int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "0A"
        for table in (_PROC / "net/tcp", _PROC / "net/tcp6")  # a program may listen for both there
        if table.exists()
        for fields in map(str.split, table.read_text().splitlines()[1:])
    )


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, all its threads, living and ended."""
    tasks = _PROC / str(pid) / "task"
    nanoseconds = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir())
    # Only the coarser account knows of threads that have ended.
    return max(nanoseconds / 1e9, _coarse_cpu_seconds(pid) - 1 / _TICKS)


def _coarse_cpu_seconds(pid: int) -> float:
    return _ticks(pid, 11, 12) / _TICKS


def _ticks(pid: int, *fields: int) -> int:
    """Return the sum of fields of /proc/PID/stat (proc(5)), counted from after the name."""
    found = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return sum(int(found[each]) for each in fields)


def tree_cpu_seconds(pid: int) -> float:
    """Processor time of a process and of all that it has started, living and ended.

    Of the ended ones its parent knows (cutime, cstime): what PostgreSQL starts for a moment counts,
    and the sum never falls.
    """
    ended = _ticks(pid, 13, 14) / _TICKS
    return cpu_seconds(pid) + ended + sum(map(_tree_cpu_seconds, _children(pid)))


def _tree_cpu_seconds(pid: int) -> float:
    try:
        return tree_cpu_seconds(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it has ended since its parent was looked at


def _children(pid: int) -> Iterator[int]:
    for task in (_PROC / str(pid) / "task").iterdir():
        yield from map(int, (task / "children").read_text().split())


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in use."""
    return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE_BYTES


def cores() -> tuple[int | None, set[int]]:
    """One processor for what is measured, the others for everything else; None with just one."""
    available = sorted(os.sched_getaffinity(0))
    return (available[-1], set(available[:-1])) if len(available) > 1 else (None, set(available))


def url_of(port: int) -> str:
    """The address of a port of this machine."""
    return f"http://{HOST}:{port}"
