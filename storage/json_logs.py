"""Log lines as JSON, with an allowlist of fields: what is not on it is not written."""

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any, Final, TextIO, override

FIELDS: Final = (
    "request_id",
    "method",
    "route",
    "status",
    "duration_ms",
    "reason",
    "exception",
    "where",
)


class JsonFormatter(logging.Formatter):
    """Renders a record as one line: time, level, logger, event, and the fields it may have."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
        }
        if record.exc_info and record.exc_info[1]:
            line |= describe(record.exc_info[1])
        for field in FIELDS:
            if field in record.__dict__:
                line[field] = record.__dict__[field]
        return json.dumps(line, ensure_ascii=False)


def _event(record: logging.LogRecord) -> str:
    """What happened; of what nobody has caught, asyncio quotes task and exception below it."""
    message = record.getMessage().strip()
    return message.partition("\n")[0] if record.name == "asyncio" else message


def describe(error: BaseException) -> dict[str, Any]:
    """Return an exception's type and places for a log line: its words may hold anybody's data."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return {
        "exception": type(error).__qualname__,
        "where": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def log_as_json(stream: TextIO) -> None:
    """Send this process's log lines to `stream`, and nothing else anywhere."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("metrion", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)
