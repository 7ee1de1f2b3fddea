"""The clients of the measurements, against a real server."""

import asyncio
import time

import pytest

from scripts.benchmarks.load import (
    BadAnswerError,
    Timetable,
    new_loop,
    send_for,
    send_number,
)
from scripts.fake_provider import FakeProvider

BODY = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}'


@pytest.fixture
def provider():
    with FakeProvider() as fake:
        yield fake


def request(*knobs: str, body: bytes = BODY) -> bytes:
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: m",
        "authorization: Bearer sk-" + "x" * 20,
    ]
    lines += [f"content-length: {len(body)}", *knobs]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def port_of(provider: FakeProvider) -> int:
    return int(provider.origin.rpartition(":")[2])


async def test_a_number_of_requests(provider):
    sample = await send_number(port_of(provider), request(), 4, 20)
    assert sample.requests == len(sample.first_bytes) == len(provider.requests) == 20
    assert provider.connections_accepted == 4
    assert 0 < sample.first_byte_ms < 60_000


@pytest.mark.parametrize("knob", ["x-fake-chunk: 50", "x-fake-framing: chunked"])
async def test_an_answer_in_pieces_is_one(provider, knob):
    sample = await send_number(port_of(provider), request(knob), 1, 3)
    assert sample.requests == len(provider.requests) == 3


async def test_for_some_time(provider):
    sample = await send_for(port_of(provider), request(), 2, 0.2)
    assert sample.requests == len(provider.requests) >= 2


async def test_no_faster_than_said(provider):
    begun = time.perf_counter()
    sample = await send_for(port_of(provider), request(), 2, 0.5, interval=0.1)
    # each once in every tenth; fewer on a machine that is busy
    assert 2 <= sample.requests <= 12
    assert time.perf_counter() - begun >= 0.4


@pytest.mark.parametrize("knob", ["x-fake-status: 429", "x-fake-close: body"])
async def test_anything_but_a_whole_200_ends_it(provider, knob):
    with pytest.raises(BadAnswerError):
        await send_number(port_of(provider), request(knob), 2, 20)


def moments(number: int, pause: range = range(0)) -> list[int]:
    """When the requests of one client leave, in milliseconds; it is held up in `pause`."""
    now = 0.0
    timetable = Timetable(number, 0.05, lambda: now)
    left: list[int] = []
    while len(left) < 100:
        now += timetable.wait()
        if pause and pause[0] <= now * 1000 < pause[-1]:
            now = pause[-1] / 1000
        left.append(round(now * 1000))
    return left


def test_there_is_one_request_in_each_interval_at_any_moment_of_it():
    left = moments(1)
    assert all(n * 50 <= at <= (n + 1) * 50 for n, at in enumerate(left))
    assert len({at % 50 for at in left}) > 30
    assert left == moments(1) != moments(2)


def test_clients_that_a_pause_has_thrown_together_do_not_walk_in_step():
    held_up = [moments(number, pause=range(1000, 1400)) for number in range(16)]
    later = [{at for at in left if at > 1450} for left in held_up]
    # of 84 each that are spread over 4,200 milliseconds
    assert all(len(later[0] & other) < 15 for other in later[1:])
    # what was due in the pause is not made up for: the one that waited, that of the interval in
    # which the pause ends, and those of two more
    assert all(len([at for at in left if 1399 <= at <= 1500]) <= 4 for left in held_up)


def test_timers_do_not_wait_for_whole_milliseconds():
    async def shortest() -> float:
        took: list[float] = []
        for _ in range(50):
            begun = time.perf_counter()
            await asyncio.sleep(0.0002)
            took.append(time.perf_counter() - begun)
        return min(took)

    assert asyncio.run(shortest(), loop_factory=new_loop) < 0.001
