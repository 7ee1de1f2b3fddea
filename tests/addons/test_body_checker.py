"""Large bodies are checked in a process of their own, like small ones."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest

from addons import body_checker
from addons.body_checker import BodyChecker
from addons.outcome import Refused
from addons.providers.openai import PROVIDER
from addons.validation import check_body

CHAT = PROVIDER.endpoints[0]


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


@pytest.fixture
async def checker():
    checker = BodyChecker()
    yield checker
    await checker.close()


def large(**fields) -> bytes:
    padding = "x" * body_checker.LARGE_BODY_BYTES
    return json.dumps({"model": "gpt-4o", "messages": [], "padding": padding, **fields}).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stream": True},
        {"stream": True, "stream_options": {}},
        {"stream": True, "stream_options": None},
        {"stream": True, "stream_options": {"include_usage": False}},
    ],
)
async def test_the_child_says_what_is_said_here(checker, fields):
    body = large(**fields)
    facts = await checker.check(body, CHAT)
    assert facts == check_body(body, CHAT)
    assert checker._child is not None
    if facts.usage_wish:
        assert b'"include_usage":true' in facts.usage_wish.into(body)


@pytest.mark.parametrize("body", [large(messages=None), large()[:-1], b"[" + large() + b"]"])
async def test_the_child_refuses_what_is_refused_here(checker, body):
    with pytest.raises(Refused) as here:
        check_body(body, CHAT)
    with pytest.raises(Refused) as there:
        await checker.check(body, CHAT)
    assert there.value.message == here.value.message
    assert there.value.status == 400


async def test_the_child_digests_what_a_body_means(checker):
    body = large(messages=[{"content": "é"}])
    alone = check_body(body, CHAT, with_digest=True)
    assert len(alone.digest) == 64
    assert await checker.check(body, CHAT, with_digest=True) == alone
    written_otherwise = json.dumps(json.loads(body), ensure_ascii=False, indent=1).encode()
    assert await checker.check(written_otherwise, CHAT, with_digest=True) == alone
    assert (await checker.check(body, CHAT)).digest == ""


async def test_small_bodies_need_no_child(checker):
    await checker.check(b'{"model":"m","messages":[]}', CHAT)
    assert checker._child is None


async def test_a_body_that_is_to_be_digested_is_large_sooner(checker):
    padding = "x" * body_checker.LARGE_TO_DIGEST_BYTES
    body = json.dumps({"model": "m", "messages": [], "padding": padding}).encode()
    fitting = body.replace(b"x", b"", len(body) - body_checker.LARGE_TO_DIGEST_BYTES)
    await checker.check(body, CHAT)
    await checker.check(fitting, CHAT, with_digest=True)
    assert checker._child is None
    facts = await checker.check(body, CHAT, with_digest=True)
    assert checker._child is not None
    assert facts == check_body(body, CHAT, with_digest=True)


async def test_bodies_at_once_get_their_own_answers(checker):
    bodies = [large(model=f"m{number}") for number in range(5)]
    facts = await asyncio.gather(*(checker.check(body, CHAT) for body in bodies))
    assert [each.model for each in facts] == [f"m{number}" for number in range(5)]


async def test_a_child_that_died_is_replaced(checker):
    await checker.check(large(), CHAT)
    os.kill(checker._child.pid, signal.SIGKILL)
    await checker._child.wait()
    assert (await checker.check(large(), CHAT)).model == "gpt-4o"


async def test_a_child_that_dies_meanwhile_is_an_error_once(checker):
    await checker.check(large(), CHAT)
    os.kill(checker._child.pid, signal.SIGSTOP)
    checking = asyncio.create_task(checker.check(large(), CHAT))
    await asyncio.sleep(0.05)
    os.kill(checker._child.pid, signal.SIGKILL)
    with pytest.raises(OSError):  # noqa: PT011 - a broken pipe or an end, whichever comes first
        await checking
    assert (await checker.check(large(), CHAT)).model == "gpt-4o"


async def test_a_check_that_takes_too_long_is_refused_and_ended(checker, monkeypatch):
    await checker.check(large(), CHAT)
    child = checker._child
    os.kill(child.pid, signal.SIGSTOP)
    monkeypatch.setattr(body_checker, "_ANSWER_SECONDS", 0.05)
    with pytest.raises(Refused) as caught:
        await checker.check(large(), CHAT)
    assert (caught.value.status, caught.value.code) == (503, "unavailable")
    assert caught.value.retry_after == 1
    assert child.returncode == -signal.SIGKILL
    monkeypatch.undo()
    assert (await checker.check(large(), CHAT)).model == "gpt-4o"


async def test_those_before_are_not_waited_for_without_end(checker, monkeypatch):
    await checker.check(large(), CHAT)
    child = checker._child
    os.kill(child.pid, signal.SIGSTOP)
    first = asyncio.create_task(checker.check(large(model="first"), CHAT))
    await asyncio.sleep(0)
    monkeypatch.setattr(body_checker, "_TURN_SECONDS", 0.05)
    with pytest.raises(Refused) as caught:
        await checker.check(large(), CHAT)
    assert (caught.value.status, caught.value.code) == (503, "unavailable")
    # and the one before is served all the same
    os.kill(child.pid, signal.SIGCONT)
    assert (await first).model == "first"
    assert (await checker.check(large(), CHAT)).model == "gpt-4o"


async def test_the_loop_goes_on_while_a_dense_body_is_checked(checker):
    """4 MB of small objects: the loop never stands still for as long as parsing them takes."""
    some = [{"a": 1, "b": [2, 3]}] * 160_000
    body = json.dumps({"model": "m", "messages": [], "extra": some}).encode()
    started = time.process_time()
    check_body(body, CHAT)
    alone = time.process_time() - started
    await checker.check(large(), CHAT)  # the child is up
    cpu = time.process_time()
    await checker.check(body, CHAT)
    assert time.process_time() - cpu < alone / 2


async def test_the_child_is_given_no_environment(checker, monkeypatch):
    monkeypatch.setenv("METRION_MASTER_KEYS", "secret")
    await checker.check(large(), CHAT)
    assert "secret" not in environment_of(checker._child.pid)
