"""JSON bodies that are nearly what an endpoint takes, and texts that are nearly JSON.

Changes are made where they mean something: at a member, a number, a key, a string; and some at any
byte. `json_input` makes the input of a number.
"""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from addons.providers.base import Endpoint, Provider
from scripts.proof.fuzzing.callers import PROVIDERS
from scripts.proof.fuzzing.mangling import mangle, numbered
from scripts.proof.fuzzing.valid_requests import valid_fields

_ODD_VALUES: Sequence[Any] = (
    *(None, True, False, 0, -1, 1.5, 10**30, "", " ", "\0", "\u2028", "\U0001f389", [], {}, [[]]),
    *("a" * 201, "a" * 200, ["a"], {"a": 1}, {"include_usage": True}, {"include_usage": False}),
    *({"include_usage": None}, {"a": {"include_usage": True}}, "stream_options", "{", '"'),
)
_NAMES = (
    *("model", "messages", "stream", "stream_options", "max_tokens", "input", "contents"),
    *("content", "requests", "include_usage", "", "a", "\U0001f389", "properties", "n"),
)
_TEXTS = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"01", b"1.", b".5", b"+1", b"0x1"),
    *(b"9" * 400, b"1e400000", b"'a'", b"True", b"undefined", b"/**/1", b'"\\ud800"', b'"\\udc00"'),
    *(b'"\xed\xa0\x80"', b'"\xff"', b'"\\x41"', b'"\\u00"', b'"a\nb"', b'"\t"', b"[1,]"),
    *(b'{"a":1,}', b"[" * 150 + b"]" * 150, b"[" * 400 + b"]" * 400, b"[" * 5000),
    b'{"a":' * 300 + b"1" + b"}" * 300,
    *(b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b'"\\u0000"', b"", b"nul", b"truefalse"),
)
_AROUND = (
    b" ",
    b"\n",
    b"\t\r\n",
    b"\xef\xbb\xbf",
    b"\x00",
    b"\xa0",
    b"//",
    b"{}",
    b"}",
    b",",
    b"\x0c",
)
_MARK = "<here>"


class Body(NamedTuple):
    """A body and where it is sent to."""

    provider: Provider
    endpoint: Endpoint
    data: bytes


ENDPOINTS = tuple(
    (provider, endpoint)
    for provider in PROVIDERS.values()
    for endpoint in provider.endpoints
    if endpoint.method == "POST"
)


def json_input(seed: int, number: int) -> Body:
    """An input."""
    random = numbered(seed, "json", number)
    provider, endpoint = random.choice(ENDPOINTS)
    fields = valid_fields(random, endpoint)
    if random.random() < 0.4:  # noqa: PLR2004 - usage is asked for in many ways
        fields["stream"] = random.choice((True, True, False, None, 1, "true"))
        if random.random() < 0.5:  # noqa: PLR2004
            fields["stream_options"] = random.choice(_ODD_VALUES)
    return Body(provider, endpoint, random.choice(_WAYS)(random, fields))


def _text(random: Random, fields: Any) -> bytes:
    """The text of a value, in one of the ways to write it."""
    separators = random.choice(((",", ":"), (", ", ": "), (" ,\n", "\t: ")))
    ascii_only = random.random() < 0.5  # noqa: PLR2004 - a coin
    return json.dumps(fields, ensure_ascii=ascii_only, separators=separators).encode()


def _as_it_is(random: Random, fields: dict[str, Any]) -> bytes:
    return _text(random, fields)


def _other_value(random: Random, fields: dict[str, Any]) -> bytes:
    fields[random.choice((*fields, *_NAMES))] = random.choice(_ODD_VALUES)
    return _text(random, fields)


def _without(random: Random, fields: dict[str, Any]) -> bytes:
    if fields:
        del fields[random.choice(list(fields))]
    return _text(random, fields)


def _odd_text(random: Random, fields: dict[str, Any]) -> bytes:
    """A value that only a text can have, anywhere."""
    inside = random.choice(("model", "messages", "a", "stream", "stream_options"))
    fields[inside] = random.choice((_MARK, [_MARK], {"a": _MARK}, {"b": [{"c": _MARK}]}))
    return _text(random, fields).replace(b'"<here>"', random.choice(_TEXTS))


def _twice(random: Random, fields: dict[str, Any]) -> bytes:
    """A member twice, the second time perhaps in another spelling."""
    name = random.choice((*fields, "a"))
    key = json.dumps(name)
    if random.random() < 0.5 and name:  # noqa: PLR2004 - escaped
        key = f'"\\u{ord(name[0]):04x}{name[1:]}"'
    member = f"{key}:{json.dumps(random.choice(_ODD_VALUES))}".encode()
    text = _text(random, fields)
    if random.random() < 0.5:  # noqa: PLR2004 - in front, or at the end
        return b"{" + member + b"," + text[1:]
    return text[:-1] + b"," + member + b"}"


def _spelt(random: Random, fields: dict[str, Any]) -> bytes:
    """Keys written with escapes."""
    text = _text(random, fields)
    for name in random.sample(list(fields), min(2, len(fields))):
        if name and name.isascii():
            escaped = "".join(
                f"\\u{ord(each):04x}" if random.random() < 0.5 else each  # noqa: PLR2004
                for each in name
            )
            text = text.replace(f'"{name}"'.encode(), f'"{escaped}"'.encode(), 1)
    return text


def _surrounded(random: Random, fields: dict[str, Any]) -> bytes:
    text = _text(random, fields)
    if random.random() < 0.5:  # noqa: PLR2004 - a coin
        return random.choice(_AROUND) + text
    return text + random.choice(_AROUND)


def _no_object(random: Random, fields: dict[str, Any]) -> bytes:
    return _text(random, random.choice(([fields], "text", 1, None, [], True)))


def _truncated(random: Random, fields: dict[str, Any]) -> bytes:
    text = _text(random, fields)
    return text[: random.randrange(len(text))]


def _mangled(random: Random, fields: dict[str, Any]) -> bytes:
    text = _text(random, fields)
    return mangle(random, text, (text,))


_WAYS: Sequence[Callable[[Random, dict[str, Any]], bytes]] = (
    *(_as_it_is, _other_value, _other_value, _without, _odd_text, _odd_text, _twice, _spelt),
    *(_surrounded, _no_object, _truncated, _mangled, _mangled),
)
