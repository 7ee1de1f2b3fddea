import json

import pytest

from addons.transcript import events_of, transcript
from addons.usage.documents import WHOLE_BYTES


def stream(*events: object, end: str = "") -> bytes:
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return ("".join(lines) + end).encode()


CHAT = stream(
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "Hm. "}}]},
    {"choices": [{"index": 0, "delta": {"content": "Hel"}}]},
    {
        "choices": [
            {"index": 0, "delta": {"content": "lo"}},
            {"index": 1, "delta": {"content": "Hi"}},
        ]
    },
    {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": "find"}}]}}]},
    {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "(1)"}}]}}]},
    {"choices": [], "usage": {"total_tokens": 3}},
    end="data: [DONE]\n\n",
)
RESPONSES = stream(
    {"type": "response.created", "response": {}},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "Hel"},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "lo"},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"},
)
ANTHROPIC = stream(
    {"type": "message_start", "message": {}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "Hm"},
    },
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_delta", "index": 2, "delta": {"partial_json": "{}"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
)
GEMINI = stream(
    {"candidates": [{"content": {"parts": [{"text": "Hm", "thought": True}, {"text": "Hel"}]}}]},
    {"candidates": [{"content": {"parts": [{"text": "lo"}]}}]},
    {"candidates": [{"content": {"parts": [{"functionCall": {"name": "find"}}]}}]},
)


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        (
            CHAT,
            [
                "--- reasoning 0\nHm. ",
                "--- answer 0\nHello",
                "--- answer 1\nHi",
                "--- answer 0, tool call 0\nfind(1)",
                "--- 8 events",
            ],
        ),
        (
            RESPONSES,
            ["--- output text 1\nHello", "--- function call arguments 2\n{}", "--- 4 events"],
        ),
        (ANTHROPIC, ["--- thinking 0\nHm", "--- answer 1\nHello", "--- tool call 2\n{}"]),
        (
            GEMINI,
            ["--- thinking 0\nHm", "--- answer 0\nHello", '--- tool call of answer 0\n{"name"'],
        ),
    ],
    ids=["chat", "responses", "anthropic", "gemini"],
)
def test_a_stream_is_put_together_again(said, parts):
    text = transcript(said)
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert all(event.decode() in text for event in events_of(said))


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"data: \xff\xfe\n\n",
        b"data: [1, 2]\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        *(
            stream(event)
            for event in (
                {"choices": "x"},
                {"choices": [None, {"delta": []}, {"delta": {"tool_calls": {"a": 1}}}]},
                {"candidates": [{"content": []}, {"content": {"parts": "x"}}]},
                {"type": "content_block_delta", "delta": "x"},
                {"type": "x.delta", "delta": {}},
                {"type": 1, "delta": 2},
            )
        ),
    ],
)
def test_what_is_odd_stays_readable(odd):
    assert f"--- {len(events_of(odd))} events" in transcript(odd)


def test_long_lines_are_broken_and_nothing_is_lost():
    words = "many words\tand  spaces " * 20 + "\n\n  indented\n" + "x" * 200
    said = transcript(stream({"choices": [{"delta": {"content": words}}]}))
    shown = said.removeprefix("--- answer 0\n").partition("\n\n--- 1 events")[0]
    assert shown.replace("\n", "") == words.replace("\n", "")
    assert max(map(len, shown.split("\n")[:-1])) <= 100
    assert "\n\n  indented\n" in shown


def test_a_very_long_event_is_only_noted():
    said = stream({"choices": [{"delta": {"content": "x" * WHOLE_BYTES}}]}, {"ok": 1})
    assert events_of(said) == [b"(an event too long to show)", b'{"ok": 1}']
