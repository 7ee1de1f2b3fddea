"""What the product says in its log of defects that it does not raise."""

import logging
from typing import override


class ErrorLog(logging.Handler):
    """Keeps what is logged as an error, or worse."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
