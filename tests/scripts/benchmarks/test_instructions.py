"""The budget of the request's way, in instructions: a busy machine does not move it."""

import asyncio
import os

import pytest

from scripts.benchmarks.instructions import (
    RECORDED,
    Instructions,
    count_instructions,
    exceeded,
    is_possible,
)
from scripts.fake_provider import FakeProvider
from scripts.installation import prepare_demo

PATH = "/api/proxy/openai/v1/chat/completions"


def test_requests_and_events_cost_no_more_than_they_did(database, tmp_path, table):
    if not is_possible():
        assert "CI" not in os.environ, "valgrind is not installed: see .ci/run"
        pytest.skip("valgrind is not installed")
    with FakeProvider() as provider:
        settings = database.settings.model_copy(
            update={"origins": {"openai": provider.origin}, "rate_per_minute": 1_000_000}
        )
        token = asyncio.run(prepare_demo(settings, database.keys)).token
        counted = count_instructions(settings, PATH, token, tmp_path)
    table(
        f"instructions: {counted.json:,} a JSON request, {counted.event:,} an event; "
        f"recorded: {RECORDED.json:,} and {RECORDED.event:,}"
    )
    # far less would be no request at all
    assert counted.json > RECORDED.json / 3
    assert counted.event > RECORDED.event / 3
    assert exceeded(counted) == []


def test_a_step_back_is_told():
    assert exceeded(RECORDED) == []
    (said,) = exceeded(Instructions(json=RECORDED.json, event=RECORDED.event * 2))
    assert said.startswith("event: ")
