"""JSON texts of any length in bounded memory, and what can still be read from their two ends."""

import json
import re
from typing import Any, cast

import jiter

WHOLE_BYTES = 256 * 1024
"""Up to this size a text is kept whole and parsed (1 to 2 ms); of a longer one the ends are kept.
What Metrion looks for stands before or after the content: providers send it in this order."""
EDGE_BYTES = 64 * 1024
MAX_COUNT = 2**31 - 1
"""No single request uses more of anything; a larger number in an answer is not a count."""
MAX_MESSAGE = 500

_MAX_MODEL_NAME = 200
_TRIED_PLACES = 8
_DECODER = json.JSONDecoder()


class Document:
    """One JSON text, added to in pieces: whole while it is small, else its beginning and end.

    Memory: at most `WHOLE_BYTES` plus the largest piece, then `EDGE_BYTES` five times.
    """

    __slots__ = ("_head", "_tail")

    def __init__(self) -> None:
        self._head: bytes | None = None  # set when the text has become too long
        self._tail = bytearray()

    def add(self, piece: bytes) -> None:
        """Append a piece."""
        tail = self._tail
        tail += piece
        if self._head is None:
            if len(tail) <= WHOLE_BYTES:
                return
            self._head = bytes(tail[:EDGE_BYTES])
        if len(tail) > 4 * EDGE_BYTES:
            del tail[:-EDGE_BYTES]

    def __len__(self) -> int:
        """How many bytes are kept (not how many there were)."""
        return len(self._tail) + (0 if self._head is None else len(self._head))

    @property
    def whole(self) -> bytes | None:
        """The text; None if only its ends were kept."""
        return bytes(self._tail) if self._head is None else None

    @property
    def ends(self) -> tuple[bytes, bytes]:
        """The text's beginning and end; the same twice while it is small."""
        tail = bytes(self._tail)
        return (tail if self._head is None else self._head), tail


def parse(text: bytes) -> Any:
    """Return the JSON value of `text`; None if it is not JSON."""
    try:
        return jiter.from_json(text)  # a quarter of the time
    except ValueError:
        return _parse_leniently(text)


def _parse_leniently(text: bytes) -> Any:
    """As `json` has it: half surrogate pairs, deep nesting, a byte order mark."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def last_object(document: Document, name: str) -> dict[str, Any] | None:
    """Find an object by its name in a text that is too long, or was cut off.

    Looked for from the end backwards, then from the beginning (Mistral sends usage first). Quotes
    inside JSON strings are escaped, so that no text a model wrote can be taken for it.
    """
    head, tail = document.ends
    pattern = re.compile(rb'"' + re.escape(name.encode()) + rb'"\s*:\s*(?=\{)')
    for text, backwards in ((tail, True), (head, False)):
        places = [match.end() for match in pattern.finditer(text)]
        if backwards:
            places.reverse()
        for place in places[:_TRIED_PLACES]:
            value = _value_at(text, place)
            if isinstance(value, dict):
                return cast("dict[str, Any]", value)
    return None


def any_string(document: Document, name: str) -> str | None:
    """Find a string by its name in a text that is too long, or was cut off: the first there is."""
    pattern = re.compile(rb'"' + re.escape(name.encode()) + rb'"\s*:\s*"([^"\\]{1,200})"')
    for text in document.ends:
        if match := pattern.search(text):
            return match[1].decode(errors="replace")
    return None


def _value_at(text: bytes, place: int) -> object:
    try:
        # Latin-1 maps bytes to characters one to one; only names and numbers are read.
        return _DECODER.raw_decode(text[place : place + EDGE_BYTES].decode("latin-1"))[0]
    except (ValueError, RecursionError):
        return None


def object_of(value: object) -> dict[str, Any]:
    """Return a JSON value as an object; an empty one if it is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def list_of(value: object) -> list[Any]:
    """Return a JSON value as a list; an empty one if it is something else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def count_of(value: object) -> int | None:
    """Return a JSON value as a count; None if it is none (missing, negative, absurd, a bool)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        return None
    return value


def name_of(value: object) -> str | None:
    """Return a JSON value as a name of a model or tier; None if it is none."""
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_MODEL_NAME else None


def error_message_of(answer: object) -> str | None:
    """Return the message of an error answer, in any of the providers' shapes, else None.

    OpenAI, Anthropic, Gemini: `{"error": {"message": …}}`, Gemini also in a list of one; xAI:
    `{"error": "…"}`; Mistral: `{"message": …}` with `"object": "error"`, or `{"detail": …}`.
    """
    if isinstance(answer, list):
        answer = next(iter(cast("list[object]", answer)), None)
    said = object_of(answer)
    error: object = said.get("error")
    message: object = error if isinstance(error, str) else object_of(error).get("message")
    if message is None and (said.get("object") == "error" or said.get("type") == "error"):
        message = said.get("message")
    if message is None:
        message = _detail_of(said.get("detail"))
    return message[:MAX_MESSAGE] if isinstance(message, str) and message else None


def _detail_of(detail: object) -> object:
    """Mistral's (FastAPI's) `detail`: a text, or a list of objects with `msg`."""
    first = next(iter(list_of(detail)), None)
    return detail if isinstance(detail, str) else object_of(first).get("msg")
