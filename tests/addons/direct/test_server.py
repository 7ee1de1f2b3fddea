"""The listener: who is served here, who is handed to mitmproxy, and how it ends."""

import asyncio
import ssl
import threading
import time

import httpx
import pytest

from addons import production

PATH = "/api/proxy/openai/v1/chat/completions"
TOKEN = "sk-metrion-" + "0123456789abcdef" * 2


def test_tls_and_plain_http_share_the_port(proxy, connect, chat):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(verify=context, http2=True, timeout=10, headers=headers) as over_tls:
        answer = over_tls.post(f"https://127.0.0.1:{proxy.port}{PATH}", content=chat())
        assert answer.status_code == 200
        client = connect()
        client.request(PATH, chat())
        assert client.response()[0] == 200
        assert proxy.connections == 2
    assert [row["outcome"] for row in proxy.rows.wait(2)] == ["ok", "ok"]


def test_too_many_clients_are_turned_away_until_one_leaves(proxy, connect, chat, monkeypatch):
    monkeypatch.setattr(production, "MAX_CLIENTS", 2)
    clients = [connect() for _ in range(2)]
    for client in clients:
        client.request(PATH, chat())
        assert client.response()[0] == 200
    assert connect().is_closed()
    clients[0].close()
    deadline = time.monotonic() + 5
    while proxy.connections > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    client = connect()
    client.request(PATH, chat())
    assert client.response()[0] == 200


def drain(proxy, seconds: float) -> float:
    """Drain the proxy; returns how long it took."""
    before = time.monotonic()
    asyncio.run_coroutine_threadsafe(proxy.addon.drain(seconds), proxy._loop).result(20)
    return time.monotonic() - before


def test_draining_closes_idle_clients_and_waits_for_the_others(start_proxy, connect_to, chat):
    proxy = start_proxy(timeout_seconds=5)
    idle, busy = connect_to(proxy), connect_to(proxy)
    idle.request(PATH, chat())
    assert idle.response()[0] == 200
    busy.request(PATH, chat(stream=True), {"x-fake-events": "10", "x-fake-interval": "0.05"})
    assert busy.head()[0] == 200
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.extend(busy.chunks()))
    reader.start()
    assert drain(proxy, 10) < 5
    reader.join(5)
    assert received[-1].endswith(b"data: [DONE]\n\n")
    assert idle.is_closed()
    assert busy.is_closed()
    with pytest.raises(ConnectionRefusedError):
        connect_to(proxy)


def test_draining_takes_who_waits_at_the_listener(start_proxy, connect_to, chat):
    """Also when the process was busy when they came."""
    proxy = start_proxy(timeout_seconds=5)
    is_busy, go_on = threading.Event(), threading.Event()

    def be_busy() -> None:
        is_busy.set()
        go_on.wait(10)

    proxy._loop.call_soon_threadsafe(be_busy)
    assert is_busy.wait(5)
    clients = [connect_to(proxy) for _ in range(20)]
    for client in clients:
        client.request(PATH, chat())
    ended = asyncio.run_coroutine_threadsafe(proxy.addon.drain(5), proxy._loop)
    go_on.set()
    assert [client.response()[0] for client in clients] == [200] * 20
    ended.result(20)


@pytest.mark.parametrize("phase", ["no answer yet", "in the answer"])
def test_draining_does_not_wait_for_ever(start_proxy, connect_to, chat, provider, phase):
    proxy = start_proxy(timeout_seconds=5)
    client = connect_to(proxy)
    provider.clear()
    stalls = {"x-fake-stall": "head" if phase == "no answer yet" else "2"}
    client.request(PATH, chat(stream=True), stalls)
    if phase == "in the answer":
        assert client.head()[0] == 200
    while not provider.requests:
        time.sleep(0.01)
    assert drain(proxy, 0.2) < 5
    (row,) = proxy.rows.wait(1)
    assert (row["outcome"], row["error"]) == ("timeout", "Metrion is shutting down.")
    if phase == "in the answer":
        with pytest.raises(EOFError):
            list(client.chunks())
    else:
        assert client.response()[0] == 503
    assert client.is_closed()
