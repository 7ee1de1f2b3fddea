"""Connections to providers: shared by all clients, one request at a time, and not for ever."""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from addons.direct import provider as provider_module
from addons.direct.provider import MAX_IDLE, REUSE_SECONDS, ProviderConnection, ProviderPool
from addons.event_loop import EventLoop
from addons.providers.base import Origin
from scripts.fake_provider.certificate import make_certificate

PATH = "/api/proxy/openai/v1/chat/completions"


def test_clients_that_connect_for_each_request_share_a_connection(connect, chat, provider):
    for _ in range(5):
        client = connect()
        client.request(PATH, chat())
        assert client.response()[0] == 200
        client.close()
    assert len({request.connection for request in provider.requests}) == 1


def test_requests_at_the_same_time_do_not(connect, chat, provider):
    clients = [connect() for _ in range(3)]
    for client in clients:
        client.request(PATH, chat(), {"x-fake-delay": "0.2"})
    for client in clients:
        assert client.response()[0] == 200
    assert len({request.connection for request in provider.requests}) == 3


@pytest.mark.parametrize("knobs", [{"x-fake-connection": "close"}, {"x-fake-framing": "close"}])
def test_a_connection_that_the_provider_ends_is_not_used_again(connect, chat, provider, knobs):
    for _ in range(3):
        client = connect()
        client.request(PATH, chat(), knobs)
        client.response()
    assert len({request.connection for request in provider.requests}) == 3
    assert not provider.violations


def test_the_next_request_does_not_wait_behind_a_body_that_nobody_reads(
    start_proxy, connect_to, chat
):
    """Each connection's request is answered early, its body left where it is."""

    def serve(count: int) -> None:
        for _ in range(count):
            connections.append(listener.accept()[0])
            connections[-1].recv(1)
            connections[-1].sendall(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\n{}")

    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        thread = threading.Thread(target=serve, args=(2,))
        thread.start()
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = connect_to(start_proxy(timeout_seconds=3, origins={"openai": origin}))
        for body in (chat(user="x" * 16_000_000), chat()):
            client.request(PATH, body)
            assert client.response()[0] == 413
        thread.join(10)
    for connection in connections:
        connection.close()


@pytest.fixture(params=["http reset", "https reset", "https closed"])
def hasty_provider(request):
    """A provider that ends every connection as soon as it is there."""
    scheme, ending = request.param.split()
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            connection, _ = listener.accept()
            if ending == "reset":
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    yield f"{scheme}://127.0.0.1:{port}"
    ended.set()
    socket.create_connection(("127.0.0.1", port)).close()
    thread.join(10)
    listener.close()
    assert not thread.is_alive()


def test_a_connection_that_ends_before_it_is_used_is_the_providers_fault(
    hasty_provider, start_proxy, connect_to, chat, caplog
):
    proxy = start_proxy(origins={"openai": hasty_provider})
    client = connect_to(proxy)
    for _ in range(40):
        client.request(PATH, chat())
        status, headers, _ = client.response()
        assert status == 502
        assert headers["x-metrion-error"] in {"provider_unreachable", "provider_error"}
    assert len(proxy.rows.wait(40)) == 40
    assert not caplog.records


class Transport(asyncio.Transport):
    """A connection that goes nowhere."""

    def __init__(self):
        super().__init__()
        self.is_aborted = False
        self.unsent_bytes = 0

    def abort(self):
        self.is_aborted = True

    def is_closing(self):
        return self.is_aborted

    def get_write_buffer_size(self):
        return self.unsent_bytes


def opened(origin: Origin) -> ProviderConnection:
    connection = ProviderConnection(origin)
    connection.connection_made(Transport())
    return connection


def test_a_provider_whose_name_is_none_cannot_be_reached(start_proxy, connect_to, chat):
    client = connect_to(start_proxy(origins={"openai": f"http://{'a' * 64}.example"}))
    client.request(PATH, chat())
    status, headers, _ = client.response()
    assert (status, headers["x-metrion-error"]) == (502, "provider_unreachable")


def test_a_connection_that_ended_before_its_request_had_a_turn_is_none(proxy, client, chat):
    async def connect(origin: Origin) -> ProviderConnection:
        connection = opened(origin)
        connection.connection_lost(None)
        return connection

    proxy.addon._direct.pool.connect = connect
    client.request(PATH, chat())
    status, headers, _ = client.response()
    assert (status, headers["x-metrion-error"]) == (502, "provider_unreachable")


HEARD = ("answer_head", "answer_data", "answer_end")
A, B = Origin("https", "a.example", 443), Origin("https", "b.example", 443)


@pytest.fixture
async def pool():
    made = ProviderPool(None)
    yield made
    made.close()


async def test_the_youngest_is_taken_first_and_never_another_origins(pool):
    first, second = opened(A), opened(A)
    pool.give_back(first)
    pool.give_back(second)
    assert pool.idle == 2
    assert pool.take(B) is None
    assert pool.take(A) is second
    assert pool.take(A) is first
    assert pool.take(A) is None


async def test_an_old_one_is_closed_instead(pool, monkeypatch):
    old = opened(A)
    pool.give_back(old)
    later = time.monotonic() + REUSE_SECONDS
    monkeypatch.setattr(provider_module.time, "monotonic", lambda: later)
    assert pool.take(A) is None
    assert old._transport.is_aborted


async def test_old_ones_that_nobody_takes_are_closed(pool, monkeypatch):
    monkeypatch.setattr(provider_module, "REUSE_SECONDS", 0.02)
    old = opened(A)
    pool.give_back(old)
    async with asyncio.timeout(5):
        while not old._transport.is_aborted:
            await asyncio.sleep(0.01)
    assert pool.idle == 0


async def test_no_more_than_a_bound_are_kept(pool):
    connections = [opened(A) for _ in range(MAX_IDLE + 1)]
    for connection in connections:
        pool.give_back(connection)
    assert connections[0]._transport.is_aborted
    assert pool.idle == MAX_IDLE


async def test_what_comes_unasked_closes(pool):
    connection = opened(A)
    pool.give_back(connection)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert connection._transport.is_aborted
    assert pool.take(A) is None


async def test_one_whose_provider_has_said_goodbye_is_not_taken(pool):
    """Also before the socket is closed, which is a turn of the loop later."""
    ended = opened(A)
    pool.give_back(ended)
    ended.eof_received()
    assert pool.idle == 0
    assert pool.take(A) is None
    assert ended._transport.is_aborted


@pytest.mark.parametrize("where", ["nowhere", "in TLS", "below"])
async def test_one_whose_request_has_not_left_is_not_kept(pool, where):
    """An answer may come before (401, 413, 429): the next request would wait behind the rest."""
    connection = opened(A)
    connection._transport = Transport()  # over TLS
    relay = SimpleNamespace(tell=lambda *_: None, **dict.fromkeys(HEARD))
    connection.take(relay, lambda: None, pool.give_back)
    stuck = {"in TLS": connection._transport, "below": connection._below}
    if where in stuck:
        stuck[where].unsent_bytes = 1
    connection.data_received(b"HTTP/1.1 429 Slowly\r\ncontent-length: 2\r\n\r\n{}")
    assert pool.take(A) is (connection if where == "nowhere" else None)
    assert connection._transport.is_aborted is (where != "nowhere")


async def test_a_request_never_goes_to_another_origin():
    """Its head holds a key."""
    connection = opened(A)
    written: list[bytes] = []
    connection._transport.write = written.append
    exchange = SimpleNamespace(method="GET", upstream_path="/", upstream_headers=[], origin=B)
    with pytest.raises(RuntimeError):
        connection.send(exchange, [(b"authorization", b"key of b")], b"")
    assert not written


# ---- over TLS -------------------------------------------------------------------------------

ANSWER_BYTES = 150_000
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@contextlib.contextmanager
def tls_provider(certificate: Path, *, says_goodbye: bool) -> Iterator[Origin]:
    """Answers one request with a body that ends with the connection, and closes at once."""
    listener = socket.create_server(("127.0.0.1", 0))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    def serve() -> None:
        plain, _ = listener.accept()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        speaker = context.wrap_bio(incoming, outgoing, server_side=True)

        def speak(act) -> None:
            while True:
                try:
                    act()
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    if not (data := plain.recv(65536)):
                        return
                    incoming.write(data)
                else:
                    plain.sendall(outgoing.read())
                    return

        with plain, contextlib.suppress(OSError):
            speak(speaker.do_handshake)
            speak(lambda: speaker.read(65536))
            speak(lambda: speaker.write(UNTIL_CLOSE + b"x" * ANSWER_BYTES))
            if says_goodbye:
                with contextlib.suppress(ssl.SSLWantReadError):
                    speaker.unwrap()
                plain.sendall(outgoing.read())

    thread = threading.Thread(target=serve)
    thread.start()
    yield Origin("https", "127.0.0.1", listener.getsockname()[1])
    thread.join(10)
    listener.close()
    assert not thread.is_alive()


class Reader:
    """Stands where a relay stands; has its provider held back as soon as the answer has begun."""

    def __init__(self, connection: ProviderConnection, hold_seconds: float) -> None:
        self._connection = connection
        self._hold_seconds = hold_seconds
        self.received = 0
        self.end = asyncio.get_running_loop().create_future()

    def tell(self, what, *details) -> None:
        what(*details)

    def answer_head(self, _head) -> None:
        if self._hold_seconds:
            self._connection.pause()
            loop = asyncio.get_running_loop()
            loop.call_later(self._hold_seconds, self._connection.resume)

    def answer_data(self, data: bytes) -> None:
        self.received += len(data)

    def answer_end(self) -> None:
        self.end.set_result("whole")

    def provider_failed(self, reason: str) -> None:
        self.end.set_result(reason)


def read_over_tls(origin: Origin, trusted: ssl.SSLContext, hold_seconds: float) -> tuple[str, int]:
    """How the answer ended, and how much of it there was."""

    async def ask() -> tuple[str, int]:
        pool = ProviderPool(trusted)
        connection = await pool.connect(origin)
        reader = Reader(connection, hold_seconds)
        connection.take(reader, lambda: None, lambda _: None)
        connection._transport.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(5):
            return await reader.end, reader.received

    return asyncio.run(ask(), loop_factory=EventLoop)


@pytest.mark.parametrize("hold_seconds", [0, 0.3])
def test_what_is_held_back_over_tls_is_not_lost_when_the_provider_closes(certificate, hold_seconds):
    trusted = ssl.create_default_context(cafile=certificate)
    with tls_provider(certificate, says_goodbye=True) as origin:
        assert read_over_tls(origin, trusted, hold_seconds) == ("whole", ANSWER_BYTES)


@pytest.mark.parametrize("hold_seconds", [0, 0.3])
def test_a_body_over_tls_that_ends_without_a_goodbye_is_cut_off(certificate, hold_seconds):
    trusted = ssl.create_default_context(cafile=certificate)
    with tls_provider(certificate, says_goodbye=False) as origin:
        end = read_over_tls(origin, trusted, hold_seconds)
    assert end == ("the body is cut off", ANSWER_BYTES)


def test_a_provider_whose_certificate_nobody_vouches_for_is_sent_nothing(certificate, caplog):
    with (
        tls_provider(certificate, says_goodbye=True) as origin,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        read_over_tls(origin, ssl.create_default_context(), 0)
    assert not caplog.records


async def test_tls_does_not_begin_on_a_connection_that_has_ended():
    connection = opened(A)
    connection._below.abort()
    with pytest.raises(ConnectionResetError):
        await connection.begin_tls(ssl.create_default_context())


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_a_handshake_that_nobody_waits_for_any_more_leaves_no_connection(certificate, turns):
    trusted = ssl.create_default_context(cafile=certificate)

    async def begin(port: int, listener: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()
        origin = Origin("https", "127.0.0.1", port)
        task = loop.create_task(ProviderPool(trusted).connect(origin))
        there, _ = await loop.run_in_executor(None, listener.accept)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        there.settimeout(5)
        with there:
            said = b""
            while data := await loop.run_in_executor(None, there.recv, 65536):
                said = data
            return said[:1]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        first = asyncio.run(begin(listener.getsockname()[1], listener), loop_factory=EventLoop)
    assert first in {b"", b"\x16"}
