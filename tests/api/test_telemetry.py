import logging
import time
import uuid

import httpx
import pytest

from storage.json_logs import describe


def test_every_answer_has_an_id_of_its_own(api_alone: httpx.Client):
    answers = [api_alone.get(path) for path in ("/healthz", "/healthz", "/nowhere")]
    identifiers = {uuid.UUID(each.headers["x-metrion-request-id"]) for each in answers}
    assert len(identifiers) == 3
    assert {each.version for each in identifiers} == {7}


def test_the_clients_own_id_is_not_taken_over(api_alone: httpx.Client):
    answer = api_alone.get("/healthz", headers={"x-metrion-request-id": "mine"})
    assert answer.headers["x-metrion-request-id"] != "mine"


def test_a_request_is_logged_by_route_and_status_only(
    api_alone: httpx.Client, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, "metrion.api"):
        answer = api_alone.get("/nowhere/secret?key=secret", headers={"x-secret": "secret"})
        request_id = answer.headers["x-metrion-request-id"]
        # the server's thread writes the line when the answer has left, so perhaps that of the
        # request before this one, too
        deadline = time.monotonic() + 10
        while not (lines := _lines_of(request_id, caplog)) and time.monotonic() < deadline:
            time.sleep(0.005)
    (record,) = lines
    assert record.message == "request"
    assert record.__dict__["route"] == "unknown"
    assert record.__dict__["status"] == 404
    assert record.__dict__["duration_ms"] > 0
    assert "secret" not in str(record.__dict__)


def _lines_of(request_id: str, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.__dict__.get("request_id") == request_id]


def test_an_exception_is_described_without_its_words():
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018
    described = describe(caught.value)
    assert described["exception"] == "ZeroDivisionError"
    assert "test_an_exception_is_described_without_its_words" in described["where"][-1]
