"""Keeps credentials and what is no error out of mitmproxy's log lines, and TLS keys out of any.

mitmproxy logs malformed input as it came ("Invalid HTTP/2 request headers: …"), and every tool has
handlers of its own (the terminal, the console's event log, mitmweb). So lines are cleaned where
they are made, before any handler sees them.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from addons.credentials import redact

CLEANED_LOGGERS = ("mitmproxy", "hpack", "h2")
# mitmproxy calls an error here what nobody waited for, also a write to a client that hung up.
_UNHANDLED_LOGGER = "mitmproxy.master"
_KEY_LOG_VARIABLES = ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE")


def redact_logs() -> None:
    """Clean all log lines of mitmproxy from now on; once per process is enough."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, _CleanRecords):
        logging.setLogRecordFactory(_CleanRecords(make))
        logging.getLogger(_UNHANDLED_LOGGER).addFilter(_is_defect)


def key_log_refusal(environment: Mapping[str, str]) -> str | None:
    """Why a process must not start with these variables; None if it may. Python reads them, too."""
    if any(environment.get(name) for name in _KEY_LOG_VARIABLES):
        return "SSLKEYLOGFILE would write TLS keys to disk; unset it"
    return None


def _is_defect(record: logging.LogRecord) -> bool:
    """Not that the other side is gone: anybody could fill the log with it."""
    return not (record.exc_info and isinstance(record.exc_info[1], ConnectionError))


class _CleanRecords:
    """Makes log records, and takes credentials out of those of `CLEANED_LOGGERS`."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *arguments: Any, **options: Any) -> logging.LogRecord:
        record = self._make(*arguments, **options)
        if record.name.partition(".")[0] in CLEANED_LOGGERS:
            record.msg, record.args = redact(record.getMessage()), None
        return record
