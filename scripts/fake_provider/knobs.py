"""The `x-fake-*` request headers: how the answer to one request goes wrong.

Metrion passes headers that it does not know, so a test reaches through it to the provider.
"""

from dataclasses import dataclass, field, fields
from typing import Literal, get_args

Usage = Literal["default", "cached", "reasoning", "zero", "none"]
Encoding = Literal["gzip", "deflate", "br", "zstd"]
Framing = Literal["length", "chunked", "close"]
Garbage = Literal[
    "text", "binary", "two-lengths", "length-and-chunked", "fold", "endless-head", "bad-chunk"
]
Ending = Literal["fin", "rst"]
EchoPlace = Literal["reason", "header", "header-name", "interim", "trailer"]

_PREFIX = b"x-fake-"


class KnobError(ValueError):
    """A knob that does not exist, or a value that it does not take."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in an answer: before its head, before its body, or after so many writes or bytes.

    A write is one event of a stream, the whole of a JSON body, or one piece of `x-fake-chunk`.
    """

    unit: Literal["head", "writes", "bytes"]
    count: int = 0

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read `head`, `body`, a number of writes, or a number of bytes (`100b`)."""
        if text == "head":
            return cls("head")
        if text == "body":
            return cls("writes", 0)
        digits, unit = (text[:-1], "bytes") if text.endswith("b") else (text, "writes")
        if not digits.isascii() or not digits.isdigit():
            raise KnobError(f"{text!r} is not head, body, a number, or a number of bytes like 100b")
        return cls("bytes" if unit == "bytes" else "writes", int(digits))


@dataclass(frozen=True, slots=True)
class Knobs:
    """What one request asked for. The name of a field is the name of its header.

    Attributes:
        status: answer with this status; from 400 on with an error in the provider's own shape.
        retry_after: seconds in the `retry-after` header that goes with 429, 503 and 529.
        delay: seconds between the end of the request and the first byte of the answer.
        interval: seconds between two writes.
        events: number of text deltas in a stream (else about one per two words).
        chunk: cut the body into writes of this many bytes, wherever events begin.
        stall: send nothing more from here on, and keep the connection open.
        close: end the connection here.
        close_with: end it cleanly (`fin`) or with a reset (`rst`).
        error_at: after so many events, the provider's own error event ends the stream.
        usage: which token classes are reported; `zero` reports 0, `none` reports nothing.
        encoding: compress the body, whatever the client accepts; streams are flushed per event.
        framing: how the end of the body is told (JSON: length; streams: chunked).
        garbage: an answer that is not HTTP, or not well-formed.
        big: the answer's text is at least this many bytes long.
        model: the model that the answer names instead of the one that was asked for.
        redirect: answer 307 (or `status`) with this location.
        echo: put the request's headers into the answer's text, as a careless provider would.
        echo_in: put the key that came into this part of the answer instead.
        informational: interim responses before the final one, such as `100,103`.
        connection: `close` announces and does it.
    """

    status: int | None = None
    retry_after: int = 7
    delay: float = 0.0
    interval: float = 0.0
    events: int | None = None
    chunk: int | None = None
    stall: Position | None = None
    close: Position | None = None
    close_with: Ending = "fin"
    error_at: int | None = None
    usage: Usage = "default"
    encoding: Encoding | None = None
    framing: Framing | None = None
    garbage: Garbage | None = None
    big: int = 0
    model: str | None = None
    redirect: str | None = None
    echo: bool = False
    echo_in: EchoPlace | None = None
    informational: tuple[int, ...] = field(default=())
    connection: Literal["close"] | None = None

    @classmethod
    def parse(cls, headers: dict[bytes, bytes]) -> "Knobs":
        """Read the knobs among a request's headers (lower-case names).

        Raises:
            KnobError: an unknown knob or value; a test with a slip in it must not pass.
        """
        found: dict[str, object] = {}
        for name, raw in headers.items():
            if not name.startswith(_PREFIX):
                continue
            knob = name[len(_PREFIX) :].decode("ascii").replace("-", "_")
            if knob not in _NAMES:
                raise KnobError(f"there is no knob {name.decode('ascii')}")
            found[knob] = _value(knob, raw.decode("latin-1"))
        if "stall" in found and "close" in found:
            raise KnobError("stall and close exclude each other")
        return cls(**found) if found else NO_KNOBS  # type: ignore[arg-type]  # _value typed them


_NAMES = {each.name for each in fields(Knobs)}
_CHOICES: dict[str, tuple[str, ...]] = {
    "usage": get_args(Usage),
    "encoding": get_args(Encoding),
    "framing": get_args(Framing),
    "garbage": get_args(Garbage),
    "close_with": get_args(Ending),
    "connection": ("close",),
    "echo_in": get_args(EchoPlace),
}
_INTEGERS = {"status", "retry_after", "events", "chunk", "error_at", "big"}
_SECONDS = {"delay", "interval"}
_MINIMUM = {"chunk": 1, "events": 1, "status": 200}

NO_KNOBS = Knobs()


def _value(knob: str, text: str) -> object:
    if knob in _CHOICES:
        if text not in _CHOICES[knob]:
            raise KnobError(f"{knob} is one of {', '.join(_CHOICES[knob])}")
        return text
    try:
        if knob in _INTEGERS:
            return _at_least(_MINIMUM.get(knob, 0), int(text))
        if knob in _SECONDS:
            return _at_least(0.0, float(text))
        if knob == "informational":
            return tuple(int(each) for each in text.split(","))
    except ValueError as error:
        raise KnobError(f"{knob}: {text!r} is not a number that it takes") from error
    if knob in ("stall", "close"):
        return Position.parse(text)
    return text == "1" if knob == "echo" else text


def _at_least[Number: (int, float)](minimum: Number, value: Number) -> Number:
    if not value >= minimum:  # also what is not a number at all: NaN
        raise ValueError(value)
    return value
