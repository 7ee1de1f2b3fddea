"""What is large or long must not be felt by others: streams, memory, and the event loop's time.

Numbers are printed (`pytest -rP`); the limits asserted here leave room for a busy machine.
"""

import hashlib
import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jiter
import pytest

MEGABYTE = 1_000_000
BODIES = 8
BODY_BYTES = 20 * MEGABYTE
DENSE_BYTES = 16 * MEGABYTE
CHAT = "/api/proxy/openai/v1/chat/completions"
WISHES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]},
    "/api/proxy/v1/messages": {
        "model": "claude-opus-4-1",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    },
}


@pytest.fixture(scope="module")
def deployment(make_deployment):
    """One with the usual time-outs: 160 MB at once take a busy machine longer than short ones."""
    return make_deployment()


@pytest.fixture
def connect(deployment) -> Iterator[Any]:
    """Connections to the proxy, without any SDK between."""
    opened: list[http.client.HTTPConnection] = []

    def connect() -> http.client.HTTPConnection:
        address = urlsplit(deployment.proxy_url)
        opened.append(http.client.HTTPConnection(address.hostname, address.port, timeout=30))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.mark.parametrize("path", WISHES)
def test_each_event_arrives_before_the_next_is_sent(connect, account, provider, path):
    # The provider sends n events, 20 ms apart, and then is silent: the n-th has to arrive although
    # nothing follows that could push it out. No clock can excuse one that is held back.
    body = json.dumps(WISHES[path] | {"stream": True})
    whole = provider_events(connect(), account, path, body)
    assert len(whole) > 10
    for count in range(1, 11):
        connection = connect()
        headers = headers_of(account) | {"x-fake-stall": str(count)}
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        events = [read_event(answer) for _ in range(count)]
        connection.close()
        assert [kind(event) for event in events] == [kind(event) for event in whole[:count]]


def provider_events(connection, account, path: str, body: str) -> list[bytes]:
    connection.request("POST", path, body, headers_of(account))
    answer = connection.getresponse()
    assert answer.status == 200
    return [event + b"\n\n" for event in answer.read().split(b"\n\n")[:-1]]


def read_event(answer: http.client.HTTPResponse) -> bytes:
    """One event, with not one byte of the next."""
    event = b""
    while not event.endswith(b"\n\n"):
        byte = answer.read(1)
        assert byte, event
        event += byte
    return event


def kind(event: bytes) -> Any:
    """What an event says, without what is new in every answer."""
    data = json.loads(event.partition(b"data: ")[2])
    return data.get("type"), data.get("delta"), data.get("choices")


def headers_of(account) -> dict[str, str]:
    return {
        "authorization": f"Bearer {account.token}",
        "content-type": "application/json",
        "x-fake-events": "12",
        "x-fake-interval": "0.02",
    }


class Memory:
    """The physical memory of a process, in megabytes (Linux: /proc)."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)

    @property
    def now(self) -> float:
        return self._field("VmRSS")

    @property
    def peak(self) -> float:
        """The most since `reset`."""
        return self._field("VmHWM")

    def reset(self) -> None:
        (self._folder / "clear_refs").write_text("5")

    def _field(self, name: str) -> float:
        status = (self._folder / "status").read_text()
        kibibytes = status.partition(f"{name}:")[2].split()[0]
        return int(kibibytes) * 1024 / MEGABYTE


def test_memory_while_large_bodies_pass(deployment, connect, account, provider):
    image = "data:image/png;base64," + "iVBORw0KGgo+" * (BODY_BYTES // 12)
    content = [{"type": "image_url", "image_url": {"url": image}}]
    wish = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}]}
    body = json.dumps(wish).encode()
    memory = Memory(deployment.ready["pids"]["proxy"])
    before = memory.now
    # one by one: what a process keeps for ever after is no part of what eight need at once
    assert send_at_once(connect, headers_of(account), body, 1) == [200]
    base = memory.now
    memory.reset()
    begun = time.monotonic()
    assert send_at_once(connect, headers_of(account), body, BODIES) == [200] * BODIES
    seconds = time.monotonic() - begun
    grown = memory.peak - base
    print(  # noqa: T201 - the number is the point
        f"{BODIES} bodies of {len(body) / MEGABYTE:.0f} MB at once, in {seconds:.1f} s: "
        f"{before:.0f} MB, after one {base:.0f} MB, at most {memory.peak:.0f} MB "
        f"({grown / BODIES / len(body) * MEGABYTE:.1f} bodies each), in the end {memory.now:.0f} MB"
    )
    # each is there twice for a moment, the pieces that came and the whole, and one is parsed
    assert grown < BODIES * 3 * len(body) / MEGABYTE
    digests = {hashlib.sha256(request.body).digest() for request in provider.requests}
    assert digests == {hashlib.sha256(body).digest()}
    assert len(provider.requests) == BODIES + 1


def send_at_once(connect, headers: dict[str, str], body: bytes, count: int) -> list[int]:
    """Send a body `count` times; the last piece of each only when all others are there."""
    barrier = threading.Barrier(count)
    statuses: list[int] = []

    def send() -> None:
        connection = connect()
        connection.putrequest("POST", CHAT)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body[:-1])
        barrier.wait(30)
        connection.send(body[-1:])
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_a_large_dense_body_does_not_hold_up_others(deployment, connect, account, provider):
    some = itertools.repeat({"a": 1, "b": [2, 3], "c": "x"}, DENSE_BYTES // 33)
    wish = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "extra": list(some)}
    body = json.dumps(wish).encode()
    assert len(body) > DENSE_BYTES
    others = [deployment.create_account() for _ in range(12)]  # 100 requests a minute each
    with waits_of_small_requests(connect, others) as quiet:
        time.sleep(1)
    with waits_of_small_requests(connect, others) as waits:
        # the provider, who lives in this process, shall not parse it too
        (status,) = send_at_once(connect, headers_of(account) | {"x-fake-status": "200"}, body, 1)
    assert status == 200
    begun = time.monotonic()
    jiter.from_json(body, catch_duplicate_keys=True)
    parsing = time.monotonic() - begun
    print(  # noqa: T201 - the number is the point
        f"the longest of {len(waits)} small requests beside a dense body of "
        f"{len(body) / MEGABYTE:.0f} MB: {1000 * max(waits):.0f} ms "
        f"(alone: {1000 * max(quiet):.0f} ms of {len(quiet)}; to parse it takes {1000 * parsing:.0f} ms)"
    )
    assert max(waits) < parsing


@contextmanager
def waits_of_small_requests(connect, accounts) -> Iterator[list[float]]:
    """Small requests, one after the other, and how many seconds each took."""
    waits: list[float] = []
    is_over = threading.Event()
    body = json.dumps(WISHES[CHAT])

    def ask() -> None:
        connection = connect()
        for asker in itertools.cycle(accounts):
            begun = time.monotonic()
            connection.request("POST", CHAT, body, headers_of(asker))
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            waits.append(time.monotonic() - begun)
            if is_over.wait(0.005):
                return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield waits
    finally:
        is_over.set()
        thread.join()
