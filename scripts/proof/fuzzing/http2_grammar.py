"""HTTP/2 frame by frame: valid requests, and frames in an order, form or number that is not.

Each input is a connection: preface, settings, frames, and a PING that asks whether the other side
still reads. `http2_input` makes the input of a number.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

import hpack

from scripts.proof.fuzzing.callers import Callers
from scripts.proof.fuzzing.mangling import cut, mangle, numbered
from scripts.proof.fuzzing.valid_requests import valid_parts

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 0x1, 0x1, 0x4, 0x8, 0x20
_MOST_PIECES = 4
_MAX_FRAME_BYTES = 16_384
_MOST_WINDOW = 2**31 - 1
_FLOOD = 300
STILL_THERE = b"farewell"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame as it goes over the wire."""
    head = len(payload).to_bytes(3) + bytes([kind & 0xFF, flags])
    return head + (stream & 0xFFFFFFFF).to_bytes(4) + payload


_ODD_FIELDS = (
    *((b"X-Upper", b"y"), (b"connection", b"close"), (b"transfer-encoding", b"chunked")),
    *((b":path", b"/metrics"), (b":unknown", b"x"), (b"", b"y"), (b"x y", b"z"), (b"te", b"gzip")),
    *((b"x", b"\0"), (b"x", b"a\n"), (b"x\r\n", b"y"), (b"content-length", b"5"), (b"host", b"e")),
    *((b"content-length", b"-1"), (b"content-length", b"5, 6"), (b"cookie", b"a=b")),
    *((b"upgrade", b"h2c"), (b"keep-alive", b"1"), (b"x", b" y "), (b"authorization", b"Bearer x")),
    *((b"x", b"a\r\nb: c"), (b"x", b"y" * 9000)),
)
_SETTINGS = (
    *((0x1, 0), (0x1, 2**32 - 1), (0x2, 2), (0x2, 1), (0x3, 0), (0x4, 2**31), (0x4, 0)),
    *((0x5, 0), (0x5, 2**24), (0x5, 16_383), (0x6, 1), (0x99, 7), (0x8, 1), (0x0, 0)),
    (0x4, 2**31 - 1),
)
BYE = frame(GOAWAY, 0, 0, bytes(8))


class Connection(NamedTuple):
    """What is sent on a connection.

    Attributes:
        comes_to_an_end: all of it is whole, so the other side has to answer the PING or to close.
    """

    kind: str
    pieces: list[bytes]
    comes_to_an_end: bool


class Talk:
    """The client's side of a connection.

    Attributes:
        random: what chooses.
        frames: what it has said so far.
        next: the stream of the next request.
    """

    def __init__(self, random: Random, callers: Callers) -> None:
        self.random = random
        self.frames: list[bytes] = []
        self.next = 1
        self._callers = callers
        self._encoder = hpack.Encoder()

    def say(self, kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> None:
        """Say one frame."""
        self.frames.append(frame(kind, flags, stream, payload))

    def block(self, more: Sequence[tuple[bytes, bytes]] = ()) -> tuple[bytes, bytes]:
        """The header block of a request that is as it should be, but for more fields; its body."""
        parts = valid_parts(self.random, self._callers)
        fields = [(b":method", parts.method), (b":scheme", b"https"), (b":path", parts.target)]
        fields.append((b":authority", b"metrion"))
        for line in parts.lines:
            name, _, value = line.partition(b":")
            if name.lower() not in (b"host", b"connection", b"te", b"keep-alive"):
                fields.append((name.lower(), value.strip()))
        return self._encoder.encode([*fields, *more]), parts.body

    def request(self, more: Sequence[tuple[bytes, bytes]] = ()) -> int:
        """A request in as few frames as it needs; returns its stream."""
        block, body = self.block(more)
        stream, self.next = self.next, self.next + 2
        self.say(HEADERS, END_HEADERS | (0 if body else END_STREAM), stream, block)
        if body:
            self.say(DATA, END_STREAM, stream, body)
        return stream


def _valid(talk: Talk) -> None:
    for _ in range(talk.random.randint(1, 4)):
        talk.request()


def _settings(talk: Talk) -> None:
    for _ in range(talk.random.randint(1, 5)):
        name, value = talk.random.choice(_SETTINGS)
        said = name.to_bytes(2) + value.to_bytes(4)
        match talk.random.randrange(5):
            case 0:
                talk.say(SETTINGS, 0, 1, said)
            case 1:
                talk.say(SETTINGS, ACK, 0, said)
            case 2:
                talk.say(SETTINGS, 0, 0, said[: talk.random.randrange(6)])
            case _:
                talk.say(SETTINGS, 0, 0, said)
        talk.request()


def _windows(talk: Talk) -> None:
    stream = talk.request()
    for _ in range(talk.random.randint(1, 4)):
        size = talk.random.choice((0, 1, _MOST_WINDOW, _MOST_WINDOW, 2**31))
        where = talk.random.choice((0, stream, 99, 2))
        talk.say(WINDOW_UPDATE, 0, where, size.to_bytes(4)[: talk.random.choice((4, 4, 3))])
    talk.request()


def _continuations(talk: Talk) -> None:
    """Header blocks that do not end, or that other frames come into."""
    block, _ = talk.block()
    half = len(block) // 2
    talk.say(HEADERS, END_STREAM, 1, block[:half])
    talk.next = 3
    match talk.random.randrange(5):
        case 0:
            for _ in range(_FLOOD):
                talk.say(CONTINUATION, 0, 1, b"")
        case 1:
            for _ in range(40):
                talk.say(CONTINUATION, 0, 1, b"\x00\x01x\x7f\xff\xff" + bytes(8000))
        case 2:
            talk.say(talk.random.randrange(10), 0, talk.random.choice((0, 1, 3)), bytes(4))
        case 3:
            talk.say(CONTINUATION, END_HEADERS, 3, block[half:])
        case _:
            talk.say(CONTINUATION, END_HEADERS, 1, block[half:])
    talk.request()


def _hpack_garbage(talk: Talk) -> None:
    random = talk.random
    block, _ = talk.block()
    garbage = random.choice(
        (
            *(random.randbytes(random.randint(1, 200)), b"\x80", b"\xff\xff\xff\xff\xff\x0f"),
            *(b"\x3f\xe1\xff\x03" + block, b"\x40\x7f\xff\xff\xff\x7f", mangle(random, block)),
            *(
                block * 30,
                b"\x20" * 500 + block,
                b"\x00\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            ),
            b"\x40\x01a\x7f\xa0\x1f" + b"a" * 4000 + b"\xbe" * 12_000,  # a bomb
        )
    )
    talk.say(HEADERS, END_HEADERS | END_STREAM, 1, garbage[:_MAX_FRAME_BYTES])
    talk.next = 3
    talk.request()


def _rapid_reset(talk: Talk) -> None:
    for _ in range(talk.random.choice((3, 30, 150))):
        stream = talk.request()
        talk.say(RST_STREAM, 0, stream, (8).to_bytes(4))


def _streams(talk: Talk) -> None:
    """Streams that are used again, go backwards, or are not a client's."""
    stream = talk.request()
    talk.next = talk.random.choice((stream, 2, 0, 9, 2**31 - 1, 1))
    for _ in range(talk.random.randint(1, 3)):
        talk.request()
    talk.next = 11
    talk.request()


def _data(talk: Talk) -> None:
    """Data after the end, before the beginning, with padding that is none, more than was said."""
    random = talk.random
    block, body = talk.block([(b"content-length", b"5")] if random.random() < 0.5 else [])  # noqa: PLR2004
    talk.say(HEADERS, END_HEADERS | random.choice((0, END_STREAM)), 1, block)
    talk.next = 3
    for _ in range(random.randint(1, 4)):
        flags = random.choice((0, END_STREAM, PADDED, PADDED | END_STREAM))
        payload = random.choice((body, b"", b"\xff" + body, b"\x00" + body, bytes(20_000)))
        talk.say(DATA, flags, random.choice((1, 1, 1, 0, 5, 2)), payload)
    talk.request()


def _priorities(talk: Talk) -> None:
    """Streams that depend on themselves and on each other."""
    for _ in range(talk.random.choice((2, 20, _FLOOD))):
        stream, other = talk.random.randint(0, 9), talk.random.randint(0, 9)
        said = (other | talk.random.choice((0, 2**31))).to_bytes(4) + b"\x10"
        talk.say(PRIORITY, 0, stream, said[: talk.random.choice((5, 5, 5, 4))])
    block, _ = talk.block()
    talk.say(
        HEADERS, END_HEADERS | END_STREAM | PRIORITY_FLAG, 11, (11).to_bytes(4) + b"\x00" + block
    )


def _control(talk: Talk) -> None:
    """Frames of all kinds in places where they mean nothing, and of kinds that there are not."""
    random = talk.random
    for _ in range(random.choice((1, 3, 30))):
        kind = random.choice((*range(10), 0x0A, 0x42, 0xFF))
        payload = random.randbytes(random.choice((0, 1, 4, 5, 8, 9, 17, 100)))
        talk.say(kind, random.randrange(256), random.choice((0, 0, 1, 3, 2**31)), payload)
    talk.request()


def _floods(talk: Talk) -> None:
    kind, payload = talk.random.choice(
        ((PING, bytes(8)), (SETTINGS, b""), (DATA, b""), (RST_STREAM, bytes(4)))
    )
    for _ in range(_FLOOD):
        talk.say(kind, 0, 0 if kind in (PING, SETTINGS) else 1, payload)
    talk.request()


def _oversized(talk: Talk) -> None:
    size = talk.random.choice((_MAX_FRAME_BYTES + 1, 100_000, 2**20))
    talk.say(
        talk.random.choice((DATA, HEADERS, SETTINGS, 0x42)),
        0,
        talk.random.choice((0, 1)),
        bytes(size),
    )
    talk.request()


def _fields(talk: Talk) -> None:
    """Fields that HTTP/2 forbids, or that would be other fields in HTTP/1.1."""
    for _ in range(talk.random.randint(1, 3)):
        talk.request(talk.random.sample(_ODD_FIELDS, talk.random.randint(1, 2)))


KINDS: dict[str, Callable[[Talk], None]] = {
    "valid": _valid,
    "settings": _settings,
    "windows": _windows,
    "continuations": _continuations,
    "hpack": _hpack_garbage,
    "rapid reset": _rapid_reset,
    "streams": _streams,
    "data": _data,
    "priorities": _priorities,
    "control": _control,
    "floods": _floods,
    "oversized": _oversized,
    "fields": _fields,
}
_NAMES = (*KINDS, "truncated", "mangled", "no preface")


def http2_input(seed: int, number: int, callers: Callers) -> Connection:
    """An input."""
    random = numbered(seed, "http2", number)
    name = _NAMES[number % len(_NAMES)]
    talk = Talk(random, callers)
    begin = PREFACE + frame(SETTINGS, 0, 0)
    KINDS.get(name, random.choice((_valid, _data, _fields, _control)))(talk)
    said = b"".join(talk.frames)
    if name in KINDS:
        said = begin + said + frame(PING, 0, 0, STILL_THERE)
        return Connection(name, cut(random, said, _MOST_PIECES), comes_to_an_end=True)
    match name:
        case "truncated":
            said = begin + said[: random.randrange(1, len(said))]
        case "mangled":
            said = begin + mangle(random, said, (said,))
        case _:
            said = mangle(random, begin, (said,)) + said
    return Connection(name, cut(random, said, _MOST_PIECES), comes_to_an_end=False)
