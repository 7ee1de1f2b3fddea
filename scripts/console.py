"""What the supervisor and its children say, line by line, each with who says it.

Written by a thread of its own: a terminal or pipe that nobody reads must not stop the supervisor.
What does not fit in the queue meanwhile is left out and counted.
"""

import logging
import os
import queue
import threading
from typing import Protocol, Self

_QUEUED_LINES = 10_000
_CLOSE_SECONDS = 2.0
_NAME_WIDTH = 8


class Voice(Protocol):
    """Somebody who says what a supervisor and its children have to say."""

    def say(self, text: str) -> None:
        """Say something in the supervisor's own name."""
        ...

    def complain(self, text: str) -> None:
        """Say what went wrong."""
        ...

    def line(self, name: str, line: str, *, error: bool = False) -> None:
        """Say one line in the name of a child."""
        ...


class LogVoice:
    """Says it in the log."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def say(self, text: str) -> None:
        """Say something in the supervisor's own name."""
        self._logger.info("%s", text)

    def complain(self, text: str) -> None:
        """Say what went wrong."""
        self._logger.warning("%s", text)

    def line(self, name: str, line: str, *, error: bool = False) -> None:
        """Say one line in the name of a child."""
        self._logger.info("%s: %s", name, line)


class Console:
    """Standard output and error, shared by all who have something to say; close it at the end."""

    def __init__(self, out: int = 1, errors: int = 2) -> None:
        """Take two open files, by number.

        Numbers, not `sys.stdout`: its lock, held by a writer that waits for its reader, would keep
        the interpreter from ending.
        """
        self._files = (out, errors)
        self._lines: queue.Queue[tuple[int, str] | None] = queue.Queue(_QUEUED_LINES)
        self._left_out = 0
        # a daemon: a reader that never reads must not keep the process from ending
        self._writer = threading.Thread(target=self._write_all, name="console", daemon=True)
        self._writer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def say(self, text: str) -> None:
        """Say something in the supervisor's own name, on standard output, as it is."""
        self._put(0, text)

    def complain(self, text: str) -> None:
        """Say what went wrong, on standard error."""
        self._put(1, f"metrion: {text}")

    def line(self, name: str, line: str, *, error: bool = False) -> None:
        """Say one line in the name of a child. Never waits and never raises."""
        self._put(int(error), f"{name:<{_NAME_WIDTH}} | {line}")

    def _put(self, stream: int, text: str) -> None:
        try:
            self._lines.put_nowait((stream, text))
        except queue.Full:
            self._left_out += 1

    def close(self) -> None:
        """Write what is queued, but do not wait long for somebody to read it."""
        try:
            self._lines.put(None, timeout=_CLOSE_SECONDS)
        except queue.Full:
            return
        self._writer.join(_CLOSE_SECONDS)

    def _write_all(self) -> None:
        while (item := self._lines.get()) is not None:
            self._write(*item)
            if self._left_out and self._lines.empty():
                left_out, self._left_out = self._left_out, 0
                self._write(1, f"metrion: {left_out} lines were left out here")

    def _write(self, number: int, text: str) -> None:
        rest = f"{text}\n".encode(errors="replace")
        try:
            while rest:
                rest = rest[os.write(self._files[number], rest) :]
        except OSError:
            # The reader is gone: nobody is left to tell, and the work goes on.
            return
