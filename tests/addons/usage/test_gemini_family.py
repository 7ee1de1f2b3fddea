import json

import pytest

from addons.usage.documents import WHOLE_BYTES
from addons.usage.gemini_family import usage_of
from storage.pricing import TokenUsage


def answer(text: str, metadata: dict, **candidate: object) -> dict:
    content = {"parts": [{"text": text}], "role": "model"}
    return {
        "candidates": [{"content": content, "index": 0, **candidate}],
        "usageMetadata": metadata,
        "modelVersion": "gemini-2.5-flash",
        "responseId": "nBZCaLSvJ5WH1MkPx9GGmQ0",
    }


METADATA = {
    "promptTokenCount": 3000,
    "cachedContentTokenCount": 2000,
    "candidatesTokenCount": 150,
    "thoughtsTokenCount": 850,
    "totalTokenCount": 4000,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 3000}],
    "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 2000}],
}
FIRST = answer(
    "Hel", {"promptTokenCount": 3000, "thoughtsTokenCount": 500, "totalTokenCount": 3500}
)
LAST = answer("lo", METADATA, finishReason="STOP")
USED = TokenUsage(3000, 2000, None, 1000, 850)


def sse(*answers: dict) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\r\n\r\n" for each in answers)


def test_cached_tokens_and_thoughts(metered, cost_of, usd):
    meter = metered("gemini.generate", json.dumps(LAST, indent=2).encode())
    assert meter.usage == USED
    assert (meter.model, meter.complete) == ("gemini-2.5-flash", True)
    assert cost_of("gemini", meter) == usd((1000, "0.3"), (2000, "0.03"), (1000, "2.5"))


def test_of_a_stream_the_last_count_holds(streamed, metered):
    meter = streamed("gemini.generate", sse(FIRST, FIRST, LAST))
    assert (meter.usage, meter.model, meter.complete) == (USED, "gemini-2.5-flash", True)
    array = json.dumps([FIRST, FIRST, LAST], indent=2).encode()
    meter = metered("gemini.generate", array)
    assert (meter.usage, meter.model, meter.complete) == (USED, "gemini-2.5-flash", True)


def test_a_stream_cut_in_the_middle_has_said_something(streamed, metered, cost_of, usd):
    meter = streamed("gemini.generate", sse(FIRST, FIRST, LAST)[:-400])
    assert meter.usage == TokenUsage(3000, 0, None, 500, 500)
    assert not meter.complete
    assert cost_of("gemini", meter) == usd((3000, "0.3"), (500, "2.5"))
    array = json.dumps([FIRST, FIRST, LAST], indent=2).encode()[:-700]
    meter = metered("gemini.generate", array)
    assert (meter.usage, meter.complete) == (TokenUsage(3000, 0, None, 500, 500), False)


def test_what_was_said_holds_when_an_object_says_nothing(metered):
    array = json.dumps([FIRST, LAST, {"candidates": []}]).encode()
    meter = metered("gemini.generate", array)
    assert (meter.usage, meter.model) == (USED, "gemini-2.5-flash")


def test_a_finish_reason_is_not_the_last_word(streamed):
    # it is one candidate's; another one may go on
    meter = streamed("gemini.generate", sse(FIRST, LAST))
    assert meter.complete
    assert not meter.heard_last_word


def test_what_tools_brought_in_is_input():
    assert usage_of(
        {"promptTokenCount": 20, "toolUsePromptTokenCount": 300, "candidatesTokenCount": 5}
    ) == TokenUsage(320, 0, None, 5, 0)


def test_a_count_that_is_missing_beside_a_prompt_is_zero():
    assert usage_of({"promptTokenCount": 20, "totalTokenCount": 20}) == TokenUsage(
        20, 0, None, 0, 0
    )
    assert usage_of({"candidatesTokenCount": 5}) == TokenUsage(None, 0, None, 5, 0)
    assert usage_of({"trafficType": "ON_DEMAND"}) is None
    assert usage_of({}) is None


def test_the_tier_that_served_the_request():
    usage = usage_of({"promptTokenCount": 20, "serviceTier": "priority"})
    assert usage == TokenUsage(20, 0, None, 0, 0, "priority")


def test_counts_by_modality():
    details = [
        {"modality": "TEXT", "tokenCount": 1},
        {"modality": "AUDIO", "tokenCount": 20},
        {"modality": "IMAGE", "tokenCount": 300},
        {"modality": "DOCUMENT", "tokenCount": 4000},  # its pages are pictures
        {"modality": "VIDEO", "tokenCount": 50_000},
        {"modality": "HOLOGRAM", "tokenCount": 600_000},
        {"modality": "AUDIO"},
    ]
    usage = usage_of(
        {
            "promptTokenCount": 1_000_000,
            "promptTokensDetails": details,
            "toolUsePromptTokensDetails": details[1:3],
        }
    )
    assert usage.extras == {
        "input_audio_tokens": 20 + 20,
        "input_image_tokens": 4300 + 300,
        "input_video_tokens": 50_000,
    }


def test_sound_and_pictures_have_prices_of_their_own(metered, cost_of, usd):
    metadata = {
        "promptTokenCount": 1300,
        "cachedContentTokenCount": 500,
        "candidatesTokenCount": 10,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 100},
            {"modality": "AUDIO", "tokenCount": 1200},
        ],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 500}],
    }
    meter = metered("gemini.generate", json.dumps(answer("", metadata)).encode())
    assert meter.usage.extras == {"input_audio_tokens": 1200, "cache_audio_read_tokens": 500}
    assert cost_of("gemini", meter) == usd((100, "0.3"), (700, "1"), (500, "0.1"), (10, "2.5"))

    drawn = {
        "promptTokenCount": 8,
        "candidatesTokenCount": 1300,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
    }
    body = {**answer("", drawn), "modelVersion": "gemini-2.5-flash-image"}
    meter = metered("gemini.generate", json.dumps(body).encode())
    assert cost_of("gemini", meter) == usd((8, "0.3"), (10, "2.5"), (1290, "30"))


PICTURE = "iVBORw0K" * WHOLE_BYTES


def test_an_event_with_a_picture_is_read_by_its_ends(streamed):
    picture = answer(PICTURE, METADATA, finishReason="STOP")
    meter = streamed("gemini.generate", sse(FIRST, picture))
    assert (meter.usage, meter.model, meter.complete) == (USED, "gemini-2.5-flash", True)
    # and a small one after it holds
    meter = streamed("gemini.generate", sse(picture, FIRST))
    assert meter.usage == TokenUsage(3000, 0, None, 500, 500)
    assert meter.complete


@pytest.mark.parametrize(
    ("ending", "complete"),
    [
        ({}, False),
        ({"finishReason": "STOP"}, True),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, True),
    ],
)
def test_an_event_with_a_picture_may_be_the_last(ending, complete, streamed):
    meter = streamed("gemini.generate", sse(answer(PICTURE, METADATA, **ending)))
    assert (meter.usage, meter.model, meter.complete) == (USED, "gemini-2.5-flash", complete)


def test_a_long_event_that_says_nothing_takes_nothing_back(streamed):
    picture = answer(PICTURE, METADATA)
    assert streamed("gemini.generate", sse(LAST, picture)).complete
    picture = {"candidates": [{**picture["candidates"][0], "finishReason": "STOP"}]}
    meter = streamed("gemini.generate", sse(FIRST, picture))
    assert meter.usage == TokenUsage(3000, 0, None, 500, 500)
    assert (meter.model, meter.complete) == ("gemini-2.5-flash", True)


def test_a_picture_that_was_cut_off_takes_back_nothing(streamed):
    cut = sse(FIRST, answer(PICTURE, METADATA, finishReason="STOP"))[:-100_000]
    meter = streamed("gemini.generate", cut)
    assert meter.usage == TokenUsage(3000, 0, None, 500, 500)
    assert (meter.model, meter.complete) == ("gemini-2.5-flash", False)


def test_a_long_list_is_read_by_its_ends(metered):
    body = json.dumps([FIRST] * 2000 + [LAST], indent=2).encode()
    assert len(body) > 2 * WHOLE_BYTES
    meter = metered("gemini.generate", body)
    assert (meter.usage, meter.complete) == (USED, True)


def test_a_blocked_prompt(streamed):
    blocked = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
        "modelVersion": "gemini-2.5-flash",
    }
    meter = streamed("gemini.generate", sse(blocked))
    assert (meter.usage, meter.complete) == (TokenUsage(9, 0, None, 0, 0), True)


def test_errors(metered, streamed):
    error = {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}
    for body in (error, [error]):
        meter = metered("gemini.generate", json.dumps(body).encode())
        assert (meter.error_message, meter.usage) == ("API key not valid.", None)
    meter = streamed("gemini.generate", sse(FIRST, error))
    assert (meter.error_message, meter.complete) == ("API key not valid.", False)
    call = {"functionCall": {"name": "f", "args": {"error": "none of the provider's"}}}
    meter = streamed("gemini.generate", sse(error, {"candidates": [{"content": [call]}]}))
    assert meter.error_message == "API key not valid."


def test_embeddings_without_a_count_are_not_reported(metered, cost_of, usd):
    body = {"embedding": {"values": [0.013168523, -0.008711934]}}
    assert metered("gemini.embed", json.dumps(body).encode()).usage is None
    body["usageMetadata"] = {"promptTokenCount": 7}
    meter = metered("gemini.embed", json.dumps(body).encode())
    assert meter.usage == TokenUsage(7, 0, None, 0, 0)


def test_counting_tokens_uses_nothing(metered):
    meter = metered("gemini.count_tokens", b'{"totalTokens": 31}')
    assert meter.usage == TokenUsage(0, 0, 0, 0, 0)
