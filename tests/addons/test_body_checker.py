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


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"stream": True, "stream_options": {}}])
async def test_the_child_says_what_is_said_here(checker, fields):
    body = large(**fields)
    assert await checker.check(body, CHAT) == check_body(body, CHAT)
    assert checker._child is not None


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
