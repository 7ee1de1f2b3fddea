"""The clients of the measurements, against a real server."""

import time

import pytest

from scripts.benchmarks.load import BadAnswerError, send_for, send_number
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
    sample = await send_for(port_of(provider), request(), 2, 0.5, interval=0.1, spread=0.1)
    # each at 0, 0.1 … 0.5; fewer on a machine that is busy
    assert 2 <= sample.requests <= 12
    assert time.perf_counter() - begun >= 0.4


@pytest.mark.parametrize("knob", ["x-fake-status: 429", "x-fake-close: body"])
async def test_anything_but_a_whole_200_ends_it(provider, knob):
    with pytest.raises(BadAnswerError):
        await send_number(port_of(provider), request(knob), 2, 20)
