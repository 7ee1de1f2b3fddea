"""Log rows on their way: none left behind by a dead process, none that PostgreSQL refuses."""

import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

from scripts.doctor.result import Result, finding, ok
from storage.journal import look_at
from storage.settings import Settings

STALE_SECONDS: Final = 300
"""A running proxy takes over what a dead one left within seconds; a row is written within one."""
MOST_BYTES: Final = 128 * 1024 * 1024
"""Half of what one process keeps before it drops rows."""


def check_journal(settings: Settings) -> Generator[Result]:
    """Look at the segments of all processes on this machine, and at what was put aside."""
    folder = settings.data_dir / "journal"
    segments = _segments(folder)
    waiting = sum(size for _, size, _ in segments)
    faults = [*_stale(segments), *_rejected(folder)]
    if waiting > MOST_BYTES:
        faults.append(
            finding(
                "journal",
                f"{waiting >> 20} MiB of rows wait for the database; at 256 MiB rows are lost",
                "see why the proxy cannot write them: its log says so once a minute",
            )
        )
    yield from faults
    if not faults:
        yield ok("journal", f"{len(segments)} segments, {waiting} bytes on their way")


def _segments(folder: Path) -> list[tuple[bool, int, float]]:
    """Whether somebody has it, bytes that wait, seconds since the last change; of each segment."""
    found: list[tuple[bool, int, float]] = []
    for path in folder.glob("*.journal"):
        try:
            age = time.time() - path.stat().st_mtime
            found.append((*look_at(path), age))
        except OSError:
            continue  # just sent and removed
    return found


def _stale(segments: list[tuple[bool, int, float]]) -> Generator[Result]:
    old = [(owned, size) for owned, size, age in segments if size and age > STALE_SECONDS]
    orphans = sum(size for owned, size in old if not owned)
    stuck = sum(size for owned, size in old if owned)
    minutes = STALE_SECONDS // 60
    if orphans:
        yield finding(
            "journal",
            f"{orphans} bytes of rows were left by a process that is no more, over {minutes} "
            "minutes ago",
            "start a proxy with this data directory: it takes them over by itself",
        )
    if stuck:
        yield finding(
            "journal",
            f"{stuck} bytes of rows have waited for the database for over {minutes} minutes",
            "see why the proxy cannot write them: its log says so once a minute",
        )


def _rejected(folder: Path) -> Generator[Result]:
    files = sorted((folder / "rejected").glob("*.jsonl"))
    count = 0
    for path in files:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:  # its time was over
            count += sum(1 for _ in file)
    if count:
        yield finding(
            "journal",
            f"{count} rows were refused by the database and put aside in {folder / 'rejected'}",
            "each line has its reason; report it, then delete the file (it goes after a week)",
        )
