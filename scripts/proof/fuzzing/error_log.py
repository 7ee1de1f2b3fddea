"""What the product says in its log of defects that it does not raise."""

import json
import logging
from typing import Any, override

_DEFECTS = frozenset({"error", "critical"})


class ErrorLog(logging.Handler):
    """Keeps what is logged as an error, or worse."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def errors_in(log: str) -> list[str]:
    """The lines of a process's standard error that tell of a defect.

    Args:
        log: JSON lines; what is none comes from somebody who does not log: the interpreter itself.
    """
    return [line for line in log.splitlines() if line.strip() and _tells_of_defect(line)]


def _tells_of_defect(line: str) -> bool:
    try:
        said: Any = json.loads(line)
        return said["level"] in _DEFECTS
    except (ValueError, KeyError, TypeError):
        return True
