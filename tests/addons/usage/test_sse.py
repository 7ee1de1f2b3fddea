import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.usage.documents import EDGE_BYTES, WHOLE_BYTES, Document
from addons.usage.sse import EventStream


class Heard:
    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.long: list[Document] = []
        self.stream = EventStream(self.events.append, self.long.append)


def events_of(*chunks: bytes) -> list[bytes]:
    heard = Heard()
    for chunk in chunks:
        heard.stream.feed(chunk)
    heard.stream.finish()
    assert not heard.long
    return heard.events


def test_line_ends_of_all_kinds():
    assert events_of(b"data: 1\n\ndata: 2\r\n\r\ndata: 3\r\rdata: 4\n\r\n") == [
        b"1",
        b"2",
        b"3",
        b"4",
    ]


def test_carriage_return_and_line_feed_in_two_chunks():
    assert events_of(b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n", b"", b"data: 3\n\n") == [
        b"1\n2",
        b"3",
    ]


def test_only_one_line_feed_belongs_to_a_carriage_return():
    assert events_of(b"data: 1\r", b"\n", b"\n", b"data: 2\n\n") == [b"1", b"2"]


def test_several_data_lines_are_one_event():
    assert events_of(b'data: {"a":\ndata:1\ndata:  2}\n\n') == [b'{"a":\n1\n 2}']


def test_comments_names_ids_and_unknown_fields_are_dropped():
    stream = b": ping\n\nevent: message\nid: 7\nretry: 10\ndatum: x\ndata\ndata:1\nfoo\n\n: x\n\n"
    assert events_of(stream) == [b"1"]


def test_byte_order_mark_only_at_the_start():
    mark = b"\xef\xbb\xbf"
    assert events_of(mark + b"data: 1\n\n" + mark + b"data: 2\n\n") == [b"1"]
    assert events_of(mark + b"data: 1\n\n", mark + b"data: 2\n\n") == [b"1"]
    assert events_of(b"\n" + mark + b"data: 1\n\n") == []
    assert events_of(mark[:1], mark[1:] + b"da", b"ta: 1\n\n") == [b"1"]


def test_an_event_that_is_not_completed_is_read_at_the_end():
    assert events_of(b"data: 1\n\ndata: 2") == [b"1", b"2"]
    assert events_of(b"data: 1\n") == [b"1"]


def test_characters_of_several_bytes_may_be_cut():
    text = "data: żółć 🎉\n\n".encode()
    assert events_of(*[bytes([byte]) for byte in text]) == ["żółć 🎉".encode()]


@given(
    st.lists(
        st.sampled_from([b"data: x", b"data:", b": c", b"event: e", b"\r", b"\n", b"\r\n", b"y"])
    ),
    st.lists(st.integers(0, 200)),
)
def test_cutting_changes_nothing(parts, cuts):
    stream = b"".join(parts)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert events_of(*chunks) == events_of(stream)
    assert events_of(*[bytes([byte]) for byte in stream]) == events_of(stream)


def test_long_events_are_given_on_by_their_ends():
    heard = Heard()
    lines = [b"data: start", b"data: " + b"x" * WHOLE_BYTES, b"data: end", b""]
    heard.stream.feed(b"\n".join(lines) + b"\ndata: short\n\n")
    heard.stream.feed(b"data: begin")
    for _ in range(WHOLE_BYTES // 1024 + 1):
        heard.stream.feed(b"y" * 1024)
    heard.stream.feed(b"finish\ndata: more\n\ndata: short\n\n")
    assert heard.events == [b"short", b"short"]
    first, second = (event.ends for event in heard.long)
    assert first[0].startswith(b"start\nxxx")
    assert first[1].endswith(b"xxxend")
    assert second[0].startswith(b"data: beginyyy")
    assert second[1].rstrip(b"\n").endswith(b"yyyfinishmore")


def test_where_an_event_begins_to_be_long():
    for size, is_long in ((WHOLE_BYTES - 1, False), (WHOLE_BYTES, True)):  # and its line feed
        heard = Heard()
        heard.stream.feed(b"data: " + b"x" * size + b"\n\n")
        assert (len(heard.events), len(heard.long)) == (not is_long, is_long)


def test_lines_after_a_long_one_stay_lines():
    heard = Heard()
    heard.stream.feed(b"data: " + b"x" * WHOLE_BYTES + b"\ndata: one\ndata: two\n\n")
    assert heard.long[0].ends[1].endswith(b"xone\ntwo")


@pytest.mark.parametrize("before", [b"", b"data: before\n"])
def test_a_long_line_in_pieces_is_an_event_by_itself(before):
    heard = Heard()
    heard.stream.feed(before + b"data: begin")
    for _ in range(WHOLE_BYTES // 1024 + 1):
        heard.stream.feed(b"y" * 1024)
    heard.stream.feed(b"finish\n\n")
    (event,) = heard.long
    assert event.ends[0].startswith(b"data: beginyyy")
    assert event.ends[1].endswith(b"yyyfinish")


def test_memory_is_bounded_whatever_comes():
    for chunk in (b"data: x\n", b"data:\n", b"x" * 999, b"data: " + b"y" * 5000 + b"\n", b": c\n"):
        heard = Heard()
        for _ in range(3 * WHOLE_BYTES // len(chunk)):
            heard.stream.feed(chunk)
        kept = heard.stream
        held = sum(map(len, kept._data)) + len(kept._data)
        held += sum(len(part) for part in (kept._line, kept._long) if part is not None)
        assert held <= WHOLE_BYTES + 6 * EDGE_BYTES
