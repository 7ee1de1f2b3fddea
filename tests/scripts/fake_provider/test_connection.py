import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from scripts.fake_provider import FakeProvider

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode()
STREAM = BODY[:-1] + b',"stream":true}'


def request(body: bytes = BODY, **knobs: object) -> bytes:
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: h",
        "authorization: Bearer sk-real-0123456789",
        f"content-length: {len(body)}",
        *(f"x-fake-{name.replace('_', '-')}: {value}" for name, value in knobs.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[socket.socket]:
    address = ("127.0.0.1", int(provider.origin.rpartition(":")[2]))
    with socket.create_connection(address, timeout=10) as connected:
        yield connected


def read_answer(client: socket.socket) -> bytes:
    """Read one JSON answer by its length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65536)
    assert len(body) == length
    return head + b"\r\n\r\n" + body


def read_to_end(client: socket.socket) -> bytes:
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def test_a_connection_serves_one_request_after_another(
    provider: FakeProvider, client: socket.socket
):
    for _ in range(3):
        client.sendall(request())
        assert read_answer(client).startswith(b"HTTP/1.1 200 OK")
    first, second, third = provider.requests
    assert first.connection == second.connection == third.connection
    assert not any(each.pipelined for each in provider.requests)
    assert third.answered_at
    assert third.answered_at >= third.received_at >= first.received_at
    assert provider.connections_open == 1
    client.close()
    provider.wait_for(lambda it: it.connections_open == 0)
    assert provider.requests[-1].peer_closed_at


@pytest.mark.parametrize("delay", [0, 0.05])
def test_requests_sent_ahead_are_answered_in_order_and_marked(
    provider: FakeProvider, client: socket.socket, delay: float
):
    client.sendall(request(model="one", delay=delay) + request(model="two"))
    data = b""
    while data.count(b"chat.completion") < 2:
        data += client.recv(65536)
    assert data.index(b'"model":"one"') < data.index(b'"model":"two"')
    assert [each.pipelined for each in provider.requests] == [False, True]


def test_malformed_requests_are_refused_and_kept(provider: FakeProvider, client: socket.socket):
    client.sendall(b"GET /v1/models HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\nx : y\r\n\r\nrest")
    assert read_to_end(client).startswith(b"HTTP/1.1 400 Bad Request")
    (violation,) = provider.violations
    assert violation.reason == "malformed header line"
    assert violation.excerpt == b"rest"
    assert provider.requests == []


def test_a_client_may_ask_before_it_sends_a_body(client: socket.socket):
    head, _, body = request().partition(b"\r\n\r\n")
    client.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(body)
    assert read_answer(client).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("line", ["connection: close", "x-fake-connection: close"])
def test_the_connection_is_closed_when_asked(client: socket.socket, line: str):
    client.sendall(request().replace(b"host: h", b"host: h\r\n" + line.encode()))
    assert b"chat.completion" in read_to_end(client)


def test_a_head_has_no_body(client: socket.socket):
    asked = b"HEAD /v1/models HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
    client.sendall(asked)
    answer = read_to_end(client)
    assert b"content-length: " in answer
    assert answer.endswith(b"\r\n\r\n")


def test_an_answer_can_be_late(client: socket.socket):
    started = time.monotonic()
    client.sendall(request(delay=0.2))
    read_answer(client)
    assert time.monotonic() - started >= 0.2


def test_events_can_be_slow(client: socket.socket):
    begun = time.monotonic()
    client.sendall(request(STREAM, events=4, interval=0.03, framing="close"))
    answer = read_to_end(client)
    assert answer.count(b"data: ") == 4 + 3
    assert time.monotonic() - begun >= 6 * 0.03


def test_a_stream_can_stall(provider: FakeProvider, client: socket.socket):
    client.sendall(request(STREAM, stall=2))
    data = b""
    while data.count(b"data: ") < 2:
        data += client.recv(65536)
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert provider.requests[0].answered_at is None
    assert provider.requests[0].peer_closed_at is None
    client.close()
    provider.wait_for(lambda it: it.requests[0].peer_closed_at)


@pytest.mark.parametrize("where", ["head", "body", "1", "20b"])
def test_an_answer_can_break_off(provider: FakeProvider, client: socket.socket, where: str):
    client.sendall(request(STREAM, close=where))
    data = read_to_end(client)
    assert (data == b"") == (where == "head")
    assert not data.endswith(b"0\r\n\r\n")
    provider.wait_for(lambda it: it.connections_open == 0)
    assert provider.requests[0].peer_closed_at is None  # it was the provider that closed


def test_a_connection_can_be_reset(client: socket.socket):
    client.sendall(request(STREAM, close=1, close_with="rst"))
    assert client.recv(65536).startswith(b"HTTP/1.1 200")
    with pytest.raises(ConnectionResetError):
        read_to_end(client)


def test_what_is_not_http_at_all(client: socket.socket):
    client.sendall(request(garbage="text"))
    assert read_to_end(client).startswith(b"220 mail")


def test_a_slow_reader_gets_everything(http: httpx.Client):
    knobs = {"x-fake-big": "8000000", "x-fake-chunk": "65536", "x-fake-interval": "0.0001"}
    with http.stream("POST", "/v1/chat/completions", content=BODY, headers=knobs) as answer:
        time.sleep(0.3)
        size = sum(len(piece) for piece in answer.iter_raw())
    assert size == int(answer.headers["content-length"]) > 8_000_000


def test_interim_responses_are_understood(http: httpx.Client):
    answer = http.post(
        "/v1/chat/completions", content=BODY, headers={"x-fake-informational": "100,103"}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_compressed_answers_are_understood(http: httpx.Client, encoding: str):
    headers = {"x-fake-encoding": encoding, "x-fake-framing": "chunked"}
    answer = http.post("/v1/chat/completions", content=BODY, headers=headers)
    assert answer.headers["content-encoding"] == encoding
    assert answer.json()["object"] == "chat.completion"


def test_a_script_is_said_byte_for_byte_and_then_it_closes(provider, client):
    provider.scripts[b"7"] = [b"HTTP/1.1 200 O", b"K\r\n\r\n\x00\xff"]
    client.sendall(request(script=7))
    assert read_to_end(client) == b"HTTP/1.1 200 OK\r\n\r\n\x00\xff"
    assert len(provider.requests) == 1
