"""The proxy where nobody looks. What it serves: all other tests of this folder, "direct"."""

import asyncio
import logging
import socket
import ssl
import threading
import time

import httpx
import pytest

from addons import production

HELLO = b"\x16\x03\x01\x02\x00\x01\x00"  # the beginning of a TLS handshake


@pytest.fixture
def way() -> str:
    """The way of the proxies of these tests."""
    return "direct"


@pytest.fixture
def slow_loading(monkeypatch):
    """mitmproxy is not loaded before this is set."""
    may_load = threading.Event()
    prepared = production._prepared

    def prepare(folder):
        assert may_load.wait(20)
        return prepared(folder)

    monkeypatch.setattr(production, "_prepared", prepare)
    yield may_load
    may_load.set()


def get(proxy) -> int:
    """Ask over TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with httpx.Client(verify=context, timeout=20) as client:
        return client.get(f"https://127.0.0.1:{proxy.port}/healthz").status_code


def wait_for(condition) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_speaks_tls_waits_for_mitmproxy_and_nobody_else(proxy, connect, slow_loading):
    statuses: list[int] = []
    asking = [threading.Thread(target=lambda: statuses.append(get(proxy))) for _ in range(2)]
    for thread in asking:
        thread.start()
    wait_for(lambda: proxy.connections == 2)
    assert proxy.addon._tls is None
    plain = connect()
    plain.request("/healthz", method="GET")
    assert plain.response()[0] == 200
    slow_loading.set()
    for thread in asking:
        thread.join(20)
    assert statuses == [200, 200]
    wait_for(lambda: proxy.connections == 1)


def test_who_waits_counts_as_a_client(proxy, connect, slow_loading, monkeypatch):
    monkeypatch.setattr(production, "MAX_CLIENTS", 1)
    waiting = connect()
    waiting.send(HELLO)
    wait_for(lambda: proxy.addon._waiting)
    assert connect().is_closed()


def test_who_waits_when_the_process_ends_is_closed(proxy, connect, slow_loading):
    waiting = connect()
    waiting.send(HELLO)
    wait_for(lambda: proxy.addon._waiting)
    drained = asyncio.run_coroutine_threadsafe(proxy.addon.drain(10), proxy._loop)
    assert waiting.is_closed()
    slow_loading.set()
    drained.result(5)


def test_what_cannot_be_loaded_closes_who_waits_and_is_tried_again(
    proxy, connect, monkeypatch, caplog
):
    prepared = production._prepared

    def broken(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(production, "_prepared", broken)
    client = connect()
    client.send(HELLO)
    assert client.is_closed()
    assert [record.message for record in caplog.records] == ["TLS cannot be served"]
    monkeypatch.setattr(production, "_prepared", prepared)
    assert get(proxy) == 200


async def test_what_nobody_catches_is_logged_without_what_it_quotes(caplog):
    async def fail() -> None:
        raise ValueError("sk-of-somebody")

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(production._say_unhandled)
    with caplog.at_level(logging.ERROR):
        task = loop.create_task(fail())
        await asyncio.wait([task])
        del task
    (record,) = caplog.records
    assert record.message == "Task exception was never retrieved"
    assert record.exc_info[0] is ValueError


async def test_what_uvloop_says_without_a_message_is_logged_as_well(caplog):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(production._say_unhandled)
    with caplog.at_level(logging.ERROR):
        loop.call_exception_handler({"exception": ValueError("sk-of-somebody")})
    (record,) = caplog.records
    assert record.exc_info[0] is ValueError
    assert "sk-of-somebody" not in record.message


def test_a_port_that_is_taken_is_an_error(proxy_type):
    async def listen() -> None:
        proxy = production.ProductionProxy(Nothing(), proxy_type.folder, proxy_type.authorities)
        try:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                proxy.listen("127.0.0.1", taken.getsockname()[1])
        finally:
            await proxy.close()

    with pytest.raises(OSError, match="in use"):
        asyncio.run(listen())


class Nothing:
    """A service that is not needed."""

    gateway = None

    async def close(self) -> None:
        pass
