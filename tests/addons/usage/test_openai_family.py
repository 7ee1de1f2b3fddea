import json

from addons.usage import openai_family
from addons.usage.documents import EDGE_BYTES, WHOLE_BYTES, parse
from addons.usage.openai_family import usage_of
from storage.pricing import TokenUsage

CHAT = {
    "id": "chatcmpl-CKqYLJ7S6MnTb9KZ8GpWwV0rSxYzA",
    "object": "chat.completion",
    "created": 1780300800,
    "model": "gpt-5-2025-08-07",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": 'A "usage": {"prompt_tokens": 9} in the text does not count.',
                "refusal": None,
                "annotations": [],
            },
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 256,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "service_tier": "default",
    "system_fingerprint": None,
}


def chunk(**members: object) -> bytes:
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1780300800,
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        **members,
    }
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


WORD = chunk(choices=[{"index": 0, "delta": {"content": "word"}}], usage=None)
LAST = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=None)
USAGE = chunk(
    choices=[],
    usage={
        "prompt_tokens": 1100,
        "completion_tokens": 50,
        "total_tokens": 1150,
        "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
)
DONE = b"data: [DONE]\n\n"


def response_event(kind: str, number: int, **members: object) -> bytes:
    data = json.dumps({"type": kind, "sequence_number": number, **members})
    return f"event: {kind}\ndata: {data}\n\n".encode()


RESPONSE = {
    "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
    "object": "response",
    "status": "completed",
    "error": None,
    "model": "gpt-5-2025-08-07",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi there!"}]}],
    "service_tier": "default",
    "tools": [{"type": "function", "parameters": {"properties": {"usage": {"type": "string"}}}}],
    "usage": {
        "input_tokens": 5036,
        "input_tokens_details": {"cached_tokens": 4096, "cache_write_tokens": 0},
        "output_tokens": 1087,
        "output_tokens_details": {"reasoning_tokens": 1024},
        "total_tokens": 6123,
    },
}
RUNNING = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}


def test_chat_with_cached_and_reasoning_tokens(metered, cost_of, usd):
    meter = metered("openai.chat", json.dumps(CHAT).encode())
    assert meter.usage == TokenUsage(2006, 1920, None, 300, 256, "default")
    assert meter.usage.total_tokens == 2306
    assert (meter.model, meter.complete) == ("gpt-5-2025-08-07", True)
    # 86 fresh, 1,920 cached, 300 out (the reasoning is among them)
    assert cost_of("openai", meter) == usd((86, "1.25"), (1920, "0.125"), (300, "10"))


def test_chat_stream_counts_only_in_its_last_chunk(streamed, cost_of, usd):
    meter = streamed("openai.chat", WORD * 50 + LAST + USAGE + DONE)
    assert meter.usage == TokenUsage(1100, 1024, None, 50, 0, "default")
    assert (meter.model, meter.complete) == ("gpt-4o-2024-08-06", True)
    assert cost_of("openai", meter) == usd((76, "2.5"), (1024, "1.25"), (50, "10"))


def test_no_more_of_a_stream_is_parsed_than_must_be(streamed, monkeypatch):
    parsed = []
    monkeypatch.setattr(openai_family, "parse", lambda text: parsed.append(text) or parse(text))
    assert streamed("openai.chat", WORD * 50 + LAST + USAGE + DONE).usage is not None
    assert len(parsed) == 2  # the first for the model, and the one that counts


def test_usage_within_a_choice_is_another(streamed):
    choice = {"index": 0, "delta": {}, "usage": None}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    meter = streamed("openai.chat", WORD + chunk(choices=[choice], usage=usage))
    assert meter.usage == TokenUsage(3, None, None, 4, None, "default")


def test_what_a_stream_has_said_holds_when_a_later_chunk_does_not_say_it(streamed):
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    error = b'data: {"error": {"message": "Oops"}}\n\n'
    silent = chunk(model="", service_tier=None, usage=usage)
    assert streamed("openai.chat", WORD + silent).model == "gpt-4o-2024-08-06"
    meter = streamed("openai.chat", WORD + silent + error + WORD + USAGE)
    assert meter.usage == TokenUsage(1100, 1024, None, 50, 0, "default")
    assert (meter.model, meter.error_message) == ("gpt-4o-2024-08-06", "Oops")
    assert streamed("openai.chat", USAGE + error).usage == meter.usage


def test_a_chunk_too_long_to_be_kept_is_read_by_its_ends(streamed):
    sound = [{"index": 0, "delta": {"audio": {"data": "UklGR" * WHOLE_BYTES}}}]
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    meter = streamed("openai.chat", WORD + chunk(service_tier="flex", choices=sound, usage=usage))
    assert meter.usage == TokenUsage(3, None, None, 4, None, "flex")
    # one that says nothing takes nothing back
    silent = chunk(model=None, service_tier=None, choices=sound, usage=None)
    meter = streamed("openai.chat", WORD + silent + DONE)
    assert (meter.usage, meter.model, meter.complete) == (None, "gpt-4o-2024-08-06", True)
    meter = streamed("openai.chat", WORD + silent + chunk(service_tier=None, usage=usage))
    assert meter.usage == TokenUsage(3, None, None, 4, None, "default")


def test_done_may_have_spaces_behind_it(streamed):
    assert streamed("openai.chat", WORD + b"data: [DONE] \n\n").complete


def test_chat_stream_cut_in_the_middle_reports_nothing(streamed):
    meter = streamed("openai.chat", WORD * 50 + USAGE[:80])
    assert (meter.usage, meter.complete) == (None, False)
    assert meter.model == "gpt-4o-2024-08-06"


def test_chat_stream_without_usage_chunk_is_not_reported(streamed):
    meter = streamed("openai.chat", WORD * 3 + LAST + DONE)
    assert (meter.usage, meter.complete) == (None, True)


def test_zero_is_not_the_same_as_not_reported(metered):
    zeros = {**CHAT, "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}
    assert metered("openai.chat", json.dumps(zeros).encode()).usage == TokenUsage(
        0, None, None, 0, None, "default"
    )
    for nothing in (None, {}, [], "many", {"prompt_tokens": -1}, {"prompt_tokens": True}):
        body = json.dumps({**CHAT, "usage": nothing}).encode()
        assert metered("openai.chat", body).usage is None


def test_one_count_may_be_missing():
    assert usage_of({"input_tokens": 5, "output_tokens": 7}) == TokenUsage(5, None, None, 7)
    assert usage_of({"prompt_tokens": 5}) == TokenUsage(5)
    assert usage_of({"completion_tokens": 7, "total_tokens": 9}) == TokenUsage(output_tokens=7)


def test_a_total_says_what_the_other_counts_leave_out():
    def counted(total: int, **counts: int) -> tuple[int | None, int | None]:
        usage = usage_of({"prompt_tokens": 5, "total_tokens": total, **counts})
        return usage.output_tokens, usage.reasoning_tokens

    assert counted(5) == (0, None)
    assert counted(4) == (0, None)
    assert counted(12, completion_tokens=7) == (7, None)
    assert counted(13, completion_tokens=7) == (8, 1)
    assert counted(11, completion_tokens=7) == (7, None)
    # whether all of it was thought, nobody says
    assert counted(12, completion_tokens=0) == (7, None)
    # what is said of the reasoning holds
    details = {"completion_tokens_details": {"reasoning_tokens": 3}}
    assert counted(16, completion_tokens=7, **details) == (11, 3)


def test_pictures_and_seconds_of_sound_are_counted():
    usage = {
        "prompt_tokens": 400,
        "completion_tokens": 9,
        "prompt_tokens_details": {"image_tokens": 250},
        "prompt_audio_seconds": 12,
    }
    assert usage_of(usage).extras == {"input_image_tokens": 250, "input_audio_seconds": 12}


def test_an_unknown_model_has_tokens_and_no_cost(metered, cost_of):
    meter = metered(
        "openai.chat", json.dumps({**CHAT, "model": "ft:gpt-5:acme::7p4lURel"}).encode()
    )
    assert meter.usage.total_tokens == 2306
    assert cost_of("openai", meter) is None


def test_service_tier_that_served_the_request_sets_the_price(metered, cost_of, usd):
    meter = metered("openai.chat", json.dumps({**CHAT, "service_tier": "priority"}).encode())
    assert meter.usage.service_tier == "priority"
    assert cost_of("openai", meter) == usd((86, "2.5"), (1920, "0.25"), (300, "20"))


def test_audio_is_priced_as_audio(metered, cost_of, usd):
    usage = {
        "prompt_tokens": 200,
        "completion_tokens": 120,
        "total_tokens": 320,
        "prompt_tokens_details": {"audio_tokens": 150, "cached_tokens": 0},
        "completion_tokens_details": {"audio_tokens": 100, "reasoning_tokens": 0},
    }
    body = {**CHAT, "model": "gpt-audio", "usage": usage}
    meter = metered("openai.chat", json.dumps(body).encode())
    assert cost_of("openai", meter) == usd((50, "2.5"), (150, "32"), (20, "10"), (100, "64"))
    # the catalogue has no audio price for this one: unknown, not cheap
    body["model"] = "gpt-4o-audio-preview"
    assert cost_of("openai", metered("openai.chat", json.dumps(body).encode())) is None


def test_responses(metered, cost_of, usd):
    meter = metered("openai.responses", json.dumps(RESPONSE).encode())
    assert meter.usage == TokenUsage(5036, 4096, 0, 1087, 1024, "default")
    assert cost_of("openai", meter) == usd((940, "1.25"), (4096, "0.125"), (1087, "10"))


def test_responses_stream_counts_in_the_event_that_ends_it(streamed):
    body = (
        response_event("response.created", 0, response=RUNNING)
        + response_event("response.in_progress", 1, response=RUNNING)
        + response_event("response.output_text.delta", 2, delta="Hi") * 20
    )
    cut = streamed("openai.responses", body)
    assert (cut.usage, cut.model, cut.complete) == (None, "gpt-5-2025-08-07", False)
    for kind in ("response.completed", "response.incomplete"):
        meter = streamed("openai.responses", body + response_event(kind, 22, response=RESPONSE))
        assert meter.usage == TokenUsage(5036, 4096, 0, 1087, 1024, "default")
        assert meter.complete


def test_failed_response_stream_says_why(streamed):
    failed = {**RUNNING, "status": "failed", "error": {"code": "server_error", "message": "Oops."}}
    meter = streamed("openai.responses", response_event("response.failed", 1, response=failed))
    assert (meter.error_message, meter.usage, meter.complete) == ("Oops.", None, True)
    meter = streamed("openai.responses", response_event("error", 1, message="Broken.", code="x"))
    assert (meter.error_message, meter.complete) == ("Broken.", False)
    body = response_event("error", 1, message="Broken.") + response_event(
        "response.failed", 2, response=RUNNING
    )
    assert streamed("openai.responses", body).error_message == "Broken."


def test_a_last_event_with_a_picture_in_it_is_read_by_its_ends(streamed):
    picture = {"type": "image_generation_call", "result": "iVBORw0K" * WHOLE_BYTES}
    event = response_event("response.completed", 9, response={**RESPONSE, "output": [picture]})
    meter = streamed("openai.responses", event)
    assert meter.usage == TokenUsage(5036, 4096, 0, 1087, 1024, "default")
    assert (meter.model, meter.complete) == ("gpt-5-2025-08-07", True)


def test_the_model_that_began_is_known_if_the_last_event_does_not_name_it(streamed):
    begun = response_event("response.created", 0, response=RUNNING)
    for text in ("Hi", "word" * WHOLE_BYTES):
        output = [{"type": "message", "content": [{"type": "output_text", "text": text}]}]
        ended = response_event("response.completed", 9, response={"output": output})
        meter = streamed("openai.responses", begun + ended)
        assert (meter.usage, meter.model, meter.complete) == (None, "gpt-5-2025-08-07", True)


def test_embeddings_have_no_output_tokens_which_is_zero(metered, cost_of, usd):
    body = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.0023064255, -0.009327292]}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    meter = metered("openai.embeddings", json.dumps(body).encode())
    assert meter.usage == TokenUsage(8, None, None, 0, None)
    assert cost_of("openai", meter) == usd((8, "0.02"))
    body["usage"] = {"prompt_tokens": 8}
    meter = metered("openai.embeddings", json.dumps(body).encode())
    assert meter.usage == TokenUsage(8, None, None, 0, None)
    body["usage"] = {}
    assert metered("openai.embeddings", json.dumps(body).encode()).usage is None


def test_a_large_body_is_read_by_its_ends_wherever_usage_stands(metered):
    numbers = ", ".join(["-0.0123456789"] * 40_000)
    data = f'"data": [{{"object": "embedding", "index": 0, "embedding": [{numbers}]}}]'
    usage = '"model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}'
    assert len(data) > WHOLE_BYTES + 2 * EDGE_BYTES
    for body in (f'{{"object": "list", {data}, {usage}}}\n', f"{{{usage}, {data}}}"):
        meter = metered("openai.embeddings", body.encode())
        assert meter.usage == TokenUsage(8, None, None, 0, None)
        assert (meter.model, meter.complete) == ("text-embedding-3-small", True)


def test_a_body_that_was_cut_off_is_not_complete(metered):
    meter = metered("openai.chat", json.dumps(CHAT).encode()[:-40])
    assert not meter.complete
    assert meter.usage == TokenUsage(2006, 1920, None, 300, 256, None)
    assert metered("openai.chat", json.dumps(CHAT).encode()[:200]).usage is None


def test_grok_counts_reasoning_beside_the_completion(metered, cost_of, usd):
    # https://github.com/Wei-Shaw/sub2api/issues/5771; cost_in_usd_ticks is what xAI charged,
    # in units of 1e-10 USD: the hand-computed cost agrees with it to the last digit.
    usage = {
        "prompt_tokens": 10120,
        "completion_tokens": 1499,
        "total_tokens": 14428,
        "prompt_tokens_details": {"text_tokens": 10120, "cached_tokens": 128},
        "completion_tokens_details": {"reasoning_tokens": 2809},
        "num_sources_used": 0,
        "cost_in_usd_ticks": 232856000,
    }
    body = {**CHAT, "model": "grok-4.20-0309-reasoning", "usage": usage}
    meter = metered("openai.chat", json.dumps(body).encode())
    assert meter.usage == TokenUsage(10120, 128, None, 4308, 2809, "default")
    cost = cost_of("grok", meter)
    assert cost == usd((9992, "1.25"), (128, "0.2"), (4308, "2.5"))
    assert cost * 10**10 == usage["cost_in_usd_ticks"]


def test_gemini_compatible_endpoint_counts_thoughts_only_in_the_total(metered, cost_of, usd):
    usage = {"prompt_tokens": 21, "completion_tokens": 40, "total_tokens": 121}
    body = {**CHAT, "model": "gemini-2.5-flash", "usage": usage}
    meter = metered("openai.chat", json.dumps(body).encode())
    assert meter.usage == TokenUsage(21, None, None, 100, 60, "default")
    assert cost_of("gemini", meter) == usd((21, "0.3"), (100, "2.5"))
    # all of it thought, nothing said
    assert usage_of({"prompt_tokens": 21, "total_tokens": 81}) == TokenUsage(
        21, None, None, 81 - 21
    )


def test_mistral_counts_cached_tokens_in_several_spellings(metered, cost_of, usd):
    # https://docs.mistral.ai/studio-api/conversations/advanced/prompt-caching
    for spelling in (
        {"prompt_tokens_details": {"cached_tokens": 1008}},
        {"prompt_token_details": {"cached_tokens": 1008}},
        {"num_cached_tokens": 1008},
    ):
        usage = {"prompt_tokens": 1013, "total_tokens": 1043, "completion_tokens": 30, **spelling}
        body = {"id": "5b35cc2e", "model": "mistral-medium-2508", "usage": usage, "choices": []}
        meter = metered("openai.chat", json.dumps(body).encode())
        assert meter.usage == TokenUsage(1013, 1008, None, 30, None)
    assert cost_of("mistral", meter) == usd((5, "0.4"), (1008, "0.04"), (30, "2"))


def test_an_error_in_the_middle_of_a_stream(streamed):
    error = b'data: {"error": {"message": "The server had an error", "type": "server_error"}}\n\n'
    meter = streamed("openai.chat", WORD * 3 + error)
    assert (meter.error_message, meter.complete) == ("The server had an error", False)


def test_an_error_stands_within_the_first_64_bytes_of_an_event(streamed):
    # further behind it may be an answer's own: not looked for in each word of a stream
    for place, message in ((57, "Oops"), (58, None)):
        error = b'{"id": "'.ljust(place - 3, b"x") + b'", "error": {"message": "Oops"}}'
        meter = streamed("openai.chat", WORD + b"data: " + error + b"\n\n")
        assert meter.error_message == message


def test_a_list_of_models_uses_nothing(metered):
    meter = metered("openai.models", b'{"object": "list", "data": [{"id": "gpt-5"}]}')
    assert meter.usage == TokenUsage(0, 0, 0, 0, 0)
