import gzip
import os
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from addons.usage.inflate import InflateError, Inflater


def raw_deflate(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(text) + packer.flush()


PACKERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate raw": raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
ENCODINGS = sorted({name.split()[0] for name in PACKERS})


def inflated(encoding: str, packed: bytes, step: int) -> bytes:
    inflater = Inflater(encoding)
    return b"".join(
        piece
        for start in range(0, len(packed), step)
        for piece in inflater.feed(packed[start : start + step])
    )


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("step", [1, 100, 10**9])
def test_every_encoding_in_any_pieces(name, step):
    text = b"data: some text\n\n" * 5000 + os.urandom(3000)
    assert inflated(name.split()[0], PACKERS[name](text), step) == text


@pytest.mark.parametrize("name", PACKERS)
def test_bombs_are_given_up_in_bounded_memory(name):
    bomb = (
        PACKERS[name](bytes(40_000_000))
        if name != "br"
        else brotli.compress(bytes(10**8), quality=3)
    )
    inflater = Inflater(name.split()[0])
    largest = total = 0

    def swallow() -> None:
        nonlocal largest, total
        for piece in inflater.feed(bomb[:65536]):
            largest = max(largest, len(piece))
            total += len(piece)

    with pytest.raises(InflateError, match="times its compressed size"):
        swallow()
    assert largest <= 4 * 1024 * 1024
    assert total <= 250 * 65536 + 1024 * 1024


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_not_compressed_is_said_so(encoding):
    with pytest.raises(InflateError):
        list(Inflater(encoding).feed(b'{"object": "list", "data": []}' * 10))


@pytest.mark.parametrize("encoding", ["gzip, br", "compress", "x" * 1000])
def test_unknown_encodings(encoding):
    with pytest.raises(InflateError, match="not known"):
        Inflater(encoding)


@given(st.sampled_from(ENCODINGS), st.lists(st.binary(max_size=100)))
def test_no_bytes_raise_anything_else(encoding, chunks):
    inflater = Inflater(encoding)
    try:
        for chunk in chunks:
            list(inflater.feed(chunk))
    except InflateError:
        pass


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "br"])
def test_bytes_after_the_end_are_ignored(name):
    assert inflated(name.split()[0], PACKERS[name](b"text") + b"more", 10**9) == b"text"
