"""Bodies end where their length, their chunks or their connection say, or are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.body_reader import BodyReader, MalformedBodyError
from addons.framing import HEAD_MAX_BYTES, UNTIL_CLOSE, ReceiveBuffer


def buffer_of(data: bytes) -> ReceiveBuffer:
    buffer = ReceiveBuffer()
    buffer += data
    return buffer


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
)
def test_chunks_arrive_whole_however_they_are_cut(pieces, cuts):
    data, reader, buffer = (
        chunked(pieces) + b"next",
        BodyReader(None, of_request=True),
        ReceiveBuffer(),
    )
    read, ended, position, turn = b"", False, 0, 0
    while not ended:
        cut = cuts[turn % len(cuts)]
        buffer += data[position : position + cut]
        position, turn = position + cut, turn + 1
        more, ended = reader.read(buffer)
        read += more
    assert read == b"".join(pieces)
    assert b"next".startswith(bytes(buffer))


# what could be taken for the size of a chunk, or for its end
SIZE_LIKE = st.lists(st.sampled_from([b"1\r\n", b"a\r\n", b"\r\n", b"0\r\n\r\n", b"x"]), min_size=1)


@given(
    st.lists(SIZE_LIKE.map(b"".join), max_size=6),
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
    st.integers(0, 12),
)
def test_chunks_of_an_answer_are_the_same_on_the_short_way(pieces, cuts, before):
    data, reader, buffer = chunked(pieces), BodyReader(None), buffer_of(b"")
    buffer += data[:before]  # came with the head
    read, ended = reader.read(buffer)
    position, turn = before, 0
    while not ended:
        cut = cuts[turn % len(cuts)]
        more, ended = reader.read_next(data[position : position + cut], buffer)
        position, turn, read = position + cut, turn + 1, read + more
    assert (read, bytes(buffer)) == (b"".join(pieces), b"")


@pytest.mark.parametrize("data", [b"1\r\nab\r\n", b"zz\r\n", b"1\r\na\r\nzz\r\n"])
def test_the_short_way_takes_nothing_that_h11_refuses(data):
    with pytest.raises(MalformedBodyError):
        BodyReader(None).read_next(data, ReceiveBuffer())


def test_a_length_is_read_to_its_end_and_no_further():
    reader, buffer = BodyReader(5), buffer_of(b"abc")
    assert reader.read(buffer) == (b"abc", False)
    buffer += b"defgh"
    assert reader.read(buffer) == (b"de", True)
    assert bytes(buffer) == b"fgh"
    assert not reader.ends_with_connection
    assert BodyReader(0).read(ReceiveBuffer()) == (b"", True)


def test_a_body_may_end_with_its_connection():
    reader = BodyReader(UNTIL_CLOSE)
    assert reader.read(buffer_of(b"abc")) == (b"abc", False)
    assert reader.ends_with_connection


@pytest.mark.parametrize("of_request", [True, False])
def test_trailers_are_dropped(of_request):
    reader = BodyReader(None, of_request=of_request)
    assert reader.read(buffer_of(b"1\r\na\r\n0\r\nX: y\r\n\r\n")) == (b"a", True)


@pytest.mark.parametrize(
    "data", [b"zz\r\n", b"-1\r\n", b"1\r\nab\r\n", b"1;" + b"x" * (HEAD_MAX_BYTES + 1)]
)
def test_chunks_that_are_none_end_the_body(data):
    for of_request in (True, False):
        with pytest.raises(MalformedBodyError):
            BodyReader(None, of_request=of_request).read(buffer_of(data))


@pytest.mark.parametrize(
    "data",
    [
        b"1 \r\na\r\n0\r\n\r\n",
        b"000000001\r\na\r\n0\r\n\r\n",
        b"1\t\r\na\r\n0\r\n\r\n",
        b"1;a\rb\r\na\r\n0\r\n\r\n",
        b"1;\0\r\na\r\n0\r\n\r\n",
        b"1\r\na\r\n0\r\n\nGET / HTTP/1.1\r\n",
        b"1\r\na\r\n0\r\nX: y\n\r\n",
        b"1\r\na\r\n0\r\nX: y\r\n z\r\n\r\n",
        b"1\r\na\r\n0\r\n z\r\n\r\n",
        b"1\r\na\r\n0\r\nX\r\n\r\n",
        b"1\r\na\r\n0\r\nX: a\rb\r\n\r\n",
        b"1\r\na\r\n0\r\n" + b"X: y\r\n" * (HEAD_MAX_BYTES // 6 + 1),
    ],
)
def test_no_request_has_chunks_that_end_elsewhere_for_others(data):
    with pytest.raises(MalformedBodyError):
        BodyReader(None, of_request=True).read(buffer_of(data))


def test_chunks_of_a_request_may_have_extensions_and_come_byte_by_byte():
    data = b"01;a=b\r\na\r\n2 ;c\r\nbc\r\n0\r\nX: y\r\n\r\nnext"
    reader, buffer, read, ended = BodyReader(None, of_request=True), ReceiveBuffer(), b"", False
    for byte in data:
        buffer += bytes([byte])
        if not ended:
            more, ended = reader.read(buffer)
            read += more
    assert (read, ended, bytes(buffer)) == (b"abc", True, b"next")
