"""Keeps credentials out of mitmproxy's log lines.

mitmproxy logs malformed input as it came ("Invalid HTTP/2 request headers: …"), and every tool has
handlers of its own (the terminal, the console's event log, mitmweb). So lines are cleaned where
they are made, before any handler sees them.
"""

import logging
from collections.abc import Callable
from typing import Any

from addons.credentials import redact

CLEANED_LOGGERS = ("mitmproxy", "hpack", "h2")


def redact_logs() -> None:
    """Clean all log lines of mitmproxy from now on; once per process is enough."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, _CleanRecords):
        logging.setLogRecordFactory(_CleanRecords(make))


class _CleanRecords:
    """Makes log records, and takes credentials out of those of `CLEANED_LOGGERS`."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *arguments: Any, **options: Any) -> logging.LogRecord:
        record = self._make(*arguments, **options)
        if record.name.partition(".")[0] in CLEANED_LOGGERS:
            record.msg, record.args = redact(record.getMessage()), None
        return record
