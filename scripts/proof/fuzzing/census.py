"""A program of Metrion's that says how many asyncio tasks it has, when it is asked by SIGUSR2.

`python -P -m scripts.proof.fuzzing.census FILE …` is `python -m scripts.proxy …`; the count is in
the file. It is taken in the main thread, where the event loop runs.
"""

import asyncio
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from scripts import proxy

_SECONDS = 5.0
_POLL_SECONDS = 0.01


def count_tasks(file: Path, *_: object) -> None:
    """Write the number of tasks that are not done; whoever asks finds all of it or nothing."""
    new = file.with_suffix(".new")
    new.write_text(str(len(asyncio.all_tasks())))
    new.rename(file)


def ask(pid: int, file: Path) -> int | None:
    """Ask a process; None: it does not say."""
    file.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR2)
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        if file.exists():
            return int(file.read_text())
        time.sleep(_POLL_SECONDS)
    return None


def main(arguments: list[str]) -> int:
    """Run the program. Returns its exit code."""
    signal.signal(signal.SIGUSR2, partial(count_tasks, Path(arguments[0])))
    return proxy.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
