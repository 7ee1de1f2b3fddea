"""One worker answers for all: merged metrics, told apart, also of those who are silent."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from addons import fellow_workers
from addons.fellow_workers import HOST, Fellows


def registry(number: int) -> CollectorRegistry:
    """What a worker counts."""
    registry = CollectorRegistry()
    Counter("asked", "Requests", ["code"], registry=registry).labels("a").inc(number)
    Gauge("open", "Open now", registry=registry).set(10 * number)
    Histogram("took_seconds", "Times", buckets=(1, 2), registry=registry).observe(number)
    return registry


@asynccontextmanager
async def worker(reply):
    """Another worker's own port; `reply(path)` is what it answers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(await reply(head.split()[1].decode()))
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def second(path: str) -> bytes:
    assert path == "/metrics?worker=2"
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + generate_latest(registry(2))


async def broken(path: str) -> bytes:
    return b"HTTP/1.1 503 No\r\n\r\nnothing"


async def silent(path: str) -> bytes:
    await asyncio.sleep(60)
    return b""


def values(text: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_each_sample_says_whose_it_is():
    async with worker(second) as port:
        text = await Fellows(1, [1, port]).metrics(registry(1), "")
    found = values(text)
    assert found["metrion_worker_up", "1"] == found["metrion_worker_up", "2"] == 1
    assert (found["asked_total", "1", "a"], found["asked_total", "2", "a"]) == (1, 2)
    assert (found["open", "1"], found["open", "2"]) == (10, 20)
    assert found["took_seconds_count", "2"] == 1
    assert (found["took_seconds_bucket", "1", "1.0"], found["took_seconds_bucket", "1.0", "2"]) == (
        1,
        0,
    )
    # a family is named once, as Prometheus wants it
    for name in (b"asked_total", b"open", b"took_seconds"):
        assert text.count(b"# TYPE " + name + b" ") == 1
        assert text.count(b"# HELP " + name + b" ") == 1


@pytest.mark.parametrize("reply", [broken, silent, None])
async def test_who_does_not_answer_is_shown_as_such(reply, monkeypatch):
    monkeypatch.setattr(fellow_workers, "ASK_SECONDS", 0.2)
    async with worker(reply or broken) as port:
        fellows = Fellows(1, [1, port if reply else 1])  # on port 1 nobody listens
        found = values(await fellows.metrics(registry(1), ""))
        assert found["metrion_worker_up", "2"] == 0
        assert found["open", "1"] == 10
        assert ("open", "2") not in found
        assert await fellows.metrics(registry(1), "worker=2") is None


async def test_one_alone_can_be_asked_for():
    async with worker(second) as port:
        fellows = Fellows(1, [1, port])
        assert values(await fellows.metrics(registry(1), "worker=1"))["open",] == 10
        assert values(await fellows.metrics(registry(1), "worker=2"))["open",] == 20
        for query in ("worker=3", "worker=0", "worker=", "worker=x", "other=1"):
            assert await fellows.metrics(registry(1), query) is None
