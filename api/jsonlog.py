"""Log lines as JSON, with an allowlist of fields: what is not on it is not written."""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final, TextIO, override

from api.telemetry import describe

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
            "event": record.getMessage().strip(),
        }
        if record.exc_info and record.exc_info[1]:
            line |= describe(record.exc_info[1])
        for field in FIELDS:
            if field in record.__dict__:
                line[field] = record.__dict__[field]
        return json.dumps(line, ensure_ascii=False)


def log_as_json(stream: TextIO) -> None:
    """Send the API's and the server's log lines to `stream`, and nothing else anywhere."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("metrion", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)
