"""Connections to providers: shared by all clients, one request at a time, and not for ever."""

import asyncio
import socket
import struct
import threading
import time

import pytest

from addons.direct import provider as provider_module
from addons.direct.provider import MAX_IDLE, REUSE_SECONDS, ProviderConnection, ProviderPool
from addons.providers.base import Origin

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


@pytest.fixture
def hasty_provider():
    """A provider that resets every connection as soon as it is there."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            connection, _ = listener.accept()
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    ended.set()
    socket.create_connection(("127.0.0.1", port)).close()
    thread.join(10)
    listener.close()
    assert not thread.is_alive()


def test_a_connection_that_ends_before_it_is_used_is_the_providers_fault(
    hasty_provider, start_proxy, connect_to, chat
):
    proxy = start_proxy(origins={"openai": hasty_provider})
    client = connect_to(proxy)
    for _ in range(40):
        client.request(PATH, chat())
        status, headers, _ = client.response()
        assert status == 502
        assert headers["x-metrion-error"] in {"provider_unreachable", "provider_error"}
    assert len(proxy.rows.wait(40)) == 40


class Transport(asyncio.Transport):
    """A connection that goes nowhere."""

    def __init__(self):
        super().__init__()
        self.is_aborted = False

    def abort(self):
        self.is_aborted = True


def opened(origin: Origin) -> ProviderConnection:
    connection = ProviderConnection(origin)
    connection.connection_made(Transport())
    return connection


def test_a_connection_that_ended_before_its_request_had_a_turn_is_none(proxy, client, chat):
    async def connect(origin: Origin) -> ProviderConnection:
        connection = opened(origin)
        connection.connection_lost(None)
        return connection

    proxy.addon._direct.pool.connect = connect
    client.request(PATH, chat())
    status, headers, _ = client.response()
    assert (status, headers["x-metrion-error"]) == (502, "provider_unreachable")


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
