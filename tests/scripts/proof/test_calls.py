"""What clients ask for: what is expected of each is what the fake provider says by itself."""

import json
import re
from random import Random

from scripts.fake_provider import routes
from scripts.fake_provider.delivery import plan
from scripts.fake_provider.wire import Request
from scripts.proof import calls
from scripts.proof.books import NOTHING, UNREPORTED
from storage.custom_prices import CustomPrices
from storage.pricing import PriceBook

DRAWN = [calls.draw(Random(number)) for number in range(400)]
UPSTREAM = (
    ("/api/proxy/openai", ""),
    ("/api/proxy/mistral", ""),
    ("/api/proxy/grok", ""),
    ("/api/proxy/gemini/v1beta/models/", "/v1beta/models/"),
    ("/api/proxy/gemini/v1/", "/v1beta/openai/"),
    ("/api/proxy", ""),
)


def provider_says(call) -> bytes:
    """The body of the provider's answer, every event of it."""
    path = next(
        there + call.path[len(here) :] for here, there in UPSTREAM if call.path.startswith(here)
    )
    fields = {b"authorization": b"Bearer sk-0123456789"}
    fields |= {b"x-goog-api-key": b"sk-0123456789"} if "/v1beta/models" in path else {}
    fields |= {b"anthropic-version": b"1"} if path.startswith("/v1/messages") else {}
    said = {name: value for name, value in call.knobs.items() if name in {"usage", "big", "events"}}
    fields |= {b"x-fake-" + name.encode(): value.encode() for name, value in said.items()}
    body = call.body or b""
    if call.expected.streamed and b"include_usage" not in body and b'"messages"' in body:
        body = _asked_for_usage(body, path)
    head = b"\r\n".join(name + b": " + value for name, value in fields.items())
    reply = routes.respond(Request(call.method, path, True, fields, head, body), 7)
    planned = plan(reply)
    assert planned.start.startswith(b"HTTP/1.1 200"), planned.start
    return b"".join(planned.pieces)


def _asked_for_usage(body: bytes, path: str) -> bytes:
    """As the gateway does for who is silent on it."""
    asked = json.loads(body)
    if "mistral" not in asked["model"] and "claude" not in asked["model"]:
        asked["stream_options"] = {"include_usage": True}
    return json.dumps(asked).encode()


def test_expected_tokens_are_those_that_the_provider_reports():
    for call in DRAWN:
        if call.expected.refusal is None:
            assert reported(provider_says(call)) == (call.expected.tokens.total or 0), call


def reported(said: bytes) -> int:
    """All tokens that an answer reports."""
    if b'"cache_creation_input_tokens"' not in said:
        numbers = re.findall(rb'"total_?[tT]oken(?:s|Count)":(\d+)', said)
        return int(numbers[-1]) if numbers else 0
    cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(
        int(re.findall(rb'"%s":(\d+)' % name.encode(), said)[-1])
        for name in ("input_tokens", *cached, "output_tokens")
    )


def test_ids_are_stable():
    assert calls.draw(Random(3)) == calls.draw(Random(3))


def test_all_kinds_are_drawn():
    refusals = {call.expected.refusal for call in DRAWN}
    assert refusals == {
        None, "invalid_request", "unknown_route", "method_not_allowed", "invalid_token",
    }  # fmt: skip
    assert {call.expected.provider for call in DRAWN} == {
        "openai", "anthropic", "gemini", "mistral", "grok",
    }  # fmt: skip
    assert {call.expected.streamed for call in DRAWN} == {True, False}
    assert any(call.is_cached for call in DRAWN)
    assert {call.expected.tokens for call in DRAWN} >= {NOTHING, UNREPORTED}


def test_stored_answers_are_asked_for_word_for_word():
    stored = [call for call in DRAWN if call.is_cached]
    assert len({call.body for call in stored}) < len(stored)
    assert all(not call.knobs for call in stored), "a knob would make it another request"


def test_a_broken_answer_is_not_judged_by_its_tokens():
    call = next(call for call in DRAWN if not call.is_cached)
    broken = calls.break_answer(call, Random(1))
    assert broken.expected.is_broken
    assert set(broken.knobs) > set(call.knobs)
    stored = next(call for call in DRAWN if call.is_cached)
    assert calls.break_answer(stored, Random(1)) is stored


def test_the_file_of_prices_is_one_that_metrion_reads(tmp_path):
    calls.write_prices(tmp_path / "prices.toml")
    assert CustomPrices.load(tmp_path / "prices.toml")
    assert PriceBook(tmp_path / "prices.toml")
