"""Traffic to a server that answers everything: what is noted of it, and that it stops."""

import asyncio
import itertools
from random import Random

from scripts.fake_provider import FakeProvider
from scripts.proof import calls
from scripts.proof.books import Expected, Seen
from scripts.proof.client import Answer
from scripts.proof.traffic import Person, Traffic, note, write_request

STORED = Person("anna@example.com", "sk-metrion-" + "a" * 32)
OWN = Person("bob@example.com", "sk-metrion-" + "b" * 32, {"openai": "sk-OWN-1"})
CALL = calls.Call("/api/proxy/openai/v1/chat/completions", b"{}", Expected("openai"))


def headers_of(request: bytes) -> dict[str, str]:
    _, *lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}


def test_a_request_in_both_modes():
    stored = headers_of(write_request(CALL, STORED))
    assert stored["authorization"] == f"Bearer {STORED.token}"
    assert "x-metrion-token" not in stored
    own = headers_of(write_request(CALL, OWN))
    assert (own["authorization"], own["x-metrion-token"]) == ("Bearer sk-OWN-1", OWN.token)
    assert own["x-metrion-user"] == "bob"
    assert (STORED.mode, OWN.mode) == ("stored", "pass-through")


def test_knobs_and_wishes_are_headers():
    call = calls.Call(
        "/x", b"abc", Expected("openai"), knobs={"stall": "1"}, headers={"x-metrion-cache": "true"}
    )
    found = headers_of(write_request(call, STORED))
    assert (found["x-fake-stall"], found["x-metrion-cache"]) == ("1", "true")
    assert found["content-length"] == "3"
    get = calls.Call("/x", None, Expected("openai"), method="GET")
    assert "content-length" not in headers_of(write_request(get, STORED))


def test_who_has_no_token_has_nobodys():
    call = calls.Call("/x", b"", Expected("openai"), with_token=False)
    for person in (STORED, OWN):
        request = write_request(call, person)
        assert person.token.encode() not in request
        assert b"sk-OWN" not in request


def test_what_is_noted_of_an_answer():
    seen = Seen("anna@example.com", "stored", Expected("openai"), 1.0)
    headers = {"x-metrion-request-id": "7", "x-metrion-cache": "HIT", "x-metrion-error": "x"}
    body = bytearray(b'{"id":"chatcmpl-00000000000000000000000a"}')
    note(seen, Answer(200, headers, body, whole=True), CALL)
    assert (seen.id, seen.cache, seen.code, seen.number) == ("7", "HIT", "x", 10)
    assert len(seen.digest) == 32
    note(seen, Answer(200, headers, body, whole=False), CALL)
    assert not seen.whole


def test_a_rate_is_kept_and_an_end_is_an_end():
    async def run() -> Traffic:
        traffic = Traffic([STORED, OWN], lambda: provider.origin, seed=1, rate=100, clients=5)
        traffic.shares.broken_answers = 0.0
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic.run())
            await asyncio.sleep(1)
            traffic.stop()
        return traffic

    OWN.own_keys = dict.fromkeys(("openai", "anthropic", "gemini", "mistral", "grok"), "sk-OWN-1")
    with FakeProvider() as provider:
        traffic = asyncio.run(run())
    assert 20 < len(traffic.seen) < 300
    assert all(seen.ended >= seen.began for seen in traffic.seen)
    assert {seen.person for seen in traffic.seen} == {STORED.email, OWN.email}
    assert {seen.hung for seen in traffic.seen} == {False}


def test_who_is_not_there_is_asked_again():
    asked = itertools.count()

    def url() -> str:
        next(asked)
        raise FileNotFoundError

    async def run() -> Traffic:
        traffic = Traffic([STORED], url, seed=1, rate=100, clients=2)
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic.run())
            await asyncio.sleep(0.3)
            traffic.stop()
        return traffic

    traffic = asyncio.run(run())
    assert traffic.seen == [], "who was not there was not asked"
    assert next(asked) > 2


def test_manners_follow_the_shares():
    traffic = Traffic([STORED], lambda: "", seed=1, rate=1, clients=1)
    traffic.shares.hang_ups = 1.0
    assert traffic._manners(Random(1), CALL).leaves != "stays"
    traffic.shares.hang_ups = traffic.shares.slow = 0.0
    assert traffic._manners(Random(1), CALL).leaves == "stays"
