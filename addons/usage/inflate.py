"""Decompression of bytes that pass by, in bounded memory and bounded work.

Metrion asks providers for uncompressed answers; this is for those that compress all the same.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import brotli  # pyright: ignore[reportMissingTypeStubs]
import zstandard

PIECE_BYTES = 64 * 1024

_brotli: Any = brotli  # the package comes without types
_FREE_BYTES = 1024 * 1024
_MAX_RATIO = 250
_ZSTD_INPUT_BYTES = 128
"""A block of zstd takes four bytes to say up to 128 KiB: this much input makes at most 4 MiB."""
_GZIP_OR_ZLIB = 47
_RAW_DEFLATE = -15

Inflate = Callable[[bytes], Iterator[bytes]]


class InflateError(Exception):
    """The bytes are not what their encoding says, or blow up to more than an answer can be."""


class Inflater:
    """One compressed answer: bytes in, plain pieces out (the largest from zstd, 4 MiB)."""

    def __init__(self, encoding: str) -> None:
        """Prepare for an encoding as in `Content-Encoding`.

        Raises:
            InflateError: no such encoding is known, or several are applied.
        """
        makers: dict[str, Callable[[], Inflate]] = {
            "gzip": lambda: _zlib_inflate(_GZIP_OR_ZLIB),
            "x-gzip": lambda: _zlib_inflate(_GZIP_OR_ZLIB),
            "deflate": _deflate,
            "br": _brotli_inflate,
            "zstd": _zstd_inflate,
        }
        maker = makers.get(encoding)
        if maker is None:
            raise InflateError(f"encoding {encoding[:40]!r} is not known")
        self._inflate = maker()
        self._budget = _FREE_BYTES

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Return the plain bytes of a chunk, piece by piece.

        Raises:
            InflateError: see there; the answer cannot be read any further.
        """
        self._budget += _MAX_RATIO * len(chunk)
        try:
            for piece in self._inflate(chunk):
                self._budget -= len(piece)
                if self._budget < 0:
                    raise InflateError(f"more than {_MAX_RATIO} times its compressed size")
                yield piece
        except (zlib.error, _brotli.error, zstandard.ZstdError) as error:
            raise InflateError(str(error)) from error


def _zlib_inflate(window_bits: int) -> Inflate:
    decoder = zlib.decompressobj(window_bits)

    def inflate(chunk: bytes) -> Iterator[bytes]:
        while not decoder.eof:
            piece = decoder.decompress(chunk, PIECE_BYTES)
            if piece:
                yield piece
            chunk = decoder.unconsumed_tail
            if len(piece) < PIECE_BYTES:
                return

    return inflate


def _deflate() -> Inflate:
    """`deflate` means zlib, but some servers send it raw; the first byte tells."""
    chosen: Inflate | None = None

    def inflate(chunk: bytes) -> Iterator[bytes]:
        nonlocal chosen
        if not chunk:
            return
        if chosen is None:
            is_zlib = chunk[0] & 0x0F == zlib.DEFLATED
            chosen = _zlib_inflate(_GZIP_OR_ZLIB if is_zlib else _RAW_DEFLATE)
        yield from chosen(chunk)

    return inflate


def _brotli_inflate() -> Inflate:
    decoder = _brotli.Decompressor()

    def inflate(chunk: bytes) -> Iterator[bytes]:
        while not decoder.is_finished():
            piece: bytes = decoder.process(chunk, output_buffer_limit=PIECE_BYTES)
            if not piece:
                return
            yield piece
            chunk = b""  # it has taken all of it, and may hold more than it gave

    return inflate


def _zstd_inflate() -> Inflate:
    decoder = zstandard.ZstdDecompressor().decompressobj()

    def inflate(chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), _ZSTD_INPUT_BYTES):
            if decoder.eof:
                return
            piece = decoder.decompress(chunk[start : start + _ZSTD_INPUT_BYTES])
            if piece:
                yield piece

    return inflate
