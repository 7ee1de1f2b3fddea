"""Heads that could be read in two ways reach no provider, and take nothing down."""

import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TOKEN = b"sk-metrion-" + b"0123456789abcdef" * 2
AUTH = b"Authorization: Bearer " + TOKEN + b"\r\n"
LINE = b"POST /api/proxy/openai/v1/chat/completions HTTP/1.1\r\n"
BODY = b'{"model":"gpt-4o","messages":[]}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
SMUGGLED = b"GET /api/proxy/openai/v1/models HTTP/1.1\r\nHost: m\r\n" + AUTH + b"\r\n"

MALFORMED = {
    "two lengths": LINE + b"Host: m\r\n" + AUTH + LENGTH + b"Content-Length: 5\r\n\r\n" + BODY,
    "two equal lengths": LINE + b"Host: m\r\n" + AUTH + LENGTH + LENGTH + b"\r\n" + BODY,
    "a list of lengths": LINE + b"Host: m\r\n" + AUTH + b"Content-Length: 5, 5\r\n\r\n" + BODY,
    "a signed length": LINE + b"Host: m\r\n" + AUTH + b"Content-Length: +5\r\n\r\n" + BODY,
    "length and chunked": LINE
    + b"Host: m\r\n"
    + AUTH
    + LENGTH
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "chunked twice": LINE
    + b"Host: m\r\n"
    + AUTH
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked misspelt": LINE
    + b"Host: m\r\n"
    + AUTH
    + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked for HTTP/1.0": LINE.replace(b"1.1", b"1.0")
    + AUTH
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bare LF": LINE + b"Host: m\n" + AUTH + LENGTH + b"\r\n" + BODY,
    "only bare LFs": (LINE + b"Host: m\r\n" + AUTH + LENGTH).replace(b"\r\n", b"\n") + b"\n" + BODY,
    "a bare CR": LINE + b"Host: m\r\nX: a\rb\r\n" + AUTH + LENGTH + b"\r\n" + BODY,
    "a folded line": LINE + b"Host: m\r\nX: a\r\n b\r\n" + AUTH + LENGTH + b"\r\n" + BODY,
    "NUL in a value": LINE + b"Host: m\r\nX: a\0b\r\n" + AUTH + LENGTH + b"\r\n" + BODY,
    "a control character": LINE + b"Host: m\r\nX: a\x01b\r\n" + AUTH + LENGTH + b"\r\n" + BODY,
    "a space before the colon": LINE + b"Host: m\r\nX : a\r\n" + AUTH + LENGTH + b"\r\n" + BODY,
    "a line without a colon": LINE + b"Host: m\r\nnonsense\r\n" + AUTH + LENGTH + b"\r\n" + BODY,
    "an empty name": LINE + b"Host: m\r\n: a\r\n" + AUTH + LENGTH + b"\r\n" + BODY,
    "no host": LINE + AUTH + LENGTH + b"\r\n" + BODY,
    "two hosts": LINE + b"Host: m\r\nHost: n\r\n" + AUTH + LENGTH + b"\r\n" + BODY,
    "absolute-form": b"POST http://api.openai.com/api/proxy/openai/v1/chat/completions HTTP/1.1\r\n"
    b"Host: m\r\n" + AUTH + LENGTH + b"\r\n" + BODY,
    "CONNECT": b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n"
    + AUTH
    + b"\r\n",
    "asterisk-form": b"OPTIONS * HTTP/1.1\r\nHost: m\r\n" + AUTH + b"\r\n",
    "a version that does not exist": LINE.replace(b"1.1", b"1.7")
    + b"Host: m\r\n"
    + AUTH
    + LENGTH
    + b"\r\n"
    + BODY,
    "HTTP/2 on an HTTP/1 connection": LINE.replace(b"1.1", b"2.0")
    + b"Host: m\r\n"
    + AUTH
    + LENGTH
    + b"\r\n"
    + BODY,
    "h2c with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an upgrade to h2c": LINE
    + b"Host: m\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    + b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    + AUTH
    + LENGTH
    + b"\r\n"
    + BODY,
    "a WebSocket": b"GET /api/proxy/openai/v1/models HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n" + AUTH + b"\r\n",
    "two spaces": LINE.replace(b"POST ", b"POST  ")
    + b"Host: m\r\n"
    + AUTH
    + LENGTH
    + b"\r\n"
    + BODY,
    "a tab for a space": LINE.replace(b"POST ", b"POST\t")
    + b"Host: m\r\n"
    + AUTH
    + LENGTH
    + b"\r\n"
    + BODY,
    "a path with a space": LINE.replace(b"/v1", b"/ v1")
    + b"Host: m\r\n"
    + AUTH
    + LENGTH
    + b"\r\n"
    + BODY,
    "TLS to a plain port": b"\x80\x2e\x01\x00\x02garbage\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_ambiguous_heads_are_refused_without_an_echo(name, proxy, client, provider, caplog):
    client.send(MALFORMED[name])
    status, headers = client.head()
    body = client.file.read()
    assert status == 400
    assert headers["connection"] == "close"
    assert json.loads(body)["error"]["code"] == "invalid_request"
    assert not provider.requests
    assert TOKEN not in body
    assert TOKEN.decode() not in caplog.text


@pytest.mark.parametrize("method", ["TRACE", "get", "post", "DELETE", "FOO"])
def test_other_methods_are_405(method, client, provider):
    client.request("/api/proxy/openai/v1/models", method=method)
    assert client.head()[0] == 405
    assert not provider.requests


@pytest.mark.parametrize(
    "path",
    [
        "/api/proxy/openai/../v1/models", "/api/proxy/openai/%2e%2e/v1/models",
        "/api/proxy//openai/v1/models", "//api/proxy/openai/v1/models",
        "/api/proxy/openai/v1/..\\models", "/api/proxy/openai/v1/models#x",
        "/api/proxy/openai/v1%2fmodels", "/api/proxy/openai/v1/./models",
        "/api/proxy/openai/v1/models/", "/api/proxy/openai/v1/modelsx",
        "/api/proxy/openaix/v1/models", "/api/proxy/openai@evil.example/v1/models",
        "/api/proxy/gemini/v1beta/models/..:generateContent",
        "/api/proxy/gemini/v1beta/models/a/b:generateContent",
        "/v1/models", "/",
    ],
)  # fmt: skip
def test_odd_paths_reach_nobody(path, client, provider):
    client.request(path, method="GET")
    assert client.head()[0] in (400, 404)
    assert not provider.requests


def test_an_endless_head_is_431(client, provider):
    client.send(LINE + b"Host: m\r\nX: ")
    client.send_until_closed(b"x" * 65536)
    assert not provider.requests


def test_a_head_that_is_too_long_is_431(client):
    client.send(LINE + b"Host: m\r\nX: " + b"x" * 70_000)
    assert client.head()[0] == 431


def test_too_many_header_lines_are_431(client):
    client.send(LINE + b"Host: m\r\n" + b"X: y\r\n" * 500 + b"\r\n")
    assert client.head()[0] == 431


def test_a_dribbled_head_is_closed(start_proxy, connect_to):
    client = connect_to(start_proxy(timeout_seconds=0.3))
    client.send(b"GET / HTT")
    assert client.is_closed()


def test_empty_lines_before_a_request_are_ignored(client):
    client.send(b"\r\n\r\nGET /healthz HTTP/1.1\r\nHost: m\r\n\r\n")
    assert client.response()[0] == 200


def test_pipelined_requests_are_answered_in_order(client, provider, chat):
    one = LINE + b"Host: m\r\n" + AUTH + LENGTH + b"\r\n" + BODY
    client.send(one + one.replace(b"openai", b"nobody") + one)
    assert [client.response()[0] for _ in range(3)] == [200, 404, 200]
    assert len(provider.requests) == 2


def test_trailers_of_a_chunked_body_are_dropped(client, provider):
    client.send(
        LINE + b"Host: m\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%s\r\n0\r\nX-Trailer: y\r\n\r\n" % (len(BODY), BODY)
    )
    assert client.response()[0] == 200
    assert provider.requests[0].body == BODY
    assert b"transfer-encoding" not in provider.requests[0].head.lower()


def test_a_malformed_chunk_is_not_forwarded(client, provider):
    client.send(LINE + b"Host: m\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n")
    assert client.is_closed()
    assert not provider.requests


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(1, 200), max_size=6, unique=True))
def test_any_split_of_head_and_body_gives_the_same_request(cuts, proxy, connect, provider):
    provider.clear()
    client = connect()
    request = LINE + b"Host: m\r\nX-Kept: y\r\n" + AUTH + LENGTH + b"\r\n" + BODY
    edges = [0, *sorted(cut for cut in cuts if cut < len(request)), len(request)]
    for start, end in itertools.pairwise(edges):
        client.send(request[start:end])
    assert client.response()[0] == 200
    client.close()
    assert provider.requests[0].body == BODY
    assert b"x-kept: y" in provider.requests[0].head


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(junk=st.binary(max_size=300))
def test_random_bytes_reach_nobody_and_break_nothing(junk, proxy, connect, provider, caplog):
    client = connect()
    client.send(junk + b"\r\n\r\n")
    client.socket.shutdown(1)
    client.file.read()
    client.close()
    assert not provider.requests
    assert "crash" not in caplog.text
