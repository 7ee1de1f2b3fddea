"""Inputs that nobody would send, without sockets: the mass of those of `scripts/test -m fuzz`.

What goes through the whole gateway here is judged by all that came of it; its parts alone are
compared with other readers of the same bytes. See test_fuzz.py.
"""

import asyncio
import os
from typing import Any

import pytest

from scripts.proof.fuzzing.answers_in_process import try_answers
from scripts.proof.fuzzing.bodies_in_process import try_bodies
from scripts.proof.fuzzing.callers import Callers, new_account
from scripts.proof.fuzzing.heads_in_process import try_heads
from scripts.proof.fuzzing.meter_in_process import try_meter
from scripts.proof.fuzzing.requests_in_process import try_requests
from scripts.proof.fuzzing.tally import Tally
from storage.tokens import new_token

SEED = int(os.environ.get("FUZZ_SEED", "12"))


def numbers(short: int, long: int) -> Any:
    """The two lengths of a test."""
    return pytest.mark.parametrize(
        "inputs",
        [pytest.param(short, id="short"), pytest.param(long, id="long", marks=pytest.mark.fuzz)],
    )


@pytest.fixture
def callers() -> Callers:
    """Two that may call, one whose month is used up, and one that is unknown."""
    used_up = new_account()
    return Callers(
        (new_account(), new_account()),
        (used_up.token, new_token()),
        tuple(used_up.keys.values())[:1],
    )


@numbers(600, 100_000)
def test_requests_through_the_whole_gateway(inputs, callers, count):
    tally = Tally("HTTP/1.1 requests, no sockets", SEED, inputs)
    asyncio.run(try_requests(tally, callers, os.getpid()))
    count(tally)
    assert tally.forwarded > inputs // 10


@numbers(2_000, 290_000)
def test_heads_and_chunks_are_read_as_a_strict_reader_reads_them(inputs, callers, count):
    tally = Tally("HTTP/1.1 heads and chunks", SEED, inputs)
    try_heads(tally, callers, os.getpid())
    count(tally)
    assert tally.forwarded > inputs // 10


@numbers(3_000, 370_000)
def test_json_bodies_are_taken_or_refused_by_the_rules(inputs, count):
    tally = Tally("JSON bodies", SEED, inputs)
    try_bodies(tally, os.getpid())
    count(tally)
    assert tally.forwarded > inputs // 10


@numbers(1_500, 180_000)
def test_the_meter_makes_nothing_up(inputs, count):
    tally = Tally("answers, for the meter", SEED, inputs)
    try_meter(tally, os.getpid())
    count(tally)
    assert tally.forwarded > inputs // 10


@numbers(300, 30_000)
def test_answers_through_the_whole_gateway(inputs, callers, count):
    tally = Tally("answers, no sockets", SEED, inputs)
    asyncio.run(try_answers(tally, callers, os.getpid()))
    count(tally)
