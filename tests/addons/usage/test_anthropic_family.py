import json

from addons.usage.anthropic_family import usage_of
from storage.pricing import TokenUsage

USAGE = {
    "input_tokens": 2048,
    "cache_creation_input_tokens": 3000,
    "cache_read_input_tokens": 1800,
    "cache_creation": {"ephemeral_5m_input_tokens": 2544, "ephemeral_1h_input_tokens": 456},
    "output_tokens": 503,
    "service_tier": "standard",
}
MESSAGE = {
    "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [
        {"type": "text", "text": "Hi! My name is Claude."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"usage": {"input_tokens": 7}}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": USAGE,
}


def event(kind: str, **members: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


STARTED = {**MESSAGE, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 2}}
START = event("message_start", message=STARTED)
WORD = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"})
DELTA = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 503})
STOP = event("message_stop")
WHOLE_STREAM = START + event("ping") + WORD * 30 + DELTA + STOP


def test_message_with_cache_write_and_read(metered, cost_of, usd):
    meter = metered("anthropic.messages", json.dumps(MESSAGE).encode())
    # 2,048 fresh + 3,000 written + 1,800 read
    assert meter.usage == TokenUsage(
        6848, 1800, 3000, 503, None, "standard", {"cache_write_1h_tokens": 456}
    )
    assert (meter.model, meter.complete) == ("claude-sonnet-4-5-20250929", True)
    assert cost_of("anthropic", meter) == usd(
        (2048, "3"), (2544, "3.75"), (456, "6"), (1800, "0.3"), (503, "15")
    )


def test_long_context_costs_more_for_all_of_its_tokens(metered, cost_of, usd):
    usage = {"input_tokens": 150_000, "cache_read_input_tokens": 60_000, "output_tokens": 1000}
    meter = metered("anthropic.messages", json.dumps({**MESSAGE, "usage": usage}).encode())
    assert cost_of("anthropic", meter) == usd((150_000, "6"), (60_000, "0.6"), (1000, "22.5"))


def test_stream_takes_the_input_from_its_start_and_the_output_from_its_end(streamed, metered):
    meter = streamed("anthropic.messages", WHOLE_STREAM)
    assert meter.usage == metered("anthropic.messages", json.dumps(MESSAGE).encode()).usage
    assert (meter.model, meter.complete) == ("claude-sonnet-4-5-20250929", True)


def test_stream_cut_in_the_middle_has_said_what_the_input_was(streamed, cost_of, usd):
    meter = streamed("anthropic.messages", (START + WORD * 30)[:-20])
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (6848, 2)
    assert not meter.complete
    assert cost_of("anthropic", meter) == usd(
        (2048, "3"), (2544, "3.75"), (456, "6"), (1800, "0.3"), (2, "15")
    )


def test_later_counts_hold_and_null_is_no_news(streamed):
    usage = {
        "input_tokens": 2095,
        "cache_read_input_tokens": None,
        "output_tokens": 510,
        "output_tokens_details": {"thinking_tokens": 400},
        "server_tool_use": {"web_search_requests": 2},
    }
    meter = streamed("anthropic.messages", START + event("message_delta", usage=usage) + STOP)
    assert meter.usage == TokenUsage(
        2095 + 3000 + 1800,
        1800,
        3000,
        510,
        400,
        "standard",
        {"cache_write_1h_tokens": 456, "web_searches": 2},
    )


def test_web_searches_cost_ten_dollars_a_thousand(metered, cost_of, usd):
    usage = {
        "input_tokens": 100,
        "output_tokens": 10,
        "server_tool_use": {"web_search_requests": 3},
    }
    meter = metered("anthropic.messages", json.dumps({**MESSAGE, "usage": usage}).encode())
    assert cost_of("anthropic", meter) == usd((100, "3"), (10, "15"), (3, "10000"))


def test_fast_mode_has_its_own_price(metered, cost_of, usd):
    usage = {"input_tokens": 100, "output_tokens": 10, "service_tier": "standard", "speed": "fast"}
    message = {**MESSAGE, "model": "claude-opus-4-8", "usage": usage}
    meter = metered("anthropic.messages", json.dumps(message).encode())
    assert meter.usage.service_tier == "fast"
    assert cost_of("anthropic", meter) == usd((100, "10"), (10, "50"))


def test_compactions_are_added_to_what_the_message_counts():
    # https://platform.claude.com/docs/en/build-with-claude/compaction
    usage = {
        "input_tokens": 23000,
        "output_tokens": 1000,
        "iterations": [
            {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500},
            {"type": "message", "input_tokens": 23000, "output_tokens": 1000},
            {"type": "advisor_message", "model": "x", "input_tokens": 823, "output_tokens": 1612},
        ],
    }
    assert usage_of(usage) == TokenUsage(203000, None, None, 4500)


def test_output_alone_is_counted():
    assert usage_of({"output_tokens": 5}) == TokenUsage(None, None, None, 5)


def test_nothing_reported(metered, streamed):
    body = json.dumps({**MESSAGE, "usage": None}).encode()
    assert metered("anthropic.messages", body).usage is None
    assert streamed("anthropic.messages", WORD * 3).usage is None


def test_error_in_the_middle_of_a_stream(streamed):
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    meter = streamed("anthropic.messages", START + WORD + error)
    assert (meter.error_message, meter.complete) == ("Overloaded", False)
    assert meter.usage.input_tokens == 6848


def test_a_message_cut_off_or_too_long_is_read_by_its_ends(metered):
    assert metered("anthropic.messages", json.dumps(MESSAGE).encode()[:-2]).usage is not None
    long = {**MESSAGE, "content": [{"type": "text", "text": "word " * 200_000}]}
    meter = metered("anthropic.messages", json.dumps(long).encode())
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (6848, 503)
    assert (meter.model, meter.complete) == ("claude-sonnet-4-5-20250929", True)
    del long["usage"]
    meter = metered("anthropic.messages", json.dumps(long).encode())
    assert (meter.usage, meter.complete) == (None, True)


def test_counting_tokens_uses_nothing(metered):
    meter = metered("anthropic.count_tokens", b'{"input_tokens": 2095}')
    assert meter.usage == TokenUsage(0, 0, 0, 0, 0)
    refused = b'{"type":"error","error":{"type":"not_found_error","message":"model: nope"}}'
    meter = metered("anthropic.count_tokens", refused)
    assert (meter.usage, meter.error_message) == (None, "model: nope")
