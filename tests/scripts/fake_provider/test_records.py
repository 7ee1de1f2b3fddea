import pytest

from scripts.fake_provider import records
from scripts.fake_provider.records import RecordedRequest, Records, Violation
from scripts.fake_provider.wire import Request


def recorded(lines: str, body: bytes = b"") -> RecordedRequest:
    head = f"POST /v1/x?key=a HTTP/1.1\r\n{lines}".encode("latin-1")
    return RecordedRequest("POST", "/v1/x?key=a", head, body, 1, 0.0)


def test_a_request_can_be_asked_about():
    request = recorded("Host: h\r\nX-Two: a\r\nx-two:  b \r\nX-Latin: \xe9", b'{"a":1}')
    assert (request.path, request.query) == ("/v1/x", "key=a")
    assert request.headers == [("Host", "h"), ("X-Two", "a"), ("x-two", "b"), ("X-Latin", "\xe9")]
    assert request.header("HOST") == "h"
    assert request.header("absent") is None
    assert request.values("X-TWO") == ["a", "b"]
    assert request.json() == {"a": 1}
    with pytest.raises(ValueError, match="2 times"):
        request.header("x-two")


@pytest.mark.parametrize(
    ("line", "leak"),
    [
        ("authorization: Bearer SK-metrion-0", "sk-metrion"),
        ("X-Metrion-User: me", "x-metrion-"),
        ("Cookie: a=b", "cookie:"),
        ("referer: http://metrion.invalid/", "metrion.invalid"),
    ],
)
def test_what_is_the_gateways_own_shows_as_a_leak(line: str, leak: str):
    assert recorded(f"host: h\r\n{line}").leaks == [leak]


def test_what_is_not_is_not():
    assert recorded("host: h\r\nx-cookie: a\r\nauthorization: Bearer sk-real").leaks == []


def received(target: str, body: bytes) -> Request:
    return Request("GET", target, persistent=True, fields={}, head=b"", body=body)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "MAX_RECORDS", 3)
    monkeypatch.setattr(records, "MAX_RECORDED_BYTES", 25)
    memory = Records()
    for number in range(5):
        memory.add(received(f"/{number}", b"x" * (20 if number == 4 else 1)), 1, 0.0)
    assert [request.target for request in memory.requests] == ["/2", "/3", "/4"]
    memory.add(received("/5", b"y" * 20), 1, 0.0)
    assert [request.target for request in memory.requests] == ["/5"]
    memory.add_violation(Violation("odd", 1, b""))
    memory.clear()
    assert memory.requests == []
    assert memory.violations == []


def test_what_is_taken_is_taken_once():
    kept = Records()
    for number in range(3):
        kept.add(Request("GET", f"/{number}", True, {}, b"", b"body"), 1, 0.0)
    assert [each.path for each in kept.take()] == ["/0", "/1", "/2"]
    assert kept.take() == []
    kept.add(Request("GET", "/3", True, {}, b"", b""), 1, 0.0)
    assert [each.path for each in kept.take()] == ["/3"]
