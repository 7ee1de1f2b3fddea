import gzip
import zlib
from typing import Any

import brotli
import httpx
import pytest
import zstandard

from scripts.fake_provider.answers import Answer, json_answer, stream_answer
from scripts.fake_provider.delivery import Plan, plan
from scripts.fake_provider.knobs import NO_KNOBS, Knobs, Position
from scripts.fake_provider.routes import Reply

EVENTS = [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"]


def planned(answer: Answer, **knobs: Any) -> Plan:
    return plan(Reply(answer, Knobs(**knobs) if knobs else NO_KNOBS, "openai", 1))


def unchunk(data: bytes) -> bytes:
    """Put a complete chunked body together."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        body += data[:count]
        assert data[count : count + 2] == b"\r\n"
        data = data[count + 2 :]
    assert size == b"0"
    return body


def test_a_json_answer_is_one_write_with_its_length():
    result = planned(json_answer({"a": 1}))
    assert b"content-length: 7\r\n" in result.start
    assert result.pieces == [b'{"a":1}']
    assert result.ending == "keep"


def test_a_stream_is_a_write_per_event():
    result = planned(stream_answer(EVENTS))
    assert b"transfer-encoding: chunked" in result.start
    assert len(result.pieces) == 3
    assert unchunk(b"".join(result.pieces)) == b"".join(EVENTS)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("answer", [json_answer({"a": 1}), stream_answer(EVENTS), json_answer("")])
def test_the_body_is_the_same_in_every_framing(answer: Answer, framing: str):
    result = planned(answer, framing=framing)
    sent = b"".join(result.pieces)
    body = unchunk(sent) if framing == "chunked" else sent
    assert body == (answer.body or b"".join(EVENTS))
    assert result.ending == ("fin" if framing == "close" else "keep")
    if framing == "length":
        assert b"content-length: %d\r\n" % len(body) in result.start


def test_an_empty_body_ends_in_every_framing():
    empty = Answer(307, b"text/plain", b"", headers=b"location: /\r\n")
    assert planned(empty, framing="chunked").pieces == [b"0\r\n\r\n"]
    assert planned(empty).pieces == []
    assert b"content-length: 0\r\n" in planned(empty).start


def test_no_body_where_there_is_none():
    assert planned(Answer(204, b"", b""), framing="chunked").pieces == []
    reply = Reply(stream_answer(EVENTS), NO_KNOBS, "openai", 1)
    assert plan(reply, head_only=True).pieces == []


def test_chunks_of_a_size():
    result = planned(stream_answer(EVENTS), chunk=10, framing="close")
    assert [len(piece) for piece in result.pieces] == [10, 10, 10, 5]
    assert b"".join(result.pieces) == b"".join(EVENTS)


@pytest.mark.parametrize(
    ("encoding", "decompressor"),
    [
        ("gzip", lambda: zlib.decompressobj(31).decompress),
        ("deflate", lambda: zlib.decompressobj().decompress),
        ("br", lambda: brotli.Decompressor().process),
        ("zstd", lambda: zstandard.ZstdDecompressor().decompressobj().decompress),
    ],
)
def test_each_event_can_be_read_when_it_arrives(encoding: str, decompressor: Any):
    result = planned(stream_answer(EVENTS), encoding=encoding, framing="close")
    decompress = decompressor()
    assert [decompress(piece) for piece in result.pieces] == EVENTS
    assert b"content-encoding: " + encoding.encode() in result.start


def test_a_compressed_body_is_whole():
    result = planned(json_answer({"a": 1}), encoding="gzip")
    assert gzip.decompress(result.pieces[0]) == b'{"a":1}'
    response = httpx.Response(200, content=result.pieces[0], headers={"content-encoding": "gzip"})
    assert response.json() == {"a": 1}


@pytest.mark.parametrize("knob", ["close", "stall"])
def test_answers_stop_where_they_are_told_to(knob: str):
    stream = stream_answer(EVENTS)
    nothing = planned(stream, **{knob: Position("head")})
    assert (nothing.start, nothing.pieces) == (b"", [])
    headed = planned(stream, **{knob: Position("writes", 0)})
    assert headed.start
    assert headed.pieces == []
    two = planned(stream, **{knob: Position("writes", 2)})
    assert two.pieces == [b"b\r\ndata: one\n\n\r\n", b"b\r\ndata: two\n\n\r\n"]
    cut = planned(stream, **{knob: Position("bytes", 13)})
    assert cut.pieces == [b"b\r\ndata: one\n\n\r\n", b"b\r\nda"]
    cut = planned(json_answer({"a": 1}), **{knob: Position("bytes", 3)})
    assert b"content-length: 7" in cut.start
    assert cut.pieces == [b'{"a']
    assert {nothing.ending, headed.ending, two.ending, cut.ending} == {
        "fin" if knob == "close" else "stall"
    }


def test_endings():
    answer = json_answer({})
    assert planned(answer, close=Position("head"), close_with="rst").ending == "rst"
    closed = planned(answer, connection="close")
    assert closed.ending == "fin"
    assert b"connection: close\r\n" in closed.start


def test_a_stream_may_end_in_an_error():
    result = planned(stream_answer(EVENTS), error_at=1, framing="close")
    assert result.pieces[0] == EVENTS[0]
    assert b'"error"' in result.pieces[1]
    assert len(result.pieces) == 2


def test_interim_responses_go_before_the_head():
    start = planned(json_answer({}), informational=(100, 103)).start
    assert start.startswith(b"HTTP/1.1 100 Interim\r\n\r\nHTTP/1.1 103 Interim\r\nlink: ")
    assert b"\r\n\r\nHTTP/1.1 200 OK\r\n" in start


@pytest.mark.parametrize("kind", ["text", "binary", "two-lengths", "fold", "bad-chunk"])
def test_garbage_is_all_there_is(kind: str):
    result = planned(json_answer({}), garbage=kind)
    assert result.start
    assert result.pieces == []
    assert result.ending == "fin"


def test_the_key_can_be_said_again_before_and_after_the_answer():
    def said(place: str) -> Plan:
        answer = stream_answer(EVENTS)._replace(echo=b"sk-key")
        return planned(answer, echo_in=place, informational=(103,))

    assert b"x-you-sent: sk-key\r\n\r\nHTTP/1.1 200 OK" in said("interim").start
    assert said("trailer").pieces[-1].endswith(b"\r\n0\r\nx-you-sent: sk-key\r\n\r\n")
    assert b"".join((said("interim").start, *said("interim").pieces)).count(b"sk-key") == 1
