import os
from random import Random

from addons import framing
from scripts.proof.fuzzing import heads_in_process
from scripts.proof.fuzzing.heads_in_process import corpus, judge_reading, read, try_heads

ONE = b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"


def test_all_is_well(tally, callers):
    tally.planned = 300
    try_heads(tally, callers, os.getpid())
    assert not tally.failures
    assert tally.forwarded > 0
    assert corpus(1, callers) == corpus(1, callers)


def test_requests_are_read_until_one_is_none():
    assert read([ONE[:9], ONE[9:] + ONE + b"\0\r\n\r\n" + ONE]) == [("POST", "/a", b"{}")] * 2


def test_a_crash_and_a_lenient_reader_are_seen(tally, monkeypatch):
    lengths = ONE.replace(b"\r\ncontent", b"\r\ncontent-length: 3\r\ncontent")
    judge_reading(tally, 1, lengths, Random(1))
    assert not tally.failures
    monkeypatch.setattr(framing, "_length", lambda value: int(value[-1:]))
    judge_reading(tally, 1, ONE.replace(b": 2", b": +2"), Random(1))
    assert tally.faults == {"not admitted": 1}
    monkeypatch.setattr(heads_in_process, "read", None)
    judge_reading(tally, 1, ONE, Random(1))
    assert tally.faults == {"not admitted": 1, "crash": 1}


def test_a_reader_that_depends_on_the_pieces_is_seen(tally, monkeypatch):
    monkeypatch.setattr(heads_in_process, "read", lambda pieces: [("A", "/", b"")] * len(pieces))
    for seed in range(20):
        judge_reading(tally, 1, ONE, Random(seed))
    assert tally.faults["wrong"] > 0
