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


def pieces_of(encoding: str, packed: bytes, most: int = 0) -> list[bytes]:
    """What one chunk gives; with `most`, as if so much were not too much yet."""
    inflater = Inflater(encoding)
    inflater._budget = max(inflater._budget, most)
    return list(inflater.feed(packed))


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
    bomb = PACKERS[name](bytes(10**7)) if name != "br" else brotli.compress(bytes(10**7), quality=3)
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


@pytest.mark.parametrize(
    ("name", "size", "most"),
    [
        ("gzip", 10**6, 64 * 1024),
        ("deflate", 10**6, 64 * 1024),
        ("deflate raw", 10**6, 64 * 1024),
        ("br", 10**6, 2 * 64 * 1024),  # it takes the limit for a wish
        ("zstd", 2 * 10**7, 4 * 1024 * 1024),
    ],
)
def test_pieces_are_bounded(name, size, most):
    pieces = pieces_of(name.split()[0], PACKERS[name](bytes(size)), size)
    assert sum(map(len, pieces)) == size
    assert max(map(len, pieces)) <= most


def test_what_waits_in_the_decoder_when_all_input_is_read_is_not_lost():
    text = bytes(64 * 1024 + 1)
    assert inflated("deflate", raw_deflate(text), 10**9) == text


def test_a_mebibyte_and_250_times_what_came_is_not_too_much():
    packed_bytes = len(zstandard.ZstdCompressor().compress(bytes(1_060_000)))
    most = 1_048_576 + 250 * packed_bytes
    for size in (most, most + 1):
        packed = zstandard.ZstdCompressor().compress(bytes(size))
        assert len(packed) == packed_bytes
        if size == most:
            assert sum(map(len, pieces_of("zstd", packed))) == most
        else:
            with pytest.raises(InflateError, match="more than 250 times its compressed size"):
                pieces_of("zstd", packed)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_not_compressed_is_said_so(encoding):
    with pytest.raises(InflateError):
        list(Inflater(encoding).feed(b'{"object": "list", "data": []}' * 10))


@pytest.mark.parametrize("encoding", ["gzip, br", "compress", "x" * 1000])
def test_unknown_encodings(encoding):
    with pytest.raises(InflateError, match="not known") as caught:
        Inflater(encoding)
    assert "x" * 41 not in str(caught.value)  # it goes to a log


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
