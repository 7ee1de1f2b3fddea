import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.fake_provider.wire import ProtocolViolation, Request, RequestReader

SIZED = b"POST /v1/x?a=b HTTP/1.1\r\nHost: h\r\nX-Odd-Case:  v \r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: Chunked\r\n\r\n"
    b'5;name="v"\r\nhello\r\nA\r\n0123456789\r\n0\r\nx-trailer: t\r\n\r\n'
)
EMPTY = b"GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n"


def read_all(*pieces: bytes) -> list[Request]:
    reader = RequestReader()
    requests: list[Request] = []
    for piece in pieces:
        reader.feed(piece)
        while request := reader.next_request():
            requests.append(request)
    return requests


def test_a_request_is_read_as_it_was_sent():
    (request,) = read_all(SIZED)
    assert request.method == "POST"
    assert request.target == "/v1/x?a=b"
    assert request.body == b"hello"
    assert request.fields[b"x-odd-case"] == b"v"
    assert request.head == SIZED.partition(b"\r\n\r\n")[0]
    assert request.persistent


def test_chunks_are_put_together():
    (request,) = read_all(CHUNKED)
    assert request.body == b"hello0123456789"


@given(st.lists(st.integers(0, len(SIZED + CHUNKED + EMPTY)), max_size=12))
def test_where_the_bytes_are_cut_does_not_matter(cuts: list[int]):
    stream = SIZED + CHUNKED + EMPTY
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert read_all(*pieces) == read_all(stream)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_a_violation_or_unfinished(data: bytes):
    with contextlib.suppress(ProtocolViolation):
        read_all(data)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 1", "more than one"),
        (
            b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ntransfer-encoding: chunked",
            "content-length and",
        ),
        (b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip, chunked", "unknown transfer"),
        (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked", "HTTP/1.0"),
        (b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: +1", "malformed content-length"),
        (b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1, 1", "malformed content-length"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nHost: b", "more than one host"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nauthorization: a\r\nauthorization: b", "authorization"),
        (b"GET / HTTP/1.1", "no host"),
        (b"GET / HTTP/1.1\r\nhost : h", "malformed header"),
        (b"GET / HTTP/1.1\r\nhost: h\r\n folded", "malformed header"),
        (b"GET / HTTP/1.1\r\nhost: h\r\nx: a\nb: c", "malformed header"),
        (b"GET / HTTP/1.1\r\nhost: h\r\nx: a\rb", "malformed header"),
        (b"GET / HTTP/1.1\r\nhost: h\r\nx: a\0b", "malformed header"),
        (b"GET / HTTP/1.1\r\nhost: h\r\n: nameless", "malformed header"),
        (b"GET http://h/ HTTP/1.1\r\nhost: h", "request line"),
        (b"CONNECT h:443 HTTP/1.1\r\nhost: h", "request line"),
        (b"get / HTTP/1.1\r\nhost: h", "request line"),
        (b"GET  / HTTP/1.1\r\nhost: h", "request line"),
        (b"GET /a b HTTP/1.1\r\nhost: h", "request line"),
        (b"GET /a#b HTTP/1.1\r\nhost: h", "request line"),
        (b"GET / HTTP/2\r\nhost: h", "request line"),
        (b"GET /\r\nhost: h", "request line"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(lines: bytes, reason: str):
    with pytest.raises(ProtocolViolation, match=reason):
        read_all(lines + b"\r\n\r\n")


@pytest.mark.parametrize(
    "body",
    [
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"-1\r\n",
        b"0\r\nno trailer\r\n\r\n",
        b"1" * 5000,
    ],
)
def test_malformed_chunks_are_refused(body: bytes):
    with pytest.raises(ProtocolViolation):
        read_all(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n" + body)


def test_a_head_must_end():
    with pytest.raises(ProtocolViolation, match="does not end"):
        read_all(b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000)
    with pytest.raises(ProtocolViolation, match="bare LF"):
        read_all(b"GET / HTTP/1.1\nhost: h\n\n")


def test_connections_end_as_the_client_says():
    assert not read_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: Close\r\n\r\n")[0].persistent
    assert not read_all(b"GET / HTTP/1.0\r\n\r\n")[0].persistent


def test_a_client_that_waits_for_leave_to_send_is_noticed():
    reader = RequestReader()
    reader.feed(b"POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert reader.next_request() is None
    assert reader.awaits_continue
    reader.feed(b"{}")
    assert reader.next_request() is not None
    assert not reader.awaits_continue


def test_empty_lines_before_a_request_are_skipped_if_wanted():
    data = b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    lenient = RequestReader(skips_empty_lines=True)
    lenient.feed(data)
    request = lenient.next_request()
    assert request is not None
    assert request.target == "/"
    strict = RequestReader()
    strict.feed(data)
    with pytest.raises(ProtocolViolation):
        strict.next_request()
