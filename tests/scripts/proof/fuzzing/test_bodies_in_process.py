import os

import pytest

from addons import validation
from addons.validation import Splice
from scripts.proof.fuzzing import bodies_in_process
from scripts.proof.fuzzing.bodies_in_process import (
    NotAcceptableError,
    UnsureError,
    acceptable,
    is_spliced,
    judge_body,
    try_bodies,
)
from scripts.proof.fuzzing.callers import PROVIDERS

CHAT = PROVIDERS["openai"].endpoints[0]
GOOD = b'{"model":"m","messages":[],"stream":true}'


def test_all_is_well(tally):
    tally.planned = 400
    try_bodies(tally, os.getpid())
    assert not tally.failures
    assert tally.forwarded > 40


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b'{"model":"m"}', b'{"model":1,"messages":[]}', b'{"a":1,"a":2}',
        b'{"model":"m","messages":NaN}', b'{"model":"m","messages":"\\ud800"}', b"\xff",
    ],
)  # fmt: skip
def test_the_rules_refuse(body):
    with pytest.raises(NotAcceptableError):
        acceptable(body, CHAT)


def test_the_rules_know_what_they_do_not_know():
    deep = b'{"model":"m","messages":' + b"[" * 200 + b"]" * 200 + b"}"
    for body in (deep, b"[" * 100_000, b'{"a":' + b"9" * 4100 + b"}"):
        with pytest.raises(UnsureError):
            acceptable(body, CHAT)


def test_planted_faults_are_seen(tally, monkeypatch):
    judge_body(tally, 1, GOOD, CHAT)
    assert not tally.failures
    monkeypatch.setattr(Splice, "into", lambda _self, body: body)
    judge_body(tally, 1, GOOD, CHAT)
    assert tally.faults == {"wrong": 1}
    monkeypatch.undo()
    monkeypatch.setattr(validation, "_is_name", bool)
    judge_body(tally, 2, b'{"model":7,"messages":[]}', CHAT)
    assert tally.faults == {"wrong": 1, "not admitted": 1}
    monkeypatch.setattr(bodies_in_process, "check_body", None)
    judge_body(tally, 3, GOOD, CHAT)
    assert tally.faults["crash"] == 1


def asked(body):
    return validation.check_body(body, CHAT).usage_wish.into(body)


def test_what_is_sent_is_the_body_and_the_wish():
    assert is_spliced(GOOD, GOOD)
    assert is_spliced(GOOD, asked(GOOD))
    null = GOOD.replace(b"{", b'{"stream_options":null,', 1)
    assert is_spliced(null, asked(null))
    assert not is_spliced(GOOD, GOOD + b" ")
    assert not is_spliced(GOOD, asked(GOOD).replace(b'"m"', b'"n"'))
    assert not is_spliced(GOOD, GOOD.replace(b"{", b'{"x":1,"include_usage":true,', 1) + b" ")
