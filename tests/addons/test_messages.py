"""Heads as they come in and go out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.net.http import http1

from addons.messages import IndexedHeaders, framing, is_short, parse_request, parse_response


def request(version: str = "HTTP/1.1", **headers: str) -> http.Request:
    made = http.Request.make("POST", "http://m/", headers=headers)
    made.http_version = version
    return made


@pytest.mark.parametrize(
    ("version", "headers", "has_body", "expected"),
    [
        ("HTTP/1.1", [], True, [(b"transfer-encoding", b"chunked")]),
        ("HTTP/1.0", [], True, [(b"connection", b"close")]),
        ("HTTP/2.0", [], True, []),
        ("HTTP/1.1", [(b"content-length", b"5")], True, []),
        ("HTTP/1.1", [], False, []),
    ],
)
def test_the_end_of_a_body_is_told_in_the_clients_version(version, headers, has_body, expected):
    assert framing(request(version), headers, has_body=has_body) == expected


@pytest.mark.parametrize(
    ("length", "expected"), [("10", True), ("11", False), ("", False), ("x", False), ("-1", False)]
)
def test_a_short_body_is_one_that_says_so(length, expected):
    made = request()
    made.headers["content-length"] = length
    assert is_short(made, 10) is expected


# ---- as mitmproxy reads them, or stricter ---------------------------------------------------

HEADER_LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"A: 1", b"a:2", b"content-length: 5", b" folded", b"\tfolded", b"", b":x"]
        ),
        st.binary(max_size=12).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")),
    ),
    max_size=5,
)


def facts(message: http.Message) -> tuple[object, ...]:
    headers = message.headers
    return (
        headers.fields,
        message.http_version,
        *((headers.get(name), name in headers, headers.get_all(name)) for name in ("a", "A", "b")),
    )


@given(
    st.one_of(
        st.sampled_from(
            [b"HTTP/1.1 200 OK", b"HTTP/1.0 404", b"HTTP/1.1 500 a b", b"HTTP/1.1 2000"]
        ),
        st.binary(max_size=20).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")),
    ),
    HEADER_LINES,
)
def test_an_answers_head_is_read_as_mitmproxy_does(line, lines):
    try:
        ours = parse_response([line, *lines])
    except ValueError:
        return  # stricter is fine
    theirs = http1.read_response_head([line, *lines])
    assert facts(ours) == facts(theirs)
    assert (ours.status_code, ours.data.reason) == (theirs.status_code, theirs.data.reason)


@given(HEADER_LINES)
def test_a_requests_head_is_read_as_mitmproxy_does(lines):
    head = [b"POST /v1/x?y=z HTTP/1.1", *lines]
    try:
        theirs = http1.read_request_head(list(head))
    except (ValueError, IndexError):
        with pytest.raises(ValueError, match="line"):
            parse_request(head)
        return
    ours = parse_request(head)
    assert facts(ours) == facts(theirs)
    assert (ours.method, ours.path) == ("POST", "/v1/x?y=z") == (theirs.method, theirs.path)


def test_headers_that_are_changed_are_found_as_they_are():
    headers = IndexedHeaders([(b"A", b"1"), (b"b", b"\xff"), (b"a", b"2")])
    assert headers["a"] == headers.get("A") == "1, 2"
    assert headers["B"] == "\udcff"
    headers["a"] = "3"
    del headers["b"]
    assert (headers.get_all("A"), headers.get("b"), "b" in headers) == (["3"], None, False)
    assert headers.copy().fields == ((b"A", b"3"),)
    with pytest.raises(KeyError):
        headers["c"]
