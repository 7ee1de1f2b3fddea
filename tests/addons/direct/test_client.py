"""A client's connection: what it may send when, and how it ends."""

import asyncio
import contextlib
import io
import socket
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from addons.direct import client as client_module
from addons.direct.client import KEEP_ALIVE_SECONDS, ClientConnection
from addons.direct.provider import ProviderConnection
from addons.providers.base import Origin

PATH = "/api/proxy/openai/v1/chat/completions"
TOKEN = "sk-metrion-" + "0123456789abcdef" * 2
# More than the sockets of a slow client take, and than may wait for it before it is held back.
LARGE = 100_000


def wire(body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [
        f"POST {PATH} HTTP/{version}",
        "Host: m",
        f"Authorization: Bearer {TOKEN}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_requests_that_come_together_are_answered_one_after_the_other(client, chat, provider):
    client.send(wire(chat()) * 5)
    for _ in range(5):
        assert client.response()[0] == 200
    assert len(provider.requests) == 5


def test_a_request_may_come_byte_by_byte(client, chat):
    for byte in wire(chat()):
        client.send(bytes([byte]))
    assert client.response()[0] == 200


def test_a_chunked_request_is_whole_for_the_provider(client, chat, provider):
    body = chat()
    head = wire(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    half = len(body) // 2
    client.send(head)
    for piece in (body[:half], body[half:]):
        client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    client.send(b"0\r\nX-Trailer: dropped\r\n\r\n")
    assert client.response()[0] == 200
    assert provider.requests[0].body == body


@pytest.mark.parametrize(
    ("version", "header", "closes"),
    [
        ("1.1", "X: y", False),
        ("1.1", "Connection: close", True),
        ("1.0", "X: y", True),
        ("1.0", "Connection: keep-alive", False),
    ],
)
def test_a_connection_is_kept_or_closed_as_the_client_says(client, chat, version, header, closes):
    client.send(wire(chat(), header, version=version))
    assert client.response()[0] == 200
    if closes:
        assert client.is_closed()
    else:
        client.send(wire(chat()))
        assert client.response()[0] == 200


def test_a_stream_for_http_1_0_ends_with_the_connection(client, chat):
    client.send(wire(chat(stream=True), version="1.0"))
    status, headers = client.head()
    assert (status, headers["connection"]) == (200, "close")
    assert "transfer-encoding" not in headers
    assert client.file.read().endswith(b"data: [DONE]\n\n")


def test_much_more_than_a_request_while_that_is_under_way_closes(proxy, client, chat):
    client.send(wire(chat(), "x-fake-delay: 0.3"))
    client.send_until_closed(b"x" * 65536)
    assert proxy.rows.wait(1)[0]["outcome"] == "client_closed"


def test_a_client_that_says_nothing_is_closed(client):
    before = time.monotonic()
    assert client.is_closed()
    assert time.monotonic() - before < 5


def test_a_head_that_does_not_end_is_closed_also_on_a_kept_connection(client, chat):
    client.send(wire(chat()))
    assert client.response()[0] == 200
    client.send(b"POST / HTTP/1.1\r\n")
    assert client.is_closed()


def test_a_client_that_reads_slowly_holds_its_provider_back(start_proxy, connect_to, chat):
    """What is under way to it is bounded: the rest waits at the provider."""
    proxy = start_proxy(timeout_seconds=20)
    client = connect_to(proxy)
    client.request(PATH, chat(stream=True), {"x-fake-events": "200000"})
    client.head()
    time.sleep(0.3)
    direct = proxy.addon._direct
    (connection,) = direct._clients
    assert connection._transport.get_write_buffer_size() < 1024 * 1024
    body = b"".join(client.chunks())
    assert body.endswith(b"data: [DONE]\n\n")
    assert body.count(b"data: ") > 200_000


def slow_client(proxy) -> socket.socket:
    """A connection whose sockets, on both sides, take little before it is read."""
    (listener,) = proxy.addon._listeners
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # of what it accepts, too
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(10)
    raw.connect(("127.0.0.1", proxy.port))
    return raw


def read_length(answers: io.BufferedReader) -> int:
    """Read one answer with a content-length; returns how long its body is."""
    assert answers.readline().startswith(b"HTTP/1.1 200")
    length = 0
    while (line := answers.readline().lower()) != b"\r\n":
        if line.startswith(b"content-length:"):
            length = int(line.split()[1])
    return len(answers.read(length))


def test_a_slow_clients_provider_is_not_held_back_for_the_next(start_proxy, connect_to, chat):
    proxy = start_proxy(timeout_seconds=2)
    with slow_client(proxy) as slow, slow.makefile("rb") as answers:
        slow.sendall(wire(chat(), f"x-fake-big: {LARGE}"))
        proxy.rows.wait(1)
        other = connect_to(proxy)
        other.request(PATH, chat())
        assert other.response()[0] == 200
        assert read_length(answers) > LARGE
        slow.sendall(wire(chat()))
        assert read_length(answers)


def test_who_does_not_take_its_answer_has_no_other_fetched(start_proxy, chat, provider):
    """What waits for a client is about one answer, however many it asks for."""
    proxy = start_proxy(timeout_seconds=5)
    provider.clear()
    with slow_client(proxy) as slow, slow.makefile("rb") as answers:
        for _ in range(4):
            slow.sendall(wire(chat(), f"x-fake-big: {LARGE}"))
        proxy.rows.wait(1)
        time.sleep(0.3)
        assert len(provider.requests) == 1
        for _ in range(4):
            assert read_length(answers) > LARGE
    assert len(provider.requests) == 4


@pytest.mark.parametrize("ending", ["hangs up", "sends much more"])
def test_the_usage_of_who_leaves_while_the_provider_is_held_back(start_proxy, chat, ending):
    proxy = start_proxy(timeout_seconds=5)
    with slow_client(proxy) as slow:
        slow.sendall(wire(chat(stream=True), "x-fake-events: 20000"))
        while not any(client._is_congested for client in proxy.addon._direct._clients):
            time.sleep(0.01)
        if ending == "sends much more":
            with contextlib.suppress(OSError):
                slow.sendall(b"x" * 300_000)
        else:
            slow.close()
        (row,) = proxy.rows.wait(1, 15)
    assert row["outcome"] == "client_closed"
    assert row["usage"].output_tokens > 0


def test_a_body_counts_until_the_provider_has_taken_it(start_proxy, connect_to, chat, monkeypatch):
    large, smaller = (chat(user="x" * length) for length in (16_000_000, 200_000))
    monkeypatch.setattr("addons.body_budget.ALL_BODIES_BYTES", len(large) + 100_000)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(10)
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        proxy = start_proxy(timeout_seconds=30, origins={"openai": origin})
        waits, other = connect_to(proxy), connect_to(proxy)
        waits.request(PATH, large)
        taken = stack.enter_context(listener.accept()[0])
        taken.settimeout(10)
        assert taken.recv(1, socket.MSG_PEEK)  # it was written
        other.request(PATH, smaller)
        assert other.response()[0] == 503
        with taken.makefile("rb") as said:
            while said.readline() != b"\r\n":
                pass
            assert said.read(len(large)) == large
            other.request(PATH, smaller)
            again = stack.enter_context(listener.accept()[0])
            assert again.recv(1, socket.MSG_PEEK)
            for connection in (taken, again):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            assert [each.response()[0] for each in (waits, other)] == [200, 200]
    assert proxy.gateway._bodies.held_bytes == 0


def test_who_reads_nothing_of_its_answer_does_not_rest_with_it(start_proxy, chat):
    proxy = start_proxy(timeout_seconds=0.5)
    with slow_client(proxy) as slow:
        slow.sendall(wire(chat(), f"x-fake-big: {LARGE}"))
        proxy.rows.wait(1)
        deadline = time.monotonic() + 15
        while proxy.connections and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not proxy.connections


@pytest.fixture
async def reader(monkeypatch):
    """A client that is a made-up transport, whose answer has just been written; its clock."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(client_module.time, "monotonic", lambda: clock.now)
    policy = SimpleNamespace(idle_timeout=5.0)
    door = SimpleNamespace(policy=policy, came=lambda _: True, left=lambda _: None)
    made = ClientConnection(door)
    made.connection_made(transport := Written())
    transport.unsent_bytes = 90_000
    made.pause_writing()
    made.dropped()
    yield made, transport, clock
    made._tick.cancel()


async def test_who_reads_its_answer_slowly_may_go_on_while_it_does(reader):
    made, transport, clock = reader
    for unsent in (80_000, 70_000):
        clock.now += 6
        transport.unsent_bytes = unsent
        made._ticked()
        assert not transport.is_aborted
        assert made._deadline == clock.now + 5
    clock.now += 6
    made._ticked()
    assert transport.is_aborted


async def test_who_has_read_its_answer_may_rest(reader):
    made, transport, clock = reader
    transport.unsent_bytes = 0
    made.resume_writing()
    clock.now += KEEP_ALIVE_SECONDS - 1
    made._ticked()
    assert not transport.is_aborted
    made.pause_writing()  # by its next answer
    transport.unsent_bytes = 90_000
    made.dropped()
    clock.now += 6
    transport.unsent_bytes = 80_000
    made._ticked()
    assert not transport.is_aborted


async def test_who_has_left_sets_no_timer_any_more(reader):
    made, _, _ = reader
    made.eof_received()
    made.resume_writing()
    assert made._tick._timer is None


# ---- connections that are being made --------------------------------------------------------


class Written(asyncio.Transport):
    """A connection that goes nowhere, and keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.is_aborted = False
        self.unsent_bytes = 0

    def write(self, data):
        self.data += data

    def abort(self):
        self.is_aborted = True

    def close(self):
        pass

    def get_write_buffer_size(self):
        return self.unsent_bytes


class Providers:
    """Connections to three providers: to `a` there is no way at all, to others when it is told.

    A connect that is given up comes to its end all the same, as one may at that very moment.
    """

    def __init__(self, proxy: Any) -> None:
        self._loop = proxy._loop
        self._made: dict[str, asyncio.Future[ProviderConnection]] = {}
        self.written: dict[str, Written] = {}
        self.given_up: list[str] = []
        proxy.addon._direct.pool.connect = self._connect

    async def _connect(self, origin: Origin) -> ProviderConnection:
        if origin.host == "a.example":
            raise OSError
        made = self._made[origin.host] = self._loop.create_future()
        try:
            await asyncio.shield(made)
        except asyncio.CancelledError:
            self.given_up.append(origin.host)
        return await made

    def wait_for(self, host: str) -> None:
        """Until somebody wants a connection."""
        deadline = time.monotonic() + 5
        while host not in self._made:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    async def _open(self, origin: Origin) -> ProviderConnection:
        connection = ProviderConnection(origin)
        connection.connection_made(transport := Written())
        self.written[origin.host] = transport
        self._made[origin.host].set_result(connection)
        for _ in range(5):
            await asyncio.sleep(0)
        return connection

    def open(self, host: str, answer: bytes = b"") -> Written:
        """There is a connection; what is asked on it, if anything, has an answer."""

        async def act() -> None:
            connection = await self._open(Origin("http", host, 80))
            if answer:
                connection.data_received(answer)

        run(self._loop, act)
        return self.written[host]


def run(loop: asyncio.AbstractEventLoop, act: Callable[[], Any]) -> None:
    asyncio.run_coroutine_threadsafe(act(), loop).result(5)


def test_a_connect_that_fails_at_once_does_not_hide_the_next_one(start_proxy, connect_to, chat):
    """The next one can still be given up, and what it brings is for its own request alone."""
    hosts = {"openai": "a", "mistral": "b", "grok": "c"}
    origins = {name: f"http://{letter}.example" for name, letter in hosts.items()}
    proxy = start_proxy(timeout_seconds=30, origins=origins)
    providers = Providers(proxy)
    client = connect_to(proxy)
    client.send(wire(chat()) + wire(chat()).replace(b"openai", b"mistral"))
    assert client.response()[0] == 502
    providers.wait_for("b.example")
    (connection,) = proxy.addon._direct._clients
    run(proxy._loop, connection.stop)
    assert client.response()[0] == 504
    client.send(wire(chat()).replace(b"openai", b"grok"))
    providers.wait_for("c.example")
    late = providers.open("b.example")
    assert providers.given_up == ["b.example"]
    assert (late.data, late.is_aborted) == (b"", True)
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    assert b"sk-REAL-grok-" in providers.open("c.example", answer).data
    assert client.response()[0] == 200


def test_many_requests_to_where_no_way_leads_are_answered_one_after_the_other(
    start_proxy, connect_to, chat
):
    origins = {"openai": "http://a.example"}
    proxy = start_proxy(timeout_seconds=30, rate_per_minute=1000, origins=origins)
    Providers(proxy)
    client = connect_to(proxy)
    client.send(wire(chat()) * 250)
    assert [client.response()[0] for _ in range(250)] == [502] * 250
