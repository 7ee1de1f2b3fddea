"""Checks of a request's body that leave its bytes as they are.

The body is parsed once, to see whether the provider could answer it at all and to learn model,
stream and usage wishes. What goes upstream is the client's own bytes; the one exception is
`ask_for_usage`, which splices a member into the text without touching the rest.

jiter is Pydantic's JSON parser: several times faster than `json`, and it refuses repeated keys by
itself. Repeated keys are refused because two parsers may disagree on which of them counts, and
then what was checked would not be what is run.
"""

import re
from dataclasses import dataclass
from typing import Any, cast

import jiter

from addons.canonical_json import canonical_digest
from addons.outcome import Refused
from addons.providers.base import Endpoint

MODEL_MAX_CHARS = 200
# Strings, and what nests: enough to find a member of the outermost object. Possessive (`*+`): a
# string of 20 MB takes neither memory nor a second look.
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]')
_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_EMPTY_REST = re.compile(rb"[ \t\r\n]*\}")


@dataclass(frozen=True, slots=True)
class BodyFacts:
    """What the gateway needs to know of a body.

    Attributes:
        model: as asked for; None where the endpoint has none in its body.
        streamed: the client wants a stream.
        digest: of what the body means, if it was asked for (see `addons.canonical_json`).
        silent_on_usage: a stream whose usage the provider tells only when asked, and the client
            said neither yes nor no.
    """

    model: str | None
    streamed: bool
    silent_on_usage: bool
    digest: str = ""


def check_body(body: bytes, endpoint: Endpoint, *, with_digest: bool = False) -> BodyFacts:
    """Parse and check a body.

    Raises:
        Refused: 400 `invalid_request` that names what is wrong.
    """
    fields = _parse_object(body)
    missing = [name for name in endpoint.required if fields.get(name) is None]
    if missing:
        listed = " and ".join(f"`{name}`" for name in missing)
        message = f"The body lacks {listed}, which `{endpoint.name}` needs."
        raise Refused(400, "invalid_request", message)
    model = fields.get("model")
    if model is not None and not _is_name(model):
        message = f"`model` must be a text of 1 to {MODEL_MAX_CHARS} printable characters."
        raise Refused(400, "invalid_request", message)
    streamed = endpoint.streams or fields.get("stream") is True
    return BodyFacts(
        model=model,
        streamed=streamed,
        silent_on_usage=streamed
        and endpoint.usage_on_request
        and _is_silent_on_usage(fields.get("stream_options")),
        digest=canonical_digest(body).hex() if with_digest else "",
    )


def _is_name(model: Any) -> bool:
    """It ends up in log rows, so it holds nothing that a row or a terminal cannot take."""
    return isinstance(model, str) and 0 < len(model) <= MODEL_MAX_CHARS and model.isprintable()


def _is_silent_on_usage(options: Any) -> bool:
    """Neither yes nor no. What is no object is the provider's to refuse."""
    if options is None:
        return True
    return isinstance(options, dict) and "include_usage" not in options


def _parse_object(body: bytes) -> dict[str, Any]:
    if not body.strip(b" \t\r\n"):
        raise Refused(400, "invalid_request", "The body is empty; a JSON object is expected.")
    try:
        # No string cache: what people send is not worth keeping, in memory or otherwise.
        value: Any = jiter.from_json(
            body, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True
        )
    except ValueError as error:
        raise Refused(400, "invalid_request", _explain(str(error))) from None
    if not isinstance(value, dict):
        raise Refused(400, "invalid_request", "The body must be a JSON object.")
    return cast("dict[str, Any]", value)


def _explain(error: str) -> str:
    """The parser's message without what it quotes from the body."""
    if "duplicate key" in error.lower():
        return "The body repeats a key in one of its objects; remove one of them."
    place = re.search(r"line \d+ column \d+", error)
    return f"The body is not valid JSON{f' ({place[0]})' if place else ''}."


def ask_for_usage(body: bytes) -> bytes:
    """Make a checked body say `"stream_options": {"include_usage": true}`.

    The wish is spliced into the text; every other byte stays what it was.
    """
    wish = b'"include_usage":true'
    start = _value_start(body, "stream_options") if _may_have_stream_options(body) else None
    if start is None:
        member = b'"stream_options":{' + wish + b"}"
        return _insert_member(body, body.index(b"{") + 1, member)
    if body[start : start + 1] == b"{":
        return _insert_member(body, start + 1, wish)
    # `null`: the only other value that `_is_silent_on_usage` lets through.
    return body[:start] + b"{" + wish + b"}" + body[start + len(b"null") :]


def _may_have_stream_options(body: bytes) -> bool:
    """Most bodies have none, and then there is nothing to look for. A key may be escaped."""
    return b"stream_options" in body or b"\\u00" in body


def _insert_member(body: bytes, position: int, member: bytes) -> bytes:
    """Put a member right behind an opening brace that ends at `position`."""
    is_empty = _EMPTY_REST.match(body, position) is not None
    return body[:position] + member + (b"" if is_empty else b",") + body[position:]


def _value_start(body: bytes, name: str) -> int | None:
    """Where the value of a member of the outermost object begins; None if there is none."""
    depth = 0
    for token in _STRUCTURE.finditer(body):
        text = token[0]
        if text in b"{[":
            depth += 1
        elif text in b"}]":
            depth -= 1
        elif (
            depth == 1
            and (colon := _COLON.match(body, token.end()))
            # A key may be written with escapes, so it is compared as what it means.
            and jiter.from_json(text) == name
        ):
            return colon.end()
    return None
