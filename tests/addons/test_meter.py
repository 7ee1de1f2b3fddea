import gzip
import itertools
import json
import logging
import tracemalloc
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from addons.meter import READERS, Meter
from addons.usage.reader import Reader
from storage.pricing import TokenUsage

CHAT_USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
MESSAGE = {
    "type": "message",
    "model": "claude-haiku-4-5-20251001",
    "content": [{"type": "text", "text": "żółć 🎉"}],
    "usage": {"input_tokens": 10, "output_tokens": 5},
}
CANDIDATE = {"content": {"parts": [{"text": "żółć 🎉\n"}]}, "finishReason": "STOP"}
GENERATED = {
    "candidates": [CANDIDATE],
    "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5},
    "modelVersion": "gemini-2.5-flash",
}
BODIES = {
    "openai.chat": {"model": "gpt-4o", "choices": [], "usage": CHAT_USAGE},
    "openai.responses": {"model": "gpt-5", "usage": {"input_tokens": 10, "output_tokens": 5}},
    "openai.embeddings": {"model": "m", "data": [], "usage": {"prompt_tokens": 10}},
    "openai.models": {"object": "list", "data": []},
    "anthropic.messages": MESSAGE,
    "anthropic.count_tokens": {"input_tokens": 9},
    "anthropic.models": {"data": [], "has_more": False},
    "gemini.generate": GENERATED,
    "gemini.embed": {"embedding": {"values": []}, "usageMetadata": {"promptTokenCount": 10}},
    "gemini.count_tokens": {"totalTokens": 9},
    "gemini.models": {"models": []},
}


def sse(*events: object, end: str = "\n") -> bytes:
    texts = [e if isinstance(e, str) else json.dumps(e, ensure_ascii=False) for e in events]
    return "".join(f"data: {text}{end}{end}" for text in texts).encode()


def chat_chunk(usage: object = None) -> dict:
    return {"model": "gpt-4o", "choices": [{"delta": {"content": "żółć 🎉\r\n"}}], "usage": usage}


STREAMS = {
    "openai.chat": sse(*[chat_chunk()] * 3, chat_chunk(CHAT_USAGE), "[DONE]", end="\r\n"),
    "openai.responses": sse(
        {"type": "response.output_text.delta", "delta": "żółć 🎉"},
        {"type": "response.completed", "response": BODIES["openai.responses"]},
    ),
    "anthropic.messages": sse(
        {"type": "message_start", "message": MESSAGE},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "żółć 🎉"}},
        {"type": "message_delta", "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
        end="\r",
    ),
    "gemini.generate": sse(GENERATED, GENERATED, end="\r\n"),
}


def state_of(meter: Meter) -> tuple:
    return meter.usage, meter.model, meter.error_message, meter.complete


def measure(flavour: str, chunks: list[bytes], kind: str, encoding: str = "") -> Meter:
    meter = Meter(flavour, kind, encoding)
    for chunk in chunks:
        meter.feed(chunk)
    meter.finish()
    return meter


def test_every_flavour_has_an_example():
    assert set(BODIES) == set(READERS)


@pytest.mark.parametrize("flavour", BODIES)
def test_bodies_of_every_flavour(flavour):
    meter = measure(flavour, [json.dumps(BODIES[flavour]).encode()], "application/json")
    assert meter.usage is not None
    assert meter.complete


@pytest.mark.parametrize("flavour", STREAMS)
def test_streams_of_every_flavour(flavour):
    meter = measure(flavour, [STREAMS[flavour]], " Text/Event-Stream; charset=utf-8")
    assert meter.usage is not None
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (10, 5)
    assert meter.complete


@pytest.mark.parametrize("flavour", STREAMS)
@given(data=st.data())
def test_any_chunking_gives_the_same(flavour, data):
    stream = STREAMS[flavour]
    cuts = data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=30))
    places = [0, *sorted(cuts), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(places)]
    expected = state_of(measure(flavour, [stream], "text/event-stream"))
    assert state_of(measure(flavour, chunks, "text/event-stream")) == expected


@pytest.mark.parametrize("flavour", STREAMS)
def test_one_byte_at_a_time(flavour):
    stream = STREAMS[flavour]
    chunks = [bytes([byte]) for byte in stream]
    expected = state_of(measure(flavour, [stream], "text/event-stream"))
    assert state_of(measure(flavour, chunks, "text/event-stream")) == expected


@pytest.mark.parametrize("flavour", STREAMS)
@given(cut=st.integers(0, 2000))
def test_cut_anywhere_it_says_no_more_than_the_whole(flavour, cut):
    whole = measure(flavour, [STREAMS[flavour]], "text/event-stream").usage
    cut_off = measure(flavour, [STREAMS[flavour][:cut]], "text/event-stream").usage
    assert whole is not None
    if cut_off is not None:
        assert (cut_off.input_tokens or 0) <= (whole.input_tokens or 0)
        assert (cut_off.output_tokens or 0) <= (whole.output_tokens or 0)


@given(chunks=st.lists(st.binary()), kind=st.sampled_from(["text/event-stream", ""]))
def test_no_bytes_make_it_raise(chunks, kind):
    with_marks = [b'data: {"usage":', *chunks, b'}\n\ndata: {"usage":{"prompt_tokens":', *chunks]
    for flavour in READERS:
        measure(flavour, chunks, kind)
        measure(flavour, with_marks, kind)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("usage", "usageMetadata", "model", "type", "message", "response", "error"),
                    *("prompt_tokens", "input_tokens", "output_tokens", "iterations", "detail"),
                    *("promptTokenCount", "promptTokensDetails", "prompt_tokens_details"),
                    *("cached_tokens", "total_tokens", "service_tier", "cache_creation"),
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(value=_json, kind=st.sampled_from(["message_start", "message_delta", "response.completed"]))
def test_no_json_makes_it_fail(value, kind):
    texts = [json.dumps(value).encode()]
    if isinstance(value, dict):
        texts.append(json.dumps({"type": kind, **value}).encode())
        texts.append(json.dumps({**value, "type": kind}).encode())
    for flavour, text in itertools.product(READERS, texts):
        for body, content_type in ((text, ""), (b"data: " + text + b"\n\n", "text/event-stream")):
            assert not measure(flavour, [body], content_type)._unreadable


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP ", gzip.compress),
        ("deflate", zlib.compress),
        ("br", brotli.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("identity", bytes),
    ],
)
def test_compressed_answers(encoding, pack):
    packed = pack(STREAMS["openai.chat"])
    for chunks in ([packed], [bytes([byte]) for byte in packed]):
        meter = measure("openai.chat", chunks, "text/event-stream", encoding)
        assert meter.usage == TokenUsage(10, None, None, 5)
        assert meter.complete


@pytest.mark.parametrize("encoding", ["gzip", "sdch", "gzip, br"])
def test_what_cannot_be_inflated_is_not_reported(encoding, caplog):
    body = json.dumps(BODIES["openai.chat"]).encode()
    meter = measure("openai.chat", [body, body], "application/json", encoding)
    assert state_of(meter) == (None, None, None, False)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_usage_that_came_before_the_compression_broke_is_kept():
    packer = zlib.compressobj(wbits=31)
    good = packer.compress(STREAMS["openai.chat"]) + packer.flush(zlib.Z_SYNC_FLUSH)
    meter = measure("openai.chat", [good, b"\xff" * 100], "text/event-stream", "gzip")
    assert meter.usage == TokenUsage(10, None, None, 5)
    assert not meter.complete


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_memory_is_bounded_for_an_answer_of_fifty_megabytes(kind):
    meter = Meter("openai.embeddings", kind, "")
    chunk = b"-0.0123456789," * 4681
    tracemalloc.start()
    try:
        meter.feed(b'data: {"data":[{"embedding":[')
        for _ in range(50_000_000 // len(chunk)):
            meter.feed(chunk)
        meter.feed(b'0]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}')
        meter.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert meter.usage == TokenUsage(8, None, None, 0)
    assert peak < 1024 * 1024


def test_a_mistake_of_its_own_does_not_reach_the_answer(caplog):
    class Broken(Reader):
        def read_event(self, data: bytes) -> None:
            raise ZeroDivisionError

        def finish(self) -> None:
            raise ZeroDivisionError

    meter = Meter("openai.chat", "text/event-stream", "")
    meter._reader = Broken()
    meter._events._on_event = meter._reader.read_event
    meter.feed(b"data: 1\n\n")
    meter.feed(b"data: 1\n\n")
    meter.finish()
    assert state_of(meter) == (None, None, None, False)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_an_error_is_told_with_its_message():
    body = b'{"model": "gpt-4o", "error": {"message": "Oops"}}'
    meter = measure("openai.chat", [body], "application/json")
    assert state_of(meter) == (None, "gpt-4o", "Oops", True)
    assert not measure("openai.chat", [body[:-1]], "application/json").complete


def test_only_a_stream_can_say_that_it_is_over():
    for flavour, is_said in (("openai.chat", True), ("gemini.generate", False)):
        meter = Meter(flavour, "text/event-stream", "")
        meter.feed(STREAMS[flavour][:-30])
        assert not meter.heard_last_word
        meter.feed(STREAMS[flavour][-30:])
        assert meter.heard_last_word == is_said
    body = json.dumps(BODIES["openai.chat"]).encode()
    assert not measure("openai.chat", [body], "application/json").heard_last_word


def test_before_the_end_nothing_is_known():
    meter = Meter("openai.chat", "text/event-stream", "")
    meter.feed(STREAMS["openai.chat"])
    assert state_of(meter) == (None, None, None, False)


def test_finish_twice_is_as_once():
    meter = measure("anthropic.messages", [STREAMS["anthropic.messages"]], "text/event-stream")
    before = state_of(meter)
    meter.finish()
    assert state_of(meter) == before
