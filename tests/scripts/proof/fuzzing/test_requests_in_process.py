import os

from addons import forwarding
from addons.body_reader import BodyReader
from scripts.fake_provider.wire import Request
from scripts.proof.fuzzing.closed_room import ClosedRoom
from scripts.proof.fuzzing.requests_in_process import (
    read_differently,
    strictly_read,
    try_requests,
)

ONE = b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"


def forwarded(body: bytes, method: str = "POST") -> Request:
    return Request(method, "/v1/x", True, {}, b"", body)


async def test_all_is_well(tally, callers):
    tally.planned = 40
    await try_requests(tally, callers, os.getpid())
    assert not tally.failures
    assert tally.forwarded > 0
    assert tally.inputs == 40


async def test_headers_that_all_pass_are_seen(tally, callers, monkeypatch):
    monkeypatch.setattr(forwarding, "upstream_headers", lambda exchange, _: exchange.headers)
    tally.planned = 60
    await try_requests(tally, callers, os.getpid())
    assert tally.faults["not admitted"] > 0


async def test_a_request_without_a_row_is_seen(tally, callers, monkeypatch):
    monkeypatch.setattr(ClosedRoom, "record", lambda *_: None)
    tally.planned = 30
    await try_requests(tally, callers, os.getpid())
    assert set(tally.faults) == {"not admitted"}
    assert "0 rows" in tally.failures[0]


async def test_a_reader_that_forgives_is_seen(tally, callers, monkeypatch):
    """Chunks as h11 reads them: the defect that this was made for."""
    strict = BodyReader.__init__

    def lenient(self, size, *, of_request=False):
        strict(self, size)

    monkeypatch.setattr(BodyReader, "__init__", lenient)
    tally.planned, tally.seed = 1500, 2
    await try_requests(tally, callers, os.getpid())
    assert set(tally.faults) == {"not admitted"}
    assert "a strict reader sees" in tally.failures[0]


def test_what_was_not_there_is_seen():
    assert strictly_read(ONE + b"\r\n" + ONE) is not None
    assert read_differently(ONE + ONE, [forwarded(b"{}"), forwarded(b"{}")]) is None
    assert read_differently(ONE, [forwarded(b"{}"), forwarded(b"{}")])
    assert read_differently(ONE, [forwarded(b"{ }")])
    assert read_differently(ONE, [forwarded(b"{}", "GET")])
    twice = ONE.replace(b"host", b"authorization: a\r\nauthorization: b\r\nhost")
    assert strictly_read(twice) is None
