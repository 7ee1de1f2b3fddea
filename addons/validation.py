"""Checks of a request's body that leave its bytes as they are.

The body is parsed once, to see whether the provider could answer it at all and to learn model,
stream and usage wishes. What goes upstream is the client's own bytes; the one exception is a
`Splice`, which puts a wish for usage into the text without touching the rest. All that grows with
the body is done in `check_body`, so that it can be done elsewhere (see `addons.body_checker`).

jiter is Pydantic's JSON parser: several times faster than `json`, and it refuses repeated keys by
itself. Repeated keys are refused because two parsers may disagree on which of them counts, and
then what was checked would not be what is run.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jiter

from addons.canonical_json import canonical_digest
from addons.outcome import Refused
from addons.providers.base import Endpoint

MODEL_MAX_CHARS = 200
_OPTIONS = "stream_options"
_WISH = '"include_usage":true'
# A key may be written with escapes. A quote that no backslash is before of begins a string, or ends
# one: then no letter follows.
_LETTERS = "".join(rf"(?:{letter}|\\u(?i:{ord(letter):04x}))" for letter in _OPTIONS)
_OPTIONS_KEY = re.compile(rf'"(?<!\\"){_LETTERS}"[ \t\r\n]*+:[ \t\r\n]*+'.encode())
# So much is looked at together: few steps of Python, and little memory for what it falls into.
_WINDOW_BYTES = 64 * 1024


class Splice(NamedTuple):
    """What goes into a body, and where.

    Attributes:
        start: how many bytes stay as they are before it.
        end: where the rest of them begins.
        text: ASCII.
    """

    start: int
    end: int
    text: str

    def into(self, body: bytes) -> bytes:
        """The body with it; every other byte stays what it was."""
        view = memoryview(body)  # to copy large bodies once
        return b"".join((view[: self.start], self.text.encode(), view[self.end :]))


@dataclass(frozen=True, slots=True)
class BodyFacts:
    """What the gateway needs to know of a body.

    Attributes:
        model: as asked for; None where the endpoint has none in its body.
        streamed: the client wants a stream.
        usage_wish: for a stream whose usage the provider tells only when asked, if the client said
            neither yes nor no: what makes the body say `"stream_options": {"include_usage": true}`.
        digest: of what the body means, if it was asked for (see `addons.canonical_json`).
    """

    model: str | None
    streamed: bool
    usage_wish: Splice | None
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
        usage_wish=_usage_wish(body, fields) if streamed and endpoint.usage_on_request else None,
        digest=canonical_digest(body).hex() if with_digest else "",
    )


def _is_name(model: Any) -> bool:
    """It ends up in log rows, so it holds nothing that a row or a terminal cannot take."""
    return isinstance(model, str) and 0 < len(model) <= MODEL_MAX_CHARS and model.isprintable()


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


def _usage_wish(body: bytes, fields: dict[str, Any]) -> Splice | None:
    """What makes a body that says neither yes nor no ask for usage."""
    if _OPTIONS not in fields:
        start = body.index(b"{") + 1
        return Splice(start, start, f'"{_OPTIONS}":{{{_WISH}}}{"," if fields else ""}')
    options = fields[_OPTIONS]
    if options is None:
        start = _options_start(body)
        return Splice(start, start + len(b"null"), f"{{{_WISH}}}")
    if not isinstance(options, dict) or "include_usage" in options:
        return None  # What is no object is the provider's to refuse.
    start = _options_start(body) + 1
    return Splice(start, start, f"{_WISH}{',' if options else ''}")


def _options_start(body: bytes) -> int:
    """Where the value of the outermost object's `stream_options` begins; it has one."""
    depth = seen = 0
    for key in _OPTIONS_KEY.finditer(body):
        depth += _left_open(body[seen : key.start()])
        if depth == 1:
            return key.end()
        seen = key.start()
    raise RuntimeError("a key that was parsed is not in the text")


def _left_open(text: bytes) -> int:
    """How many more brackets are opened than closed in a part of a checked body.

    Its strings are whole. No step is made for each of them: they may be hundreds of thousands.
    """
    # Without what is escaped, a quote is the end of a string or of what is between two.
    text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    opened = 0
    in_string = False
    for start in range(0, len(text), _WINDOW_BYTES):
        parts = text[start : start + _WINDOW_BYTES].split(b'"')
        bare = b"".join(parts[in_string::2])
        in_string ^= len(parts) % 2 == 0
        opened += bare.count(b"{") + bare.count(b"[") - bare.count(b"}") - bare.count(b"]")
    return opened
