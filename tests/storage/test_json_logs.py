import asyncio
import gc
import io
import json
import logging
from collections.abc import Iterator

import pytest

from storage.json_logs import log_as_json


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    written = io.StringIO()
    log_as_json(written)
    yield written
    root.handlers = handlers
    root.setLevel(level)


def test_a_line_is_json_with_the_fields_that_are_allowed(stream: io.StringIO):
    extra = {"status": 200, "request_id": "r", "authorization": "Bearer secret", "path": "/?secret"}
    logging.getLogger("metrion.api").info("request", extra=extra)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "metrion.api",
        "event": "request",
        "request_id": "r",
        "status": 200,
    }


def test_an_exceptions_words_are_not_written(stream: io.StringIO):
    try:
        int("secret")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
    line = json.loads(stream.getvalue())
    assert line["event"] == "Exception in ASGI application"
    assert line["exception"] == "ValueError"
    assert "secret" not in stream.getvalue()


def test_what_nobody_has_caught_is_told_without_its_words(stream: io.StringIO):
    async def fails() -> None:
        raise ValueError("secret")

    async def forgets() -> None:
        task = asyncio.ensure_future(fails())
        await asyncio.sleep(0)
        del task  # asyncio tells of it when nobody can ask any more

    asyncio.run(forgets())
    gc.collect()
    line = json.loads(stream.getvalue())
    assert line["event"] == "Task exception was never retrieved"
    assert line["exception"] == "ValueError"
    assert "secret" not in stream.getvalue()


def test_other_libraries_are_heard_only_when_something_is_wrong(stream: io.StringIO):
    logging.getLogger("sqlalchemy.engine").info("SELECT secret")
    logging.getLogger("sqlalchemy.pool").warning("odd")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["odd"]
