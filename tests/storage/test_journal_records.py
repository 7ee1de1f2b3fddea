import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.journal_records import MAX_RECORD_BYTES, framed, records_in


@given(st.lists(st.binary(min_size=1, max_size=50)), st.integers(0, 10), st.integers(0, 500))
def test_whole_records_are_cut_off_the_beginning(records, limit, cut):
    chunk = b"".join(map(framed, records))[:cut]
    found, size = records_in(chunk, limit)
    assert found == records[: len(found)]
    assert size == len(b"".join(map(framed, found)))
    if len(found) < limit and len(found) < len(records):
        assert size + len(framed(records[len(found)])) > cut


@pytest.mark.parametrize("place", range(8 + 5))
def test_a_record_with_a_byte_that_is_another_is_none(place):
    chunk = bytearray(framed(b"first") + framed(b"later"))
    chunk[place] ^= 1
    assert records_in(bytes(chunk), 10) == ([], 0)


def test_the_form_is_what_it_was():
    assert framed(b"abc") == bytes.fromhex("03000000 c2412435") + b"abc"


@pytest.mark.parametrize("size", [1, MAX_RECORD_BYTES])
def test_how_long_a_record_may_be(size):
    assert records_in(framed(b"x" * size), 1) == ([b"x" * size], 8 + size)


@pytest.mark.parametrize("chunk", [bytes(24), framed(b""), framed(b"x" * (MAX_RECORD_BYTES + 1))])
def test_what_is_empty_or_too_long_is_no_record(chunk):
    assert records_in(chunk, 100) == ([], 0)
