"""Bytes become heads and bodies as mitmproxy and h11 read them, or are refused."""

import re
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.net.http import http1

from addons import framing
from addons.framing import (
    HEAD_MAX_BYTES,
    UNTIL_CLOSE,
    MalformedAnswerError,
    MalformedHeadError,
    ReceiveBuffer,
    RequestHead,
    is_ambiguous,
    read_request_head,
    read_response_head,
)


def buffer_of(data: bytes) -> ReceiveBuffer:
    buffer = ReceiveBuffer()
    buffer += data
    return buffer


def request(*lines: bytes, first: bytes = b"POST /v1/x?y=z HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"Host: m", *lines]) + b"\r\n\r\n"


HEADER_LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(b"A: 1", b"a:2", b"content-length: 5", b"Content-Length:0", b"b: \xff"),
                *(b"transfer-encoding: chunked", b"Connection: close", b" folded", b":x", b"a\t:1"),
            ]
        ),
        st.binary(max_size=12).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")),
    ),
    max_size=5,
)


@given(HEADER_LINES)
def test_a_request_is_read_as_mitmproxy_does_or_refused(lines):
    lines = [line for line in lines if line]
    try:
        ours = read_request_head(buffer_of(request(*lines)))
    except MalformedHeadError:
        return
    theirs = http1.read_request_head([b"POST /v1/x?y=z HTTP/1.1", b"Host: m", *lines])
    assert ours is not None
    assert (ours.method, ours.target) == (theirs.data.method, theirs.data.path)
    assert tuple(ours.fields) == theirs.headers.fields
    assert ours.body_bytes == http1.expected_http_body_size(theirs)
    assert ours.keeps_alive is not http1.connection_close(theirs.http_version, theirs.headers)


@given(
    st.one_of(
        st.sampled_from(
            [b"HTTP/1.1 200 OK", b"HTTP/1.0 404", b"HTTP/1.1 500 a b", b"HTTP/1.1 204"]
        ),
        st.binary(max_size=20).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")),
    ),
    HEADER_LINES,
)
def test_an_answer_is_read_as_mitmproxy_does_or_refused(line, lines):
    lines = [line for line in lines if line]
    try:
        ours = read_response_head(buffer_of(b"\r\n".join([line, *lines]) + b"\r\n\r\n"), "POST")
    except MalformedAnswerError:
        return
    if ours is None:
        return  # an interim answer
    theirs = http1.read_response_head([line, *lines])
    asked = http1.read_request_head([b"POST / HTTP/1.1", b"Host: m"])
    assert (ours.status, ours.reason) == (theirs.status_code, theirs.data.reason)
    assert tuple(ours.fields) == theirs.headers.fields
    assert ours.body_bytes == http1.expected_http_body_size(asked, theirs)
    if ours.keeps_alive:
        assert not http1.connection_close(theirs.http_version, theirs.headers)


@pytest.mark.parametrize("cut", range(len(request(b"A: 1"))))
def test_a_head_that_is_not_whole_is_waited_for(cut):
    whole = request(b"A: 1")
    buffer = buffer_of(whole[:cut])
    assert read_request_head(buffer) is None
    buffer += whole[cut:] + b"rest"
    head = read_request_head(buffer)
    assert head is not None
    assert head.value(b"a") == b"1"
    assert bytes(buffer) == b"rest"


def outcome(buffer: ReceiveBuffer) -> RequestHead | int | None:
    """The head that has come; or why it is refused."""
    try:
        return read_request_head(buffer)
    except MalformedHeadError as refused:
        return refused.status


def read_in_pieces(pieces: list[bytes]) -> list[RequestHead | int]:
    """Heads, up to the first refusal; each piece is read as if it had come with all before it."""
    buffer, found = ReceiveBuffer(), list[RequestHead | int]()
    for piece in pieces:
        buffer += piece
        at_once = buffer_of(bytes(buffer))
        read = outcome(buffer)
        assert read == outcome(at_once)
        assert bytes(buffer) == bytes(at_once)
        found += [read] if read else []
        if isinstance(read, int):
            break
    return found


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [b"GET / HTTP/1.1\r\nHost: m", b"POST /x HTTP/1.0", b"A: b", b"A", b":"]
            ),
            st.sampled_from([b"\r\n", b"\r\n\r\n", b"\r", b"\n", b" ", b"\t", b"\0"]),
            st.binary(max_size=3),
        ),
        max_size=30,
    )
)
def test_a_head_in_any_pieces_is_read_as_the_whole(pieces):
    with mock.patch.multiple(framing, HEAD_MAX_BYTES=70, HEAD_MAX_LINES=5):
        whole = outcome(buffer_of(b"".join(pieces)))
        first = next(iter(read_in_pieces(pieces)), None)
    if isinstance(whole, int):
        assert isinstance(first, int)  # what is malformed, too, may be too large first
    else:
        assert first == whole


@pytest.mark.parametrize("step", [1, 2, 3, 5])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\r\n"])
def test_heads_one_behind_the_other_are_read_in_any_pieces(before, step, monkeypatch):
    most = before + request(b"A: 1", b"B: 2")
    more = before + request(b"A: 1", b"B: 2", b"C: 3")
    monkeypatch.setattr(framing, "HEAD_MAX_LINES", most[len(before) :].count(b"\r\n") - 2)
    sent = most + before + request() + most + more
    pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
    *heads, refused = read_in_pieces(pieces)
    assert [len(head.fields) for head in heads] == [3, 1, 3]
    assert refused == 431


@pytest.mark.parametrize("step", [1, 2, 3])
def test_how_large_a_head_may_be_is_the_same_in_any_pieces(step, monkeypatch):
    monkeypatch.setattr(framing, "HEAD_MAX_BYTES", len(request(b"A: 1")) - 4)
    for head, is_taken in ((request(b"A: 1"), True), (request(b"A: 12"), False)):
        [read] = read_in_pieces([head[at : at + step] for at in range(0, len(head), step)])
        assert (read != 431) is is_taken


@pytest.mark.parametrize("piece", [b"x", b"\r\nA: b"])
def test_a_head_that_dribbles_in_is_looked_at_once(piece, monkeypatch):
    looked_at = 0

    def looking(text: bytes) -> bool:
        nonlocal looked_at
        looked_at += len(text)
        return is_ambiguous(text)

    monkeypatch.setattr(framing, "is_ambiguous", looking)
    monkeypatch.setattr(framing, "HEAD_MAX_LINES", 10_000)
    buffer = buffer_of(b"GET / HTTP/1.1\r\nHost: m\r\nA: ")
    for byte in piece * (20_000 // len(piece)) + b"\r\n\r\n":
        assert read_request_head(buffer) is None
        buffer += bytes([byte])
    assert read_request_head(buffer) is not None
    assert looked_at < 3 * 20_000


@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\nA: b"])
def test_a_second_carriage_return_is_not_waited_behind(before):
    assert read_request_head(buffer_of(before + b"\r")) is None
    with pytest.raises(MalformedHeadError):
        read_request_head(buffer_of(before + b"\r\r"))


def test_an_endless_head_is_too_large():
    with pytest.raises(MalformedHeadError) as caught:
        read_request_head(buffer_of(b"GET / HTTP/1.1\r\nA: " + b"x" * HEAD_MAX_BYTES))
    assert caught.value.status == 431
    with pytest.raises(MalformedHeadError) as caught:
        read_request_head(buffer_of(b"GET / HTTP/1.1\r\n" + b"A: 1\r\n" * 300))
    assert caught.value.status == 431
    with pytest.raises(MalformedAnswerError):
        read_response_head(buffer_of(b"HTTP/1.1 200 " + b"x" * (HEAD_MAX_BYTES + 1)), "GET")


def test_a_long_run_of_spaces_costs_no_time():
    line = b"A: b" + b" " * 60_000 + b"c"
    head = read_request_head(buffer_of(request(line)))
    assert head is not None
    assert len(head.value(b"a")) == 60_002


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"close", False),
        (b"1.1", b"Keep-Alive, Close", False),
        (b"1.0", b"", False),
        (b"1.0", b"Keep-Alive", True),
    ],
)
def test_who_says_what_becomes_of_the_connection(version, connection, expected):
    lines = [b"Connection: " + connection] if connection else []
    head = read_request_head(buffer_of(request(*lines, first=b"GET / HTTP/" + version)))
    assert head is not None
    assert head.keeps_alive is expected


@pytest.mark.parametrize(
    ("method", "head", "size"),
    [
        ("POST", b"HTTP/1.1 200 OK\r\nContent-Length: 7", 7),
        ("POST", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", None),
        ("POST", b"HTTP/1.1 200 OK", UNTIL_CLOSE),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7", 0),
        ("POST", b"HTTP/1.1 204 No Content", 0),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7", 0),
        ("POST", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1", 1),
    ],
)
def test_where_the_body_of_an_answer_ends(method, head, size):
    found = read_response_head(buffer_of(head + b"\r\n\r\n"), method)
    assert found is not None
    assert found.body_bytes == size
    assert found.keeps_alive is (size != UNTIL_CLOSE)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        b"HTTP/2 200",
        b"HTTP/1.1 200 OK\r\nA: b\rc",
        b"HTTP/1.1 200 a\rb",
        b"hello",
    ],
)
def test_what_is_no_answer(head):
    with pytest.raises(MalformedAnswerError):
        read_response_head(buffer_of(head + b"\r\n\r\n"), "POST")


@pytest.mark.parametrize("before", [b"\n", b"\r", b"\r\n\n", b"\n\r\n"])
def test_only_whole_empty_lines_before_a_request_are_ignored(before):
    assert read_request_head(buffer_of(b"\r\n\r\n" + request())) is not None
    with pytest.raises(MalformedHeadError):
        read_request_head(buffer_of(before + request()))


def test_empty_lines_without_end_are_refused():
    with pytest.raises(MalformedHeadError) as refused:
        read_request_head(buffer_of(b"\r\n" * (HEAD_MAX_BYTES // 2 + 1)))
    assert refused.value.status == 431


AMBIGUOUS = re.compile(rb"(?<!\r)\n|\r(?!\n)|\r\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b" ", b"\t", b"a", b"\0"])).map(b"".join))
def test_what_is_ambiguous_is_found_as_its_pattern_says(text):
    assert is_ambiguous(text) is bool(AMBIGUOUS.search(text))


@given(st.binary(max_size=20))
def test_any_control_character_but_the_tab_is_ambiguous(text):
    assert is_ambiguous(text) is bool(AMBIGUOUS.search(text))
