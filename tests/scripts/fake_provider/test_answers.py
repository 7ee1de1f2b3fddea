import json

from scripts.fake_provider.answers import (
    data_event,
    json_answer,
    named_event,
    stream_answer,
    to_json,
)


def test_json_is_compact_utf8():
    assert to_json({"a": "é\n", "b": None}) == '{"a":"é\\n","b":null}'.encode()
    assert to_json("\0") == b'"\\u0000"'  # the streams are rendered around this mark


def test_answers_and_events():
    assert json_answer({"a": 1}, 418).status == 418
    assert stream_answer([b"x"]).events == (b"x",)
    assert data_event({"a": 1}) == b'data: {"a":1}\n\n'
    event = named_event({"type": "ping", "n": 1})
    assert event.startswith(b"event: ping\ndata: ")
    assert json.loads(event.partition(b"data: ")[2]) == {"type": "ping", "n": 1}
