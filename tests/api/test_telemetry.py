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
        # the server's thread writes the line when the answer has left
        deadline = time.monotonic() + 10
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.005)
    (record,) = [each for each in caplog.records if each.message == "request"]
    assert record.__dict__["request_id"] == answer.headers["x-metrion-request-id"]
    assert record.__dict__["route"] == "unknown"
    assert record.__dict__["status"] == 404
    assert record.__dict__["duration_ms"] > 0
    assert "secret" not in str(record.__dict__)


def test_an_exception_is_described_without_its_words():
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018
    described = describe(caught.value)
    assert described["exception"] == "ZeroDivisionError"
    assert "test_an_exception_is_described_without_its_words" in described["where"][-1]
