"""What judges over sockets; the shooting itself is in tests/e2e/test_fuzz.py."""

import json

import pytest

from scripts.fake_provider.records import RecordedRequest
from scripts.proof.fuzzing.arrivals import Arrivals
from scripts.proof.fuzzing.fire import Range, check_bodies, is_refusal

BODY = b'{"model":"m"}'


def arrived(number: int, body: bytes = BODY) -> RecordedRequest:
    head = f"POST /v1/x HTTP/1.1\r\nhost: h\r\nx-fuzz: {number}".encode()
    return RecordedRequest("POST", "/v1/x", head, body, 1, 0.0)


def test_bodies_arrive_as_they_were_sent_or_not_at_all(tally):
    check_bodies(tally, [arrived(1)], {"1": (1, BODY, False), "2": (2, b"[]", True)})
    assert not tally.failures


@pytest.mark.parametrize(
    ("requests", "refused", "fault"),
    [
        ([arrived(1, BODY + b" ")], False, "wrong"),
        ([arrived(1)], True, "not admitted"),
        ([arrived(1), arrived(1)], False, "not admitted"),
        ([], False, "wrong"),
    ],
)
def test_anything_else_is_seen(tally, requests, refused, fault):
    check_bodies(tally, requests, {"1": (1, BODY, refused)})
    assert tally.faults == {fault: 1}


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ("openai", {"code": "invalid_request"}),
        ("anthropic", {"type": "invalid_request_error"}),
        ("gemini", {"code": 400}),
    ],
)
def test_a_refusal_has_the_providers_shape(shape, error):
    said = json.dumps({"error": error}).encode()
    assert is_refusal(b"HTTP/1.1 400 Bad Request", said, shape)
    assert not is_refusal(b"HTTP/1.1 500 x", said, shape)
    for other in (b"{}", b"", b"[]", b'{"error":1}', b'{"error":{"code":"x","type":"x"}}'):
        assert not is_refusal(b"HTTP/1.1 400 Bad Request", other, shape)


def test_secrets_and_crashes_are_heard(tally, callers, provider_of_fuzz):
    range_ = Range(1, 1, provider_of_fuzz, callers, Arrivals(callers, "h"))
    range_.heard(tally, b"HTTP/1.1 200 OK", 1, b"")
    assert not tally.failures
    range_.heard(tally, callers.admitted[0].token.encode(), 1, b"")
    range_.heard(tally, b"x-metrion-error: internal_error", 1, b"")
    assert tally.faults == {"wrong": 1, "crash": 1}
