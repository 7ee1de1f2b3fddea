import os
from random import Random

from addons.usage import openai_family
from addons.usage_chunk import UsageChunkFilter
from scripts.proof.fuzzing import meter_in_process
from scripts.proof.fuzzing.answer_grammar import Said, valid
from scripts.proof.fuzzing.meter_in_process import (
    judge_answer,
    made_up,
    more_than,
    passes_differently,
    try_meter,
)
from storage.pricing import TokenUsage

FLAVOUR = "openai.chat"


def said(**changes) -> Said:
    data = valid(Random(1), FLAVOUR, streamed=True)
    made = Said(FLAVOUR, "text/event-stream", "", data, is_cut=False)
    return made._replace(**changes)


def test_all_is_well(tally):
    tally.planned = 300
    try_meter(tally, os.getpid())
    assert not tally.failures
    assert tally.forwarded > 30


def test_numbers_that_nobody_said_are_seen():
    usage = TokenUsage(7, None, None, 3, None)
    assert made_up(usage, b"7 3") is None
    assert made_up(usage, b"4 3 1e1") is None  # 7 is the sum of two
    assert made_up(TokenUsage(700, None, None, 3, None), b"4 3")
    assert more_than(usage, usage) is None
    assert more_than(usage, TokenUsage(6, None, None, 3, None))
    assert more_than(usage, None)


def test_planted_faults_are_seen(tally, monkeypatch):
    wholes = {FLAVOUR: None}
    judge_answer(tally, 1, said(), Random(1), wholes)
    assert not tally.failures
    judge_answer(tally, 1, said(is_cut=True), Random(1), wholes)
    assert tally.faults == {"wrong": 1}
    monkeypatch.setattr(openai_family, "count_of", lambda value: 123_456_789 if value else None)
    judge_answer(tally, 1, said(), Random(1), wholes)
    assert tally.faults == {"wrong": 2}
    monkeypatch.setattr(meter_in_process, "measured", None)
    judge_answer(tally, 1, said(), Random(1), wholes)
    assert tally.faults["crash"] == 1


def test_a_meter_that_fails_is_seen_although_it_raises_nothing(tally, monkeypatch):
    monkeypatch.setattr(openai_family, "usage_of", None)
    tally.planned = 20
    try_meter(tally, os.getpid())
    assert tally.faults["crash"] > 0


def test_a_filter_that_changes_bytes_is_seen(monkeypatch):
    data = said().data
    assert passes_differently(data, [data[:100], data[100:]]) is None
    feed = UsageChunkFilter.feed
    monkeypatch.setattr(UsageChunkFilter, "feed", lambda self, data: feed(self, data).upper())
    assert passes_differently(data, [data])
    monkeypatch.setattr(UsageChunkFilter, "feed", lambda _, data: data + b"!")
    assert passes_differently(data, [data])
