"""A mass of JSON bodies for the checks alone, each judged by another parser and the rules.

The rules are SPEC section 5's: a JSON object without a repeated key, with what its endpoint needs.
The other parser is Python's own.
"""

import json
from typing import Any, cast

from addons.canonical_json import canonical_digest
from addons.outcome import Refused
from addons.providers.base import Endpoint
from addons.validation import MODEL_MAX_CHARS, BodyFacts, check_body
from scripts.proof.fuzzing.json_grammar import json_input
from scripts.proof.fuzzing.tally import Tally

_BAD_REQUEST = 400
# jiter's and Python's limits differ: between them either answer will do.
_CERTAINLY_SHALLOW = 190
_CERTAINLY_SHORT = 4000
_WISH = b'"include_usage":true'
_WISH_BYTES = len(b'"stream_options":{"include_usage":true},')
_NULL = b"null"


class NotAcceptableError(Exception):
    """What the rules have against a body."""


class UnsureError(Exception):
    """The rules leave it open."""


def try_bodies(tally: Tally, pid: int) -> None:
    """Check as many bodies as were planned."""
    for number in range(tally.planned):
        body = json_input(tally.seed, number)
        judge_body(tally, number, body.data, body.endpoint)
        tally.inputs += 1
        tally.looks(pid)


def judge_body(tally: Tally, number: int, data: bytes, endpoint: Endpoint) -> None:
    """Look at what the checks say of one body."""
    facts: BodyFacts | None = None
    try:
        facts = check_body(data, endpoint, with_digest=True)
    except Refused as refused:
        if (refused.status, refused.code) != (_BAD_REQUEST, "invalid_request"):
            tally.fail("wrong", f"refused with {refused.status}", number, data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        tally.fail("crash", repr(error), number, data)
        return
    try:
        fields = acceptable(data, endpoint)
    except UnsureError:
        return
    except NotAcceptableError as reason:
        if facts is not None:
            tally.fail("not admitted", f"taken although {reason}", number, data)
        return
    if facts is None:
        tally.fail("wrong", "refused without a reason", number, data)
        return
    tally.forwarded += 1
    if why := unlike(facts, fields, data, endpoint):
        tally.fail("wrong", why, number, data)


def acceptable(data: bytes, endpoint: Endpoint) -> dict[str, Any]:
    """The members of a body that the rules have nothing against.

    Raises:
        NotAcceptableError: they have.
        UnsureError: it is up to the parser.
    """
    try:
        value: Any = json.loads(
            data.decode(), object_pairs_hook=_members, parse_constant=_constant, parse_int=_integer
        )
        json.dumps(value, ensure_ascii=False).encode()  # halves of characters are no text
    except RecursionError:
        raise UnsureError("depth") from None
    except ValueError as error:
        raise NotAcceptableError(f"it is no JSON: {error}") from None
    if _depth_of(data) > _CERTAINLY_SHALLOW:
        raise UnsureError("depth")
    if not isinstance(value, dict):
        raise NotAcceptableError("it is no object")
    fields = cast("dict[str, Any]", value)
    missing = [name for name in endpoint.required if fields.get(name) is None]
    if missing:
        raise NotAcceptableError(f"it lacks {missing}")
    model: Any = fields.get("model")
    if model is not None and not (
        isinstance(model, str) and 0 < len(model) <= MODEL_MAX_CHARS and model.isprintable()
    ):
        raise NotAcceptableError("its model is none")
    return fields


def unlike(facts: BodyFacts, fields: dict[str, Any], data: bytes, endpoint: Endpoint) -> str | None:
    """In what the facts, or the body that goes upstream, are not what the body says."""
    if facts.model != fields.get("model"):
        return f"the model is taken for {facts.model!r}"
    if facts.streamed is not (endpoint.streams or fields.get("stream") is True):
        return "it is not seen whether it wants a stream"
    if facts.digest != canonical_digest(b" " + data + b"\n").hex():
        return "the digest depends on spaces"
    options = fields.get("stream_options")
    says_nothing = options is None or (isinstance(options, dict) and "include_usage" not in options)
    silent = facts.streamed and endpoint.usage_on_request and says_nothing
    wish = facts.usage_wish
    if (wish is not None) is not silent:
        return "it is not seen whether it says something of usage"
    return _spliced_badly(fields, data, wish.into(data)) if wish else None


def _spliced_badly(fields: dict[str, Any], data: bytes, asked: bytes) -> str | None:
    options = cast("dict[str, Any]", fields.get("stream_options") or {})
    wanted = {**fields, "stream_options": {**options, "include_usage": True}}
    if json.loads(asked, object_pairs_hook=_members, parse_int=_integer) != wanted:
        return f"asked for usage, it says something else: {asked!r}"
    return None if is_spliced(data, asked) else f"more than a wish is added: {asked!r}"


def is_spliced(data: bytes, sent: bytes) -> bool:
    """What is sent is the body as it is, or with the wish for usage in it and nothing else."""
    if sent == data:
        return True
    added = len(sent) - len(data)
    before = next(
        (n for n, (a, b) in enumerate(zip(data, sent, strict=False)) if a != b), len(data)
    )
    for start in range(max(0, before - _WISH_BYTES), before + 1):
        for removed in (0, len(_NULL)):
            end = start + added + removed
            if data[start : start + removed] != _NULL[:removed]:
                continue
            if sent[end:] == data[start + removed :] and _WISH in sent[start:end]:
                return end - start <= _WISH_BYTES
    return False


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is repeated")
    return made


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _integer(digits: str) -> int:
    if len(digits) > _CERTAINLY_SHORT:
        raise UnsureError("digits")
    return int(digits)


def _depth_of(data: bytes) -> int:
    """How deep it nests at most; brackets inside of strings count, too."""
    depth = most = 0
    for byte in data:
        if byte in b"[{":
            depth += 1
            most = max(most, depth)
        elif byte in b"]}":
            depth -= 1
    return most
