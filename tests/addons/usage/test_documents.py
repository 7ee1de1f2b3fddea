import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.usage.documents import (
    EDGE_BYTES,
    WHOLE_BYTES,
    Document,
    any_string,
    count_of,
    error_message_of,
    last_object,
    list_of,
    name_of,
    object_of,
    parse,
)


def document(text: bytes, step: int = 10_000) -> Document:
    made = Document()
    for start in range(0, len(text), step):
        made.add(text[start : start + step])
    return made


def test_a_text_of_256_kib_is_kept_whole():
    text = b"x" * 262_144
    assert document(text).whole == text
    assert document(text).ends == (text, text)
    assert len(document(text)) == 262_144
    assert document(text + b"x").whole is None


@pytest.mark.parametrize("step", [1000, 70_000, 10_000_000])
def test_of_a_long_text_the_ends_are_kept(step):
    text = b"<begin>" + b"x" * 1_000_000 + b"<end>"
    made = document(text, step)
    assert made.whole is None
    head, tail = made.ends
    assert head == text[:65_536]
    assert tail.endswith(text[-65_536:])
    assert len(made) == len(head) + len(tail) <= 5 * EDGE_BYTES


def test_memory_is_bounded_and_what_is_kept_is_seldom_moved():
    made = Document()
    sizes = []
    for _ in range(30):
        made.add(b"x" * EDGE_BYTES)
        sizes.append(len(made))
    assert max(sizes) == 5 * EDGE_BYTES
    assert sum(after < before for before, after in itertools.pairwise(sizes)) <= 30 / 3


def test_objects_are_found_from_the_end_then_from_the_beginning():
    filler = b'"x": "' + b"x" * WHOLE_BYTES + b'"'
    both = b'{"usage": {"a": 1}, ' + filler + b', "usage" : {"a": 2}, "usage": null'
    assert last_object(document(both), "usage") == {"a": 2}
    first = b'{"usage": {"a": 1}, ' + filler
    assert last_object(document(first), "usage") == {"a": 1}
    assert last_object(document(filler), "usage") is None
    assert last_object(document(b'{"usage": {"a": 1}, "usage": {"a'), "usage") == {"a": 1}
    two = b'{"usage": {"a": 1}, "usage": {"a": 2}, '
    assert last_object(document(two), "usage") == {"a": 2}
    assert last_object(document(two + filler), "usage") == {"a": 1}


def test_text_in_strings_is_no_object():
    text = json.dumps({"text": '"usage": {"a": 1}', "other_usage": {"a": 2}}).encode()
    assert last_object(document(text), "usage") is None


def test_looking_for_an_object_takes_bounded_work():
    assert last_object(document(b'"usage":{' * 20_000), "usage") is None
    # eight places are tried from either end
    good, bad = b'"usage":{"a": 1}', b'"usage":{'
    assert last_object(document(bad * 8 + good + bad * 7), "usage") == {"a": 1}
    assert last_object(document(bad * 8 + good + bad * 8), "usage") is None
    # and what is longer than an end is not read
    long = b'"usage":{"a": "' + b"x" * EDGE_BYTES + b'"}'
    assert last_object(document(long), "usage") is None


def test_strings():
    assert any_string(document('{"model": "gpt-é", "model": "b"'.encode()), "model") == "gpt-é"
    assert any_string(document(b'{"model": ""}'), "model") is None
    assert any_string(document(b'{"model": "\xff"}'), "model") == "\N{REPLACEMENT CHARACTER}"


@given(st.binary(max_size=200))
def test_no_bytes_make_them_raise(junk):
    for text in (junk, b'{"usage": ' + junk, b'"usage":{' + junk):
        made = document(text)
        parse(text)
        last_object(made, "usage")
        any_string(made, "usage")


def test_parsing():
    assert parse(b'{"a": [1]}') == {"a": [1]}
    assert parse(b"[" * 100_000) is None
    assert parse(b"1" * 10_000) is None
    assert parse(b"\xff{}") is None


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (7, 7),
        (0, 0),
        (7.0, 7),
        (2_147_483_647, 2_147_483_647),  # the largest that a column holds
        (2_147_483_648, None),
        (10**400, None),
        (7.5, None),
        (float("inf"), None),
        (float("nan"), None),
        (-1, None),
        (True, None),
        ("7", None),
        (None, None),
        ([], None),
    ],
)
def test_counts(value, count):
    assert count_of(value) == count


def test_shapes():
    assert object_of([]) == {}
    assert list_of({}) == []
    assert name_of("m") == "m"
    assert name_of("m" * 200) == "m" * 200
    assert name_of("") is None
    assert name_of("m" * 201) is None
    assert name_of(7) is None


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"error": {"message": "Bad key", "type": "x", "param": None, "code": None}}, "Bad key"),
        ({"type": "error", "error": {"type": "x", "message": "Overloaded"}}, "Overloaded"),
        ([{"error": {"code": 400, "message": "Invalid", "status": "X"}}], "Invalid"),
        ({"code": "Client error", "error": "Incorrect API key"}, "Incorrect API key"),
        (
            {"object": "error", "message": "Invalid model", "type": "x", "code": 1500},
            "Invalid model",
        ),
        ({"detail": [{"loc": ["body"], "msg": "Field required", "type": "x"}]}, "Field required"),
        ({"detail": "Unauthorized"}, "Unauthorized"),
        ({"type": "error", "message": "Broken", "code": None}, "Broken"),
        ({"error": {"message": ""}}, None),
        ({"error": {"message": "x" * 900}}, "x" * 500),
        ({"error": None, "message": "a normal answer"}, None),
        ({"error": {"message": ["no text"]}}, None),
        ({"detail": 7}, None),
        ([], None),
        ("error", None),
        (None, None),
    ],
)
def test_error_messages_in_every_providers_shape(answer, message):
    assert error_message_of(answer) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_a_text_is_read_as_json_reads_it(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        expected = repr(json.loads(text))
    except ValueError:
        expected = "None"
    assert repr(parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'"\\ud800"', "\ud800"),
        (b"\xef\xbb\xbf{}", {}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"[" * 300 + b"]" * 300, json.loads(b"[" * 300 + b"]" * 300)),
        (b"[" * 100_000, None),
        (b'{"a": 01}', None),
        (b'"\xff"', None),
        (b"", None),
    ],
)
def test_what_the_quick_reader_refuses_is_read_leniently(text, value):
    assert parse(text) == value
