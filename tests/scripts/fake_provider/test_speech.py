from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.fake_provider.knobs import Knobs
from scripts.fake_provider.speech import Call, count_tokens, last_text, plain_text, sample_of


def call(body: dict[str, Any] | None = None, **knobs: Any) -> Call:
    return Call(body or {"model": "m-1"}, Knobs(**knobs), 5, b"POST / HTTP/1.1\r\nx-a: b", {})


@given(st.text(max_size=300), st.none() | st.integers(1, 40))
def test_the_pieces_are_the_text(text: str, events: int | None):
    pieces = list(call(events=events).pieces(text))
    if events is not None:
        assert len(pieces) == events
    assert "".join(pieces).rstrip(" …") == text.rstrip(" …")


def test_the_answer_repeats_the_question():
    assert "how are you?" in call().speak("hello,   how are\n you?")
    assert "m-1" in call().speak("x")
    assert "named" in call(model="named").speak("x")
    assert "x-a: b" in call(echo=True).speak("x")
    assert len(call(big=5000).speak("x")) >= 5000


def test_usage_comes_in_the_shape_that_was_asked_for():
    plain = call().usage("x" * 40, "y" * 8)
    assert plain
    assert (plain.input, plain.output, plain.reasoning) == (10, 2, 0)
    cached = call(usage="cached").usage("x" * 40, "y" * 8)
    assert cached
    assert (cached.fresh, cached.input) == (10, 10 + 1024 + 256)
    reasoning = call(usage="reasoning").usage("x" * 40, "y" * 8)
    assert reasoning
    assert (reasoning.text, reasoning.output) == (2, 66)
    zero = call(usage="zero").usage("x", "y")
    assert zero
    assert zero.input == zero.output == 0
    assert call(usage="none").usage("x", "y") is None


@pytest.mark.parametrize(
    "content",
    [
        "a\nb",
        ["a", "b"],
        [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}],
        [{"role": "user", "content": "a"}, {"role": "user", "content": [{"text": "b"}]}],
        [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}],
        {"parts": [{"text": "a\nb"}]},
    ],
)
def test_text_is_found_in_every_notation(content: object):
    assert plain_text(content) == "a\nb"


def test_the_last_message_is_the_one_that_counts():
    assert last_text([{"content": "a"}, {"content": "b"}]) == "b"
    assert last_text("only") == "only"
    assert last_text(None) == ""


def test_tokens_are_counted_by_length():
    assert [count_tokens("x" * n) for n in (0, 1, 4, 5)] == [1, 1, 1, 2]


def test_arguments_fit_the_schema():
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"enum": ["C", "F"]},
            "days": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "boolean"}},
            "left_out": {"type": "null"},
        },
        "required": ["city", "unit", "days", "tags"],
    }
    assert sample_of(schema) == {"city": "example", "unit": "C", "days": 1, "tags": [True]}
    assert sample_of({"type": "STRING"}) == "example"
    assert sample_of(None) == {}
