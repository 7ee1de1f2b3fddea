"""What a provider might say: answers of all flavours, whole, broken, and no answers at all.

`answer_input` makes the bytes of a connection; `said_input` only what is inside of an answer, for
the meter.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple, cast

import brotli  # pyright: ignore[reportMissingTypeStubs] - ships none
import zstandard

from scripts.proof.fuzzing.mangling import mangle, numbered

_MODEL = "gpt-4o-mini-2024-07-18"
_TEXT = "Hi \u017c\u00f3\u0142\u0107 \U0001f389"
_INPUT, _OUTPUT, _CACHED, _REASONING = 1011, 2003, 301, 407
_CHAT_USAGE = {
    "prompt_tokens": _INPUT,
    "completion_tokens": _OUTPUT,
    "total_tokens": _INPUT + _OUTPUT,
    "prompt_tokens_details": {"cached_tokens": _CACHED},
    "completion_tokens_details": {"reasoning_tokens": _REASONING},
}
_ANTHROPIC_USAGE = {
    "input_tokens": _INPUT,
    "output_tokens": _OUTPUT,
    "cache_read_input_tokens": _CACHED,
    "cache_creation_input_tokens": _REASONING,
}
_GEMINI = {
    "candidates": [{"content": {"parts": [{"text": _TEXT}]}, "finishReason": "STOP"}],
    "usageMetadata": {
        "promptTokenCount": _INPUT,
        "candidatesTokenCount": _OUTPUT,
        "thoughtsTokenCount": _REASONING,
        "totalTokenCount": _INPUT + _OUTPUT + _REASONING,
    },
    "modelVersion": "gemini-2.5-flash",
}
_RESPONSE = {
    "model": "gpt-5",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": _TEXT}]}],
    "usage": {"input_tokens": _INPUT, "output_tokens": _OUTPUT, "total_tokens": _INPUT + _OUTPUT},
}
_MESSAGE = {
    "type": "message",
    "model": "claude-haiku-4-5-20251001",
    "content": [{"type": "text", "text": _TEXT}],
    "usage": _ANTHROPIC_USAGE,
}
BODIES: dict[str, Any] = {
    "openai.chat": {
        "model": _MODEL,
        "choices": [{"message": {"content": _TEXT}}],
        "usage": _CHAT_USAGE,
    },
    "openai.responses": _RESPONSE,
    "openai.embeddings": {"model": "m", "data": [], "usage": {"prompt_tokens": _INPUT}},
    "anthropic.messages": _MESSAGE,
    "gemini.generate": _GEMINI,
}
_CHUNK = {"model": _MODEL, "choices": [{"delta": {"content": _TEXT}}], "usage": None}
_BEGUN = {**_MESSAGE, "usage": {**_ANTHROPIC_USAGE, "output_tokens": 1}}
EVENTS: dict[str, list[Any]] = {
    "openai.chat": [
        *[_CHUNK] * 3,
        {"model": _MODEL, "choices": [], "usage": _CHAT_USAGE},
        "[DONE]",
    ],
    "openai.responses": [
        {"type": "response.created", "response": {"model": "gpt-5", "usage": None}},
        {"type": "response.output_text.delta", "delta": _TEXT},
        {"type": "response.completed", "response": _RESPONSE},
    ],
    "anthropic.messages": [
        {"type": "message_start", "message": _BEGUN},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": _TEXT}},
        {"type": "message_delta", "usage": {"output_tokens": _OUTPUT}},
        {"type": "message_stop"},
    ],
    "gemini.generate": [_GEMINI, _GEMINI],
}
_ERRORS: Sequence[Any] = (
    {"error": {"message": "no", "type": "server_error", "code": None}},
    {"type": "error", "error": {"type": "overloaded_error", "message": "no"}},
    [{"error": {"code": 503, "message": "no", "status": "UNAVAILABLE"}}],
    {"error": "no"},
    {"object": "error", "message": "no"},
    {"detail": [{"msg": "no"}]},
)
_LINE_ENDS = (b"\n", b"\n", b"\r\n", b"\r")
_CODINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": lambda data: gzip.compress(data, mtime=0),
    b"deflate": zlib.compress,
    b"br": lambda data: cast("Any", brotli).compress(data, quality=1),
    b"zstd": lambda data: zstandard.ZstdCompressor(level=1).compress(data),
}
_BOMB_BYTES = 4 * 1024 * 1024
_STATUS_LINES = (
    *(b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 429 Too Many Requests"),
    *(b"HTTP/1.1 200  ", b"HTTP/1.1\t200\tOK", b"HTTP/1.1 20", b"HTTP/1.1 2000 OK", b"HTTP/2 200"),
    *(
        b"HTTP/1.1 -200 OK",
        b"HTTP/1.1 abc OK",
        b"ICY 200 OK",
        b"",
        b"HTTP/1.1 099 a",
        b"HTTP/1.1 999 b",
    ),
    *(b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 100 Continue", b"HTTP/1.1 204 No Content"),
    *(
        b"HTTP/1.1 304 Not Modified",
        b"HTTP/1.1 200 \xff\x80",
        b"HTTP/1.1 200 a\0b",
        b" HTTP/1.1 200 OK",
    ),
    *(b"HTTP/1.1 500 x", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 302 Found", b"HTTP/1.1 205 Reset"),
)
_ODD_LINES = (
    *(b"X: a\r\n b", b"X : y", b": y", b"X", b"X: \0", b"X: a\rb", b"X: \xff", b"\xff: x", b"X:"),
    *(b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 1, 1", b"Content-Length: +2"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding: identity"),
    *(b"Connection: close", b"Connection: content-type", b"Set-Cookie: a=b", b"Upgrade: h2c"),
    *(b"X-Metrion-Request-Id: 1", b"Access-Control-Allow-Origin: *", b"Content-Encoding: gzip"),
    *(
        b"Content-Encoding: bogus",
        b"Content-Encoding: gzip, gzip",
        b"Content-Type: text/html",
        b"Age: 1",
    ),
    *(b"Content-Type: text/event-stream", b"X: " + b"y" * 70_000, b"\r\n".join([b"X: y"] * 500)),
)
_SIZES = (
    b"%x",
    b"%x",
    b"%X",
    b"0%x",
    b"%x;a=b",
    b"-%x",
    b"%xg",
    b"",
    b"%x ",
    b"fffffffffffffffff%x",
    b"0x%x",
)


class Said(NamedTuple):
    """What is inside of an answer."""

    flavour: str
    content_type: str
    content_encoding: str
    data: bytes
    is_cut: bool  # the valid answer, only shorter


def valid(random: Random, flavour: str, *, streamed: bool) -> bytes:
    """A body of a flavour, or its events."""
    if not streamed:
        return json.dumps(BODIES[flavour], ensure_ascii=random.random() < 0.5).encode()  # noqa: PLR2004
    end = random.choice(_LINE_ENDS)
    said: list[bytes] = []
    for event in EVENTS[flavour]:
        text = event if isinstance(event, str) else json.dumps(event)
        name = b"event: x" + end if random.random() < 0.2 else b""  # noqa: PLR2004
        said.append(name + b"data: " + text.encode() + end + end)
    return b"".join(said)


def said_input(seed: int, number: int) -> tuple[Said, Random]:
    """Something for the meter, and the chance that goes on to cut it."""
    random = numbered(seed, "said", number)
    streamed = random.random() < 0.6  # noqa: PLR2004 - most are
    flavour = random.choice(tuple(EVENTS if streamed else BODIES))
    data = valid(random, flavour, streamed=streamed)
    content_type = "text/event-stream; charset=utf-8" if streamed else "application/json"
    coding, is_cut = b"", False
    match random.randrange(8):
        case 0:
            data, is_cut = data[: random.randrange(len(data))], True
        case 1 | 2 | 3:
            data = mangle(random, data, (data, json.dumps(random.choice(_ERRORS)).encode()))
        case 4:
            coding, data = _compressed(random, data)
        case 5:
            data = random.randbytes(random.randint(0, 200)) + data
        case 6:
            content_type = random.choice(
                ("", "text/html", "text/event-stream", "application/json", "\xff")
            )
        case _:
            data = _with_error(random, data)
    return Said(flavour, content_type, coding.decode(), data, is_cut), random


def _compressed(random: Random, data: bytes) -> tuple[bytes, bytes]:
    coding = random.choice(tuple(_CODINGS))
    if random.random() < 0.02:  # noqa: PLR2004 - a bomb
        return coding, _CODINGS[coding](bytes(_BOMB_BYTES))
    data = _CODINGS[coding](data)
    return coding, mangle(random, data) if random.random() < 0.5 else data  # noqa: PLR2004


def _with_error(random: Random, data: bytes) -> bytes:
    event = b"data: " + json.dumps(random.choice(_ERRORS)).encode() + b"\n\n"
    place = random.randint(0, len(data))
    return data[:place] + event + data[place:]


def answer_input(seed: int, number: int, flavour: str, *, streamed: bool) -> tuple[bytes, Random]:
    """All that a provider says on a connection, and the chance that goes on to cut it."""
    random = numbered(seed, "answer", number)
    return _KINDS[number % len(_KINDS)](
        random, valid(random, flavour, streamed=streamed), streamed
    ), random


def _head(lines: Sequence[bytes], first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""])


def _type(streamed: bool) -> bytes:  # noqa: FBT001 - one of two
    return b"Content-Type: " + (b"text/event-stream" if streamed else b"application/json")


def chunks(random: Random, data: bytes, sizes: Sequence[bytes] = (b"%x",)) -> bytes:
    """A body in chunks."""
    pieces: list[bytes] = []
    place = 0
    while place < len(data):
        piece = data[place : place + random.randint(1, 200)]
        place += len(piece)
        size = random.choice(sizes)
        pieces += [size % len(piece) if b"%" in size else size, b"\r\n", piece, b"\r\n"]
    return b"".join(pieces) + b"0\r\n\r\n"


def _whole(random: Random, data: bytes, streamed: bool) -> bytes:  # noqa: FBT001
    match random.randrange(3):
        case 0:
            return _head([_type(streamed), b"Content-Length: %d" % len(data)]) + data
        case 1:
            return _head([_type(streamed), b"Transfer-Encoding: chunked"]) + chunks(random, data)
        case _:
            return _head([_type(streamed)]) + data


def _odd_first_line(random: Random, data: bytes, streamed: bool) -> bytes:  # noqa: FBT001
    lines = [_type(streamed), b"Content-Length: %d" % len(data)]
    return _head(lines, random.choice(_STATUS_LINES)) + data


def _odd_head(random: Random, data: bytes, streamed: bool) -> bytes:  # noqa: FBT001
    lines = [_type(streamed), b"Content-Length: %d" % len(data), *random.choices(_ODD_LINES, k=2)]
    random.shuffle(lines)
    return _head(lines) + data


def _odd_chunks(random: Random, data: bytes, streamed: bool) -> bytes:  # noqa: FBT001
    sizes = (b"%x", b"%x", random.choice(_SIZES))
    return _head([_type(streamed), b"Transfer-Encoding: chunked"]) + chunks(random, data, sizes)


def _interim(random: Random, data: bytes, streamed: bool) -> bytes:  # noqa: FBT001
    lines = (b"HTTP/1.1 100 Continue", b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 199 x")
    before = [_head([], random.choice(lines)) for _ in range(random.randint(1, 4))]
    return b"".join(before) + _whole(random, data, streamed)


def _twice(random: Random, data: bytes, streamed: bool) -> bytes:  # noqa: FBT001
    """An answer that nobody asked for behind the one that was."""
    return _whole(random, data, streamed) + _whole(random, data, streamed)


def _endless_line(random: Random, data: bytes, streamed: bool) -> bytes:  # noqa: FBT001
    long = b"data: " + b"x" * random.choice((70_000, 300_000))
    return _head([_type(streamed)]) + long + data


def _zipped(random: Random, data: bytes, streamed: bool) -> bytes:  # noqa: FBT001
    coding, data = _compressed(random, data)
    lines = [_type(streamed), b"Content-Encoding: " + coding, b"Content-Length: %d" % len(data)]
    return _head(lines) + data


def _cut_off(random: Random, data: bytes, streamed: bool) -> bytes:  # noqa: FBT001
    whole = _whole(random, data, streamed)
    return whole[: random.randrange(len(whole))]


def _mangled(random: Random, data: bytes, streamed: bool) -> bytes:  # noqa: FBT001
    whole = _whole(random, data, streamed)
    return mangle(random, whole, (whole,))


def _noise(random: Random, data: bytes, streamed: bool) -> bytes:  # noqa: FBT001
    return random.randbytes(random.randint(1, 400)) + random.choice((b"", b"\r\n\r\n", data))


_KINDS = (
    *(_whole, _odd_first_line, _odd_head, _odd_chunks, _interim, _twice, _cut_off),
    *(_mangled, _mangled, _noise, _zipped, _cut_off, _whole, _mangled, _endless_line),
)
