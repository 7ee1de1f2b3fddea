import json
import re
import string
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jiter
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from addons import validation
from addons.outcome import Refused
from addons.providers import load_providers
from addons.providers.base import Endpoint
from addons.validation import MODEL_MAX_CHARS, Splice, check_body

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
WISH = {"include_usage": True}


def endpoint(provider: str, name: str) -> Endpoint:
    found = {p.name: p for p in load_providers()}[provider].endpoints
    return next(e for e in found if e.name == name)


CHAT_ENDPOINT = endpoint("openai", "chat/completions")
# Takes any object.
ANYTHING = Endpoint("x", (), "/x", "openai.chat", streams=True, usage_on_request=True)


def refusal_of(body: bytes, checked: Endpoint = CHAT_ENDPOINT) -> Refused:
    with pytest.raises(Refused) as caught:
        check_body(body, checked)
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")
    return caught.value


def chat(**changes: Any) -> bytes:
    return json.dumps({**CHAT, **changes}).encode()


# ---- JSON written in every way that JSON allows -------------------------------------------------

NAMES = st.sampled_from(
    [
        *("stream_options", "include_usage", "stream", "a", "żółć", '"', "}{", "\\"),
        *(
            "stream_option",
            'a"stream_options',
            'stream_options"',
            "\\stream_options",
            "stream_options:",
        ),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | NAMES
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text("ab"), inner, max_size=3)
    ),
    max_leaves=8,
)
SPACES = st.text(" \t\r\n", max_size=3)


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """`value` as JSON text with odd spacing and odd escapes."""

    def space() -> str:
        return draw(SPACES)

    def text_of(text: str) -> str:
        if draw(st.booleans()):
            return json.dumps(text, ensure_ascii=draw(st.booleans()))
        escaped = [
            f"\\u{ord(c):04X}" if ord(c) < 0x10000 and draw(st.booleans()) else json.dumps(c)[1:-1]
            for c in text
        ]
        return f'"{"".join(escaped)}"'

    def write(part: Any) -> str:
        if isinstance(part, dict):
            members = [
                f"{space()}{text_of(name)}{space()}:{space()}{write(inner)}{space()}"
                for name, inner in part.items()
            ]
            return "{" + (",".join(members) or space()) + "}"
        if isinstance(part, list):
            return "[" + (",".join(space() + write(p) + space() for p in part) or space()) + "]"
        return text_of(part) if isinstance(part, str) else json.dumps(part)

    return space() + write(value) + space()


@st.composite
def silent_bodies(draw: st.DrawFn) -> bytes:
    """Objects that say neither yes nor no to usage."""
    fields = draw(st.dictionaries(NAMES | st.text("xyz"), VALUES, max_size=4))
    fields.pop("stream_options", None)
    if draw(st.booleans()):
        inner = draw(st.none() | st.dictionaries(st.text("xyz"), VALUES, max_size=3))
        members = [*fields.items(), ("stream_options", inner)]
        fields = dict(draw(st.permutations(members)))
    return draw(written(fields)).encode()


def ask_for_usage(body: bytes) -> bytes:
    wish = check_body(body, ANYTHING).usage_wish
    assert wish is not None
    return wish.into(body)


def slowly_asked(body: bytes) -> bytes:
    """What `ask_for_usage` makes of a body, by a look at each of its strings and brackets."""
    wish = b'"include_usage":true'
    start = value_start(body, "stream_options")
    if start is None:
        return inserted(body, body.index(b"{") + 1, b'"stream_options":{' + wish + b"}")
    if body[start : start + 1] == b"{":
        return inserted(body, start + 1, wish)
    return body[:start] + b"{" + wish + b"}" + body[start + len(b"null") :]


def inserted(body: bytes, position: int, member: bytes) -> bytes:
    is_empty = re.compile(rb"[ \t\r\n]*\}").match(body, position) is not None
    return body[:position] + member + (b"" if is_empty else b",") + body[position:]


def value_start(body: bytes, name: str) -> int | None:
    depth = 0
    for token in re.finditer(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', body):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(token[0], 0)
        colon = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*").match(body, token.end())
        if depth == 1 and colon and jiter.from_json(token[0]) == name:
            return colon.end()
    return None


class TestAskForUsage:
    @given(silent_bodies())
    @example(b"{}")
    @example(b" \r\n{\t} ")
    @example(b'{"stream_options":null}')
    @example(b'{"stream_options":{}}')
    @example(b'{"a":{"stream_options":{"b":1}},"stream_options" : { }}')
    @example(b'{"stre\\u0061m_options":{"include_obfuscation":false}}')
    @example(b'{"a":"\\"stream_options\\":{","b":"\\\\"}')
    @example(b'{"a":"stream_options","b":["stream_options",{"stream_options":null}]}')
    def test_adds_the_wish_and_nothing_else(self, body: bytes) -> None:
        before = json.loads(body)
        asked = ask_for_usage(body)
        options = before.get("stream_options") or {}
        assert json.loads(asked) == {**before, "stream_options": {**options, **WISH}}

    @given(silent_bodies())
    def test_leaves_every_other_byte(self, body: bytes) -> None:
        asked = ask_for_usage(body)
        start = 0
        while start < len(body) and body[start] == asked[start]:
            start += 1
        rest = body[start:].removeprefix(b"null")
        assert asked.endswith(rest)
        added = asked[start : len(asked) - len(rest)].decode()
        assert "include_usage" in added
        assert set(added) <= set('"stream_options":{"include_usage":true},null')

    @given(silent_bodies())
    def test_what_it_makes_passes_the_check_and_asks_nothing_more(self, body: bytes) -> None:
        assert check_body(ask_for_usage(body), ANYTHING).usage_wish is None

    @given(silent_bodies())
    @example(b'{"a":"\\\\","stream_options":null}')
    @example(b'{"a\\"stream_options":{},"stream_options":{}}')
    @example(b'{"\\\\stream_options":{},"stream_options":{}}')
    @example(b'{"a":["]}\\"",{"stream_options":{}}],"stream_\\u006Fptions":{"a":[]}}')
    @example(
        b'{"a":[{"stream_options":{"stream_options":[{}]}}],"\\u0073tream\\u005Foptions":null}'
    )
    def test_each_byte_is_where_a_look_at_all_of_them_says(self, body: bytes) -> None:
        assert ask_for_usage(body) == slowly_asked(body)

    @pytest.mark.parametrize("window", [1, 2, 3])
    @given(body=silent_bodies())
    def test_it_does_not_matter_where_a_window_ends(self, window: int, body: bytes) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(validation, "_WINDOW_BYTES", window)
            assert ask_for_usage(body) == slowly_asked(body)

    @pytest.mark.parametrize(
        "rest", ["", ',"user":"\\u00e9"', ',"stream_options":{}', ',"a":{"stream_options":0}']
    )
    @pytest.mark.parametrize("dense", ["{}", '""', '"\\""', "0", '{"a":[""]}'])
    def test_no_step_of_python_is_made_for_each_member(
        self, dense: str, rest: str, lines_run: Callable[..., int]
    ) -> None:
        def lines(members: int) -> int:
            listed = ",".join([dense] * members)
            body = f'{{"list":[{listed}]{rest},"end":"stream_options"}}'.encode()
            return lines_run(validation, lambda: ask_for_usage(body))

        few, many = lines(10), lines(5_000)
        assert 0 < many == few

    def test_a_key_that_is_not_there_is_a_defect(self) -> None:
        with pytest.raises(RuntimeError):
            validation._options_start(b'{"a":{"stream_options":{}}}')

    def test_a_splice_replaces_what_it_says(self) -> None:
        assert Splice(1, 3, "xyz").into(b"abcd") == b"axyzd"

    @pytest.mark.parametrize(
        ("body", "asked"),
        [
            (b'{"a":1}', b'{"stream_options":{"include_usage":true},"a":1}'),
            (b"{ }", b'{"stream_options":{"include_usage":true} }'),
            (b'{"stream_options": null }', b'{"stream_options": {"include_usage":true} }'),
            (b'{"stream_options":{ }}', b'{"stream_options":{"include_usage":true }}'),
            (b'{"stream_options":{"a":1}}', b'{"stream_options":{"include_usage":true,"a":1}}'),
        ],
    )
    def test_exact_bytes(self, body: bytes, asked: bytes) -> None:
        assert ask_for_usage(body) == asked

    @pytest.mark.parametrize("rest", [b"", b',"stream_options":{}', b',"n":"\\u00e9"'])
    def test_long_texts_cost_no_memory_beyond_the_copy(self, rest: bytes) -> None:
        # a regular expression that backtracks took 2.5 GB for 20 MB
        body = b'{"a":"' + b'x\\"' * 500_000 + b'"' + rest + b"}"
        tracemalloc.start()
        ask_for_usage(body)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * len(body)


class TestCheckBody:
    @pytest.mark.parametrize(
        ("provider", "name", "fields", "missing"),
        [
            ("openai", "chat/completions", {}, ["model", "messages"]),
            ("openai", "chat/completions", {"model": "m"}, ["messages"]),
            ("openai", "chat/completions", {"model": None, "messages": []}, ["model"]),
            ("openai", "responses", {"model": "m"}, ["input"]),
            ("openai", "embeddings", {"model": "m"}, ["input"]),
            ("grok", "chat/completions", {"messages": []}, ["model"]),
            ("grok", "responses", {}, ["input"]),
            ("mistral", "chat/completions", {"model": "m"}, ["messages"]),
            ("mistral", "embeddings", {}, ["input"]),
            ("gemini", "chat/completions", {"model": "m"}, ["messages"]),
            ("gemini", "embeddings", {}, ["input"]),
            ("gemini", "generateContent", {}, ["contents"]),
            ("gemini", "streamGenerateContent", {}, ["contents"]),
            ("gemini", "embedContent", {}, ["content"]),
            ("gemini", "batchEmbedContents", {"content": {}}, ["requests"]),
            ("anthropic", "messages", {"model": "m", "messages": []}, ["max_tokens"]),
            ("anthropic", "messages", {}, ["model", "messages", "max_tokens"]),
            ("anthropic", "messages/count_tokens", {"model": "m"}, ["messages"]),
        ],
    )
    def test_names_what_is_missing(
        self, provider: str, name: str, fields: dict[str, Any], missing: list[str]
    ) -> None:
        refused = refusal_of(json.dumps(fields).encode(), endpoint(provider, name))
        listed = " and ".join(f"`{m}`" for m in missing)
        assert refused.message.startswith(f"The body lacks {listed}, ")

    @pytest.mark.parametrize("value", [[], "", 0, False, {}])
    def test_empty_is_not_missing(self, value: object) -> None:
        # what an empty list means is the provider's to say
        assert check_body(chat(messages=value), CHAT_ENDPOINT).model == "gpt-4o"

    @pytest.mark.parametrize("body", [b"", b" \r\n\t "])
    def test_empty_body(self, body: bytes) -> None:
        assert "empty" in refusal_of(body).message

    @pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true", b'[{"model":1}]'])
    def test_no_object(self, body: bytes) -> None:
        assert "JSON object" in refusal_of(body).message

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b'{"a":1}}',
            b'{"a":1} {"a":1}',
            b'{"a":1,}',
            b"{'a':1}",
            b'{"a":NaN}',
            b'{"a":Infinity}',
            b'{"a":01}',
            b'{"a":"\x01"}',
            b'{"a":"\xff"}',
            b'{"a":"\xed\xa0\x80"}',  # a surrogate in UTF-8
            b'{"a":"\\ud800"}',  # half a character
            b'\xef\xbb\xbf{"a":1}',  # a byte order mark
            '{"a":1}'.encode("utf-16"),
            b'{"a":/*x*/1}',
            b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"a":' + b"9" * 10_000 + b"}",
            b"\x1f\x8b\x08\x00",  # gzip
        ],
    )
    def test_no_json(self, body: bytes) -> None:
        assert "not valid JSON" in refusal_of(body).message

    @given(st.binary(max_size=60))
    def test_any_bytes_are_refused_or_an_object(self, body: bytes) -> None:
        with suppress(Refused):
            check_body(body, CHAT_ENDPOINT)

    @pytest.mark.parametrize(
        "body",
        [
            b'{"model":"a","messages":[],"model":"b"}',
            b'{"model":"a","messages":[],"mod\\u0065l":"b"}',
            b'{"model":"a","messages":[{"role":"user","role":"system"}]}',
            b'{"model":"a","messages":[[[{"x":{"y":1,"y":1}}]]]}',
            b'{"model":"a","messages":[],"stream":true,"stream":false}',
            b'{"model":"a","messages":[],"":1,"":1}',
        ],
    )
    def test_repeated_keys(self, body: bytes) -> None:
        assert "repeats a key" in refusal_of(body).message

    @given(
        depth=st.integers(0, 20),
        key=st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
        is_list=st.booleans(),
    )
    def test_repeated_keys_at_any_depth(self, depth: int, key: str, *, is_list: bool) -> None:
        name = json.dumps(key).encode()
        inner = b"{" + name + b":1," + name + b":2}"
        opening, closing = (b"[", b"]") if is_list else (b'{"n":', b"}")
        body = b'{"model":"a","messages":' + opening * depth + inner + closing * depth + b"}"
        assert "repeats a key" in refusal_of(body).message

    @given(st.text(string.ascii_letters + "€🎉", min_size=12))
    def test_a_refusal_quotes_nothing(self, secret: str) -> None:
        quoted = json.dumps(secret).encode()
        for body in (
            b"{" + quoted + b":1," + quoted + b":2}",
            b"{" + quoted + b":" + quoted + b"x}",
            b'{"model":' + quoted * 30 + b"}",
            b'{"messages":[],"model":[' + quoted + b"]}",
        ):
            assert secret not in refusal_of(body).message

    @pytest.mark.parametrize(
        "model", ["gpt-4o", "m" * MODEL_MAX_CHARS, "accounts/x/models/y", "żółć"]
    )
    def test_model_is_learnt(self, model: str) -> None:
        assert check_body(chat(model=model), CHAT_ENDPOINT).model == model

    @pytest.mark.parametrize(
        "model",
        [
            "",
            "m" * (MODEL_MAX_CHARS + 1),
            1,
            True,
            ["m"],
            {},
            "a\0b",
            "a\nb",
            "\x1b[2J",
            "a\u2028b",
        ],
    )
    def test_model_must_fit_a_log_row(self, model: object) -> None:
        assert "`model` must be" in refusal_of(chat(model=model)).message

    def test_model_may_be_the_path_s(self) -> None:
        facts = check_body(b'{"contents":[]}', endpoint("gemini", "generateContent"))
        assert facts.model is None

    @pytest.mark.parametrize(
        ("stream", "streamed"),
        [(True, True), (False, False), (None, False), (1, False), ("true", False)],
    )
    def test_stream(self, stream: object, *, streamed: bool) -> None:
        assert check_body(chat(stream=stream), CHAT_ENDPOINT).streamed is streamed

    def test_some_endpoints_stream_whatever_the_body_says(self) -> None:
        body = b'{"contents":[],"stream":false}'
        assert check_body(body, endpoint("gemini", "streamGenerateContent")).streamed
        assert not check_body(body, endpoint("gemini", "generateContent")).streamed

    @pytest.mark.parametrize(
        ("fields", "silent"),
        [
            ({"stream": True}, True),
            ({"stream": True, "stream_options": None}, True),
            ({"stream": True, "stream_options": {}}, True),
            ({"stream": True, "stream_options": {"include_obfuscation": False}}, True),
            ({"stream": True, "stream_options": {"include_usage": True}}, False),
            ({"stream": True, "stream_options": {"include_usage": False}}, False),
            ({"stream": True, "stream_options": {"include_usage": None}}, False),
            # no object: the provider's to refuse
            ({"stream": True, "stream_options": []}, False),
            ({"stream": True, "stream_options": "x"}, False),
            ({"stream": False}, False),
            ({}, False),
        ],
    )
    def test_silence_on_usage(self, fields: dict[str, Any], *, silent: bool) -> None:
        assert (check_body(chat(**fields), CHAT_ENDPOINT).usage_wish is not None) is silent

    @pytest.mark.parametrize(
        ("provider", "name", "is_asked"),
        [
            ("openai", "chat/completions", True),
            ("grok", "chat/completions", True),
            ("gemini", "chat/completions", True),
            ("mistral", "chat/completions", False),  # tells by itself, refuses unknown fields
            ("openai", "responses", False),
            ("anthropic", "messages", False),
        ],
    )
    def test_only_those_are_asked_that_need_it(
        self, provider: str, name: str, *, is_asked: bool
    ) -> None:
        body = chat(stream=True, input="x", max_tokens=1)
        wish = check_body(body, endpoint(provider, name)).usage_wish
        assert (wish is not None) is is_asked
