"""What contestants are sent, and how Metrion is set up to be measured."""

import json
from unittest.mock import sentinel

import pytest

from scripts.benchmarks.contestants import (
    EVENTS,
    Contestant,
    chat_request,
    metrion_environment,
    mitmdump,
)
from scripts.benchmarks.load import send_number
from scripts.fake_provider import FakeProvider
from scripts.fake_provider.knobs import Knobs
from storage import roles


@pytest.mark.parametrize("streamed", [False, True])
def test_all_contestants_get_the_same_body(streamed):
    requests = [
        chat_request(Contestant(name, sentinel.process, path, key), streamed=streamed, pace=0.01)
        for name, path, key in (("direct", "/v1/c", "sk-1"), ("metrion", "/api/c", "sk-2"))
    ]
    heads, bodies = zip(*(request.split(b"\r\n\r\n") for request in requests), strict=True)
    assert bodies[0] == bodies[1]
    assert json.loads(bodies[0]).get("stream", False) is streamed
    lines = heads[1].lower().split(b"\r\n")
    assert lines[0] == b"post /api/c http/1.1"
    fields = dict(line.split(b": ", 1) for line in lines[1:])
    assert int(fields[b"content-length"]) == len(bodies[1])
    assert fields[b"authorization"] == b"bearer sk-2"
    knobs = Knobs.parse(fields)
    assert (knobs.events, knobs.interval) == ((32, 0.01) if streamed else (None, 0.0))


def test_a_stored_answer_is_asked_for_by_a_header_alone():
    contestant = Contestant("metrion", sentinel.process, "/x", "sk-1")
    usual, cached = (chat_request(contestant, streamed=True, cached=each) for each in (False, True))
    assert cached == usual.replace(b"\r\n\r\n", b"\r\nx-metrion-cache: true\r\n\r\n")


async def test_mitmdump_passes_a_stream_as_it_comes(tmp_path):
    with FakeProvider() as provider, mitmdump(provider.origin, tmp_path, None) as process:
        bare = Contestant("mitmdump", process, "/v1/chat/completions", "sk-" + "x" * 20)
        request = chat_request(bare, streamed=True, pace=0.05)
        sample = await send_number(process.port, request, 1, 1)
    # it does not wait for the last of its events, each of which takes a twentieth of a second
    assert sample.first_bytes[0] < sample.whole[0] - EVENTS * 0.05 / 2


def test_the_proxy_gets_its_own_role(database):
    environment = metrion_environment(database.settings)
    assert roles.PROXY in environment["METRION_DATABASE_URL"]
