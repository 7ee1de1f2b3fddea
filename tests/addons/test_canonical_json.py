"""The same meaning has the same digest, and nothing else has."""

import json
import random

import jiter
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from addons import canonical_json
from addons.canonical_json import canonical_digest

# Without halves of characters, which the check of bodies refuses.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
WHOLE = ("0", "-0", "1", "-1", "10", "9007199254740993")
NUMBERS = st.sampled_from([*WHOLE, *(f"{n}{rest}" for n in WHOLE for rest in (".0", "e0", "E+2"))])


class Number:
    """A number as it is written."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


VALUES = st.recursive(
    st.none() | st.booleans() | TEXTS | NUMBERS.map(Number),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXTS, values, max_size=4),
    max_leaves=10,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)
# So few that two of them are often equal, or nearly so.
NAMES = st.sampled_from(["a", "b", "properties"])
CLOSE_VALUES = st.recursive(
    st.sampled_from([None, True, "", "1", Number("1"), Number("1.0"), Number("12")]),
    lambda values: st.lists(values, max_size=2) | st.dictionaries(NAMES, values, max_size=3),
    max_leaves=4,
)
CLOSE = st.dictionaries(NAMES, CLOSE_VALUES, max_size=3)


def text_of(text, rng):
    """A JSON string, each character written in some way."""
    written = ['"']
    for character in text:
        ways = [json.dumps(character)[1:-1]]
        if character >= " " and character not in '"\\':
            ways.append(character)
        if character == "/":
            ways.append("\\/")
        if ord(character) < 0x10000:
            ways += [f"\\u{ord(character):04x}", f"\\u{ord(character):04X}"]
        written.append(rng.choice(ways))
    return "".join(written) + '"'


def write(value, rng, *, in_schema=False):
    """The value as JSON: members in some order, with some spaces; but for a schema's order."""

    def space():
        return rng.choice(["", "", " ", "\n", "\t\r\n "])

    if isinstance(value, dict):
        names = list(value)
        if not in_schema:
            rng.shuffle(names)
        members = [
            f"{space()}{text_of(name, rng)}{space()}:{space()}"
            f"{write(value[name], rng, in_schema=name == 'properties')}{space()}"
            for name in names
        ]
        return "{" + (",".join(members) or space()) + "}"
    if isinstance(value, list):
        items = [f"{space()}{write(item, rng)}{space()}" for item in value]
        return "[" + (",".join(items) or space()) + "]"
    if isinstance(value, str):
        return text_of(value, rng)
    return value.text if isinstance(value, Number) else json.dumps(value)


@settings(max_examples=60)
@given(OBJECTS, st.integers(0, 9), st.integers(10, 19))
def test_order_spacing_and_escapes_mean_nothing(value, one, other):
    texts = [write(value, random.Random(seed)).encode() for seed in (one, other)]
    assert canonical_digest(texts[0]) == canonical_digest(texts[1])


def same(one, other, *, in_schema=False):
    """Equality that tells numbers by how they are written, and schemas by their order."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys() or (in_schema and list(one) != list(other)):
            return False
        return all(same(one[n], other[n], in_schema=n == "properties") for n in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Number) and isinstance(other, Number):
        return one.text == other.text
    return type(one) is type(other) and one == other


@given(CLOSE, CLOSE)
@example({"a": {"properties": {"a": 1, "b": 2}}}, {"a": {"properties": {"b": 2, "a": 1}}})
@example({"a": 1, "b": 2}, {"b": 2, "a": 1})
def test_different_meanings_have_different_digests(one, other):
    texts = [write(value, random.Random(1)).encode() for value in (one, other)]
    assert (canonical_digest(texts[0]) == canonical_digest(texts[1])) == same(one, other)


DIFFERENT = [
    "{}",
    '{"a":1}',
    '{"a":1.0}',
    '{"a":1e0}',
    '{"a":10e-1}',
    '{"a":"1"}',
    '{"a":[1]}',
    '{"a":true}',
    '{"a":null}',
    '{"a":-0}',
    '{"a":0}',
    '{"a":""}',
    '{"a":{}}',
    '{"a":[]}',
    '{"a":"NaN"}',
    '{"a":"\\ud800\\udc001"}',  # a number is noted with the half of such a character
    '{"a":"\\\\ud8001"}',
    '{"a":[null,1]}',
    '{"a":[1,null]}',
    '{"a":[1,2]}',
    '{"a":[2,1]}',
    '{"a":[12]}',
    '{"a":1,"b":2}',
    '{"a":2,"b":1}',
    '{"a":"1,2"}',
    '{"a":"\\n"}',
    '{"a":"\\\\n"}',
    '{"A":1}',
    '{"a":"\u00e9"}',  # composed
    '{"a":"e\u0301"}',  # decomposed: the same to the eye, other tokens to a model
    '{"a":9007199254740993}',
    '{"a":9007199254740992}',
    '{"a":0.1}',
    '{"a":0.1000000000000000055511151231257827}',
    '{"a":1e400}',
    '{"a":1e401}',
    '{"properties":[["a"],{"a":1}]}',
    '{"properties":{"a":1}}',
    '{"properties":["Infinity",["a"],{"a":1}]}',
]


def test_what_is_close_is_not_the_same():
    digests = {canonical_digest(text.encode()) for text in DIFFERENT}
    assert len(digests) == len(DIFFERENT)


def test_a_schemas_properties_are_in_an_order():
    """https://platform.openai.com/docs/guides/structured-outputs#key-ordering."""

    def schema(*names, **kinds):
        properties = {name: {"type": "string", "title": name} for name in names}
        return json.dumps(
            {"schema": {"type": "object", "properties": properties, **kinds}}
        ).encode()

    first = canonical_digest(schema("reasoning", "verdict"))
    assert first != canonical_digest(schema("verdict", "reasoning"))
    assert first == canonical_digest(schema("reasoning", "verdict").replace(b" ", b"  "))
    other_way = b'{"schema":{"properties":{"reasoning":{"title":"reasoning","type":"string"},'
    other_way += b'"verdict":{"title":"verdict","type":"string"}},"type":"object"}}'
    assert first == canonical_digest(other_way)


@pytest.mark.parametrize("depth", [190])
def test_what_the_check_lets_pass_can_be_digested(depth):
    nested = b"[" * depth + b"1" + b"]" * depth
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    for body in (b'{"a":' + nested + b"}", deep, b'{"a":' + b"9" * 4000 + b"}"):
        jiter.from_json(body)
        canonical_digest(body)


def test_no_step_of_python_is_made_for_each_number(lines_run):
    def lines(numbers):
        body = f'{{"a":[{",".join(["0", "-1.5e3"] * numbers)}]}}'.encode()
        return lines_run(canonical_json, lambda: canonical_digest(body))

    assert 0 < lines(5_000) == lines(10)
