import zlib

import pytest

from addons.compressed_guard import CompressedKeyGuard, coding_of
from addons.credentials import KeyGuard
from addons.outcome import Outcome, Refused

KEY = b"sk-REAL-0123456789"


def guard(coding: str = "gzip") -> CompressedKeyGuard:
    return CompressedKeyGuard(KeyGuard(KEY), coding)


def gzipped(*pieces: bytes) -> list[bytes]:
    """Each piece so that it can be unpacked when it arrives."""
    packer = zlib.compressobj(wbits=31)
    packed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*packed, packer.flush()]


def test_an_answer_without_the_key_passes_as_it_comes():
    looking = guard()
    packed = gzipped(b"one", b"two")
    assert [looking.feed(piece) for piece in packed] == packed
    assert looking.finish() == b""
    assert not looking.has_blotted


@pytest.mark.parametrize("cut", range(len(KEY) + 1))
def test_nothing_of_a_key_passes_wherever_it_is_cut(cut):
    looking = guard()
    first, second, third, *_ = gzipped(b"a ", b"b " + KEY[:cut], KEY[cut:] + b" c")
    passed: list[bytes] = [looking.feed(first)]
    with pytest.raises(Refused) as refused:
        passed.extend(map(looking.feed, (second, third)))
    assert KEY[:1] not in zlib.decompressobj(31).decompress(b"".join(passed))
    assert (refused.value.status, refused.value.outcome) == (502, Outcome.UPSTREAM_CLOSED)
    assert looking.has_blotted
    assert looking.finish() == b""


def test_what_only_looks_like_the_beginning_of_a_key_passes_later():
    looking = guard()
    packed = gzipped(b"text sk-REAL", b"-x")
    assert looking.feed(packed[0]) == b""
    assert looking.is_holding
    assert looking.feed(packed[1]) == packed[0] + packed[1]
    assert not looking.is_holding


def test_what_is_held_back_at_the_end_passes():
    looking = guard()
    packed = gzipped(b"text sk-R")
    assert b"".join(looking.feed(piece) for piece in packed) + looking.finish() == b"".join(packed)


@pytest.mark.parametrize("encoding", ["aes128gcm", "gzip, gzip", "gzip"])
def test_what_cannot_be_unpacked_passes(encoding):
    looking = guard(encoding)
    assert looking.feed(b"not packed") == b"not packed"
    assert looking.feed(b"more") == b"more"


@pytest.mark.parametrize("coding", ["utf-8", "none", "compress", "gzip, gzip", "gzip", "br"])
def test_a_key_in_plain_text_is_blotted_whatever_its_coding_is_said_to_be(coding):
    text = b"Incorrect API key provided: " + KEY + b"."
    for cut in range(len(text) + 1):
        looking = guard(coding)
        passed = [looking.feed(text[:cut]), looking.feed(text[cut:]), looking.finish()]
        assert b"".join(passed) == text.replace(KEY, b"*" * len(KEY))
        assert looking.has_blotted


def test_a_key_behind_the_end_of_what_is_compressed_is_blotted():
    looking = guard()
    packed = b"".join(gzipped(b"one"))
    passed = [looking.feed(packed), looking.feed(KEY[:5]), looking.feed(KEY[5:]), looking.finish()]
    assert b"".join(passed) == packed + b"*" * len(KEY)


def test_a_key_of_which_a_part_was_held_back_when_unpacking_failed_is_blotted():
    looking = guard()
    packed = gzipped(b"text sk-")[0]
    assert looking.feed(packed) == b""
    assert looking.feed(KEY[:5]) + looking.feed(KEY[5:] + b".") == packed + b"*" * len(KEY) + b"."
    assert not looking.is_holding


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ([], ""),
        ([b"identity"], ""),
        ([b" Identity ,"], ""),
        ([b""], ""),
        ([b"gzip"], "gzip"),
        ([b" X-GZip\t"], "x-gzip"),
        ([b" GZip "], "gzip"),
        ([b"identity, gzip"], "gzip"),
        ([b"gzip", b"identity"], "gzip"),
        ([b"gzip, br"], "gzip, br"),
        ([b"gzip", b"BR"], "gzip, br"),
        ([b"\xff"], "\xff"),
    ],
)
def test_which_codings_an_answer_has(values, coding):
    headers = [(b"a", b"gzip"), *((b"content-encoding", value) for value in values)]
    assert coding_of(headers) == coding


def test_values_of_the_head_are_not_compressed():
    assert guard().blot(b"a " + KEY) == b"a " + b"*" * len(KEY)
