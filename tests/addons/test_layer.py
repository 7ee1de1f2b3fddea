"""One client connection with many requests: HTTP/2, reuse of providers' connections, bounds."""

import asyncio
import json
import socket
import ssl
import time

import h2.connection
import h2.errors
import h2.events
import httpx
import pytest

PATH = "/api/proxy/openai/v1/chat/completions"
TOKEN = "sk-metrion-" + "0123456789abcdef" * 2


class Http2Context(ssl.SSLContext):
    """Offers HTTP/2 alone; httpx would put HTTP/1.1 before it."""

    def set_alpn_protocols(self, alpn_protocols):
        super().set_alpn_protocols(["h2"])


@pytest.fixture
def http2_options(proxy):
    """What a client of httpx is made with so that it speaks HTTP/2 to the proxy."""
    context = Http2Context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return {
        "http1": False,
        "http2": True,
        "verify": context,
        "timeout": 10,
        "base_url": f"https://127.0.0.1:{proxy.port}",
        "headers": {"authorization": f"Bearer {TOKEN}"},
    }


@pytest.fixture
def http2(http2_options):
    with httpx.Client(**http2_options) as client:
        yield client


def test_requests_of_one_client_share_a_connection_to_the_provider(client, chat, provider):
    for _ in range(5):
        client.request(PATH, chat())
        assert client.response()[0] == 200
    assert len({request.connection for request in provider.requests}) == 1


def test_a_connection_that_the_provider_closed_is_not_used_again(client, chat, provider):
    for _ in range(3):
        client.request(PATH, chat(), {"x-fake-connection": "close"})
        assert client.response()[0] == 200
    assert len({request.connection for request in provider.requests}) == 3


def test_providers_never_share_a_connection(
    client, chat, provider, origins, start_proxy, connect_to
):
    """One client, two origins: each request goes to its own."""
    from scripts.fake_provider import FakeProvider  # noqa: PLC0415

    with FakeProvider() as other:
        origins["mistral"] = other.origin
        client = connect_to(start_proxy())
        for _ in range(2):
            client.request(PATH, chat())
            assert client.response()[0] == 200
            client.request("/api/proxy/mistral/v1/chat/completions", chat())
            assert client.response()[0] == 200
        assert len(other.requests) == len(provider.requests) == 2
        assert b"sk-REAL-mistral" in other.requests[0].head
        assert b"sk-REAL-openai" in provider.requests[0].head


async def test_http2_requests_run_side_by_side(http2_options, chat, provider, proxy, monkeypatch):
    """Twelve slow answers on one connection take less long than one after the other."""
    monkeypatch.setattr(proxy.gateway, "header_timeout", 20)  # a busy machine is no failure
    headers = {"x-fake-delay": "0.3"}
    started = time.monotonic()
    # not threads: they would share a TLS socket, which httpx does not guard
    async with httpx.AsyncClient(**http2_options) as http2:
        answers = await asyncio.gather(
            *(http2.post(PATH, content=chat(), headers=headers) for _ in range(12))
        )
        assert proxy.connections == 1
    assert [(each.status_code, each.http_version) for each in answers] == [(200, "HTTP/2")] * 12
    assert time.monotonic() - started < 12 * 0.3
    assert not provider.violations


def test_http2_streams(http2, chat):
    with http2.stream("POST", PATH, content=chat(stream=True)) as answer:
        assert answer.http_version == "HTTP/2"
        assert "".join(answer.iter_text()).endswith("data: [DONE]\n\n")


def test_http2_errors_leave_the_connection_good(http2, chat, proxy):
    for knobs, status in (
        ({"x-fake-stall": "head"}, 504),
        ({"x-fake-close": "head"}, 502),
        ({}, 200),
        ({"x-fake-status": "429"}, 429),
        ({}, 200),
    ):
        answer = http2.post(PATH, content=chat(), headers=knobs)
        assert (answer.status_code, answer.http_version) == (status, "HTTP/2")
    assert proxy.connections == 1


def test_an_http2_stream_that_falls_silent_is_reset(http2, chat, proxy):
    with (
        pytest.raises(httpx.RemoteProtocolError),
        http2.stream(
            "POST", PATH, content=chat(stream=True), headers={"x-fake-stall": "2"}
        ) as answer,
    ):
        answer.read()
    assert proxy.rows.wait(1)[0]["outcome"] == "timeout"
    assert http2.post(PATH, content=chat()).status_code == 200


def test_an_http2_body_without_a_length_is_framed(http2, provider):
    def body():
        yield b'{"model":"gpt-4o",'
        yield b'"messages":[]}'

    assert http2.post(PATH, content=body()).status_code == 200
    request = provider.requests[0]
    assert json.loads(request.body) == {"model": "gpt-4o", "messages": []}
    assert b"content-length: 32" in request.head.lower()
    assert not provider.violations


def test_http2_streams_are_drained_when_reset(proxy, chat):
    """httpx never resets a stream, so this speaks HTTP/2 itself."""
    context = Http2Context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([])
    body = chat(stream=True)
    with (
        socket.create_connection(("127.0.0.1", proxy.port), 10) as plain,
        context.wrap_socket(plain) as connection,
    ):
        http2 = h2.connection.H2Connection()
        http2.initiate_connection()
        head = {
            ":method": "POST",
            ":scheme": "https",
            ":authority": "metrion",
            ":path": PATH,
            "authorization": f"Bearer {TOKEN}",
            "x-fake-events": "8",
            "x-fake-interval": "0.03",
        }
        http2.send_headers(1, list(head.items()))
        http2.send_data(1, body, end_stream=True)
        connection.sendall(http2.data_to_send())
        received = []
        while not any(isinstance(event, h2.events.DataReceived) for event in received):
            received = http2.receive_data(connection.recv(65536))
            connection.sendall(http2.data_to_send())
        http2.reset_stream(1, h2.errors.ErrorCodes.CANCEL)
        connection.sendall(http2.data_to_send())
        row = proxy.rows.wait(1)[0]
    assert row["outcome"] == "client_closed"
    assert row["usage"].output_tokens > 0


def test_an_idle_connection_is_kept(client, chat):
    client.request(PATH, chat())
    assert client.response()[0] == 200
    time.sleep(1.0)  # longer than timeout_seconds, which is about requests
    client.request(PATH, chat())
    assert client.response()[0] == 200


def test_half_closed_clients_are_gone(client, chat, proxy):
    client.request(PATH, chat(), {"x-fake-delay": "0.2"})
    client.socket.shutdown(socket.SHUT_WR)
    assert proxy.rows.wait(1)[0]["outcome"] == "client_closed"


def test_what_is_no_tls_is_not_quoted_in_a_log(connect, caplog):
    client = connect()
    client.send(b"\x16\x03\x01\x00\xff" + TOKEN.encode() * 8)
    assert client.is_closed()
    assert "TLS handshake failed" in caplog.text
    assert TOKEN not in caplog.text
    assert TOKEN.encode().hex() not in caplog.text


@pytest.mark.parametrize("stays", [True, False])
def test_an_http2_request_that_is_reset_with_its_last_byte_goes_nowhere(
    http2_options, proxy, chat, provider, stays
):
    """It was forwarded, and a connection to its provider stayed open for good."""
    keyring = proxy.gateway._keyring
    find_caller = keyring._find_caller

    async def find_slowly(token):
        await asyncio.sleep(0.3)
        return await find_caller(token)

    keyring._find_caller = find_slowly
    speaker = h2.connection.H2Connection()
    speaker.initiate_connection()
    for stream in (1, 3, 5):
        head = [(":method", "POST"), (":scheme", "https"), (":authority", "m"), (":path", PATH)]
        speaker.send_headers(stream, [*head, ("authorization", f"Bearer {TOKEN}")])
        speaker.send_data(stream, chat(), end_stream=True)
        speaker.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
    context = http2_options["verify"]
    context.set_alpn_protocols([])
    with (
        socket.create_connection(("127.0.0.1", proxy.port), 10) as plain,
        context.wrap_socket(plain) as tls,
    ):
        tls.sendall(speaker.data_to_send())
        if not stays:
            tls.shutdown(
                socket.SHUT_WR
            )  # not closed: what it has not read would take all of it back
            while tls.recv(65536):
                pass
        rows = proxy.rows.wait(3)
    deadline = time.monotonic() + 10
    while proxy.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [row["outcome"] for row in rows] == ["client_closed"] * 3
    assert not provider.requests
    assert not provider.connections_open
