"""From an answer to the bytes that go out, in which writes, and how it ends. No sockets here."""

import zlib
from typing import Any, Literal, NamedTuple, Protocol, cast

import brotli  # pyright: ignore[reportMissingTypeStubs] - ships none
import zstandard

from scripts.fake_provider.head import render_head
from scripts.fake_provider.knobs import (
    NO_KNOBS,
    Encoding,
    Framing,
    Garbage,
    Knobs,
    Position,
)
from scripts.fake_provider.routes import Reply, error_event

_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_GARBAGE: dict[Garbage, bytes] = {
    "text": b"220 mail.example.com ESMTP ready\r\n",
    "binary": bytes(range(256)) * 4,
    "two-lengths": _WHOLE + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
    "length-and-chunked": (
        _WHOLE + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    ),
    "fold": _WHOLE + b"x-folded: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
    "endless-head": _WHOLE + b"x-more: " + b"a" * 2_000_000,
    "bad-chunk": _WHOLE + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\nnot-a-size\r\n",
}


class Plan(NamedTuple):
    """What is written: first `start`, then each of `pieces`, and then what `ending` says.

    `keep` leaves the connection ready for the next request, `stall` leaves it open and silent.
    """

    start: bytes
    pieces: list[bytes]
    ending: Literal["keep", "stall", "fin", "rst"]


class _Compressor(Protocol):
    def add(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


def plan(reply: Reply, *, head_only: bool = False) -> Plan:
    """Lay out the writes of one answer, cut off where the knobs say."""
    answer, knobs = reply.answer, reply.knobs
    if knobs.garbage:
        return Plan(_GARBAGE[knobs.garbage], [], "fin")
    framing: Framing = knobs.framing or ("length" if answer.events is None else "chunked")
    pieces = [answer.body] if answer.events is None else _events(answer.events, reply)
    if knobs is not NO_KNOBS:
        pieces = _recut(_compress(pieces, knobs.encoding), knobs.chunk)
    start = render_head(reply, framing, sum(map(len, pieces)))
    has_body = bool(answer.content_type) and not head_only
    pieces = [piece for piece in pieces if piece] if has_body else []
    cut = knobs.close or knobs.stall
    if cut:
        return _cut_off(knobs, cut, _interim(reply) + start, pieces, framing)
    pieces = _framed(pieces, framing)
    if framing == "chunked" and has_body:
        # With the last piece, as servers do: a slow stream's end is not a write of its own.
        trailer = b"x-you-sent: %b\r\n" % answer.echo if knobs.echo_in == "trailer" else b""
        pieces = [*pieces[:-1], b"".join(pieces[-1:]) + b"0\r\n%b\r\n" % trailer]
    ending = "fin" if framing == "close" or knobs.connection == "close" else "keep"
    return Plan(_interim(reply) + start, pieces, ending)


def _cut_off(
    knobs: Knobs, cut: Position, start: bytes, pieces: list[bytes], framing: Framing
) -> Plan:
    ending = knobs.close_with if knobs.close else "stall"
    if cut.unit == "head":
        return Plan(b"", [], ending)
    if cut.unit == "writes":
        return Plan(start, _framed(pieces[: cut.count], framing), ending)
    return Plan(start, _first_bytes(pieces, cut.count, framing), ending)


def _events(events: tuple[bytes, ...], reply: Reply) -> list[bytes]:
    if reply.knobs.error_at is None:
        return list(events)
    return [*events[: reply.knobs.error_at], error_event(reply.family)]


def _interim(reply: Reply) -> bytes:
    knobs = reply.knobs
    hints = b"link: </style.css>; rel=preload; as=style\r\n"
    if knobs.echo_in == "interim":
        hints += b"x-you-sent: %b\r\n" % reply.answer.echo
    return b"".join(
        b"HTTP/1.1 %d Interim\r\n%b\r\n" % (status, hints if status != 100 else b"")  # noqa: PLR2004
        for status in knobs.informational
    )


def _framed(pieces: list[bytes], framing: Framing) -> list[bytes]:
    if framing != "chunked":
        return pieces
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]


def _first_bytes(pieces: list[bytes], count: int, framing: Framing) -> list[bytes]:
    """Keep the body's first bytes; the last chunk may announce more than it brings."""
    kept: list[bytes] = []
    left = count
    for piece in pieces:
        if len(piece) > left:
            announced = b"%x\r\n" % len(piece) if framing == "chunked" else b""
            kept.append(announced + piece[:left])
            break
        kept += _framed([piece], framing)
        left -= len(piece)
    return kept


def _recut(pieces: list[bytes], size: int | None) -> list[bytes]:
    if size is None:
        return pieces
    whole = b"".join(pieces)
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def _compress(pieces: list[bytes], encoding: Encoding | None) -> list[bytes]:
    """Compress each piece so that it can be read when it arrives."""
    if encoding is None:
        return pieces
    compressor = _compressor(encoding)
    compressed = [compressor.add(piece) for piece in pieces]
    compressed[-1] += compressor.finish()
    return compressed


def _compressor(encoding: Encoding) -> _Compressor:
    match encoding:
        case "gzip":
            return _Zlib(31)
        case "deflate":
            return _Zlib(15)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstandard()


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.compressobj(wbits=window_bits)

    def add(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Brotli:
    def __init__(self) -> None:
        self._stream = cast("Any", brotli).Compressor()

    def add(self, data: bytes) -> bytes:
        return self._stream.process(data) + self._stream.flush()

    def finish(self) -> bytes:
        return self._stream.finish()


class _Zstandard:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor().compressobj()

    def add(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._stream.flush()
