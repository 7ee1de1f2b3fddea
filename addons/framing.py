"""HTTP/1 as bytes say it: heads, read more strictly than RFC 9112 asks.

No input and no output here, and nothing of mitmproxy: both ways into Metrion (`addons.direct` and
`addons.wire`) read requests and answers with this, so a request is refused by both or by none.
What is refused could be read in two ways by two parsers (request smuggling, RFC 9112 section
11.2), has no end, or names a host of its own. Bodies are read by `addons.body_reader`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self, override

from h11._receivebuffer import ReceiveBuffer as PlainBuffer

from addons.exchange import Headers

HEAD_MAX_BYTES = 64 * 1024
HEAD_MAX_LINES = 200
# A client may send its next request before the answer to this one (pipelining): it is kept, but
# only this much of it, since nothing is read from it before the answer is done.
PIPELINE_MAX_BYTES = 64 * 1024

CONTROLS = bytes([*range(9), *range(10, 32), 127])
"""All control characters but the tab."""
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
# Origin-form only: a request that names a host (absolute-form, CONNECT) is not for a gateway.
_REQUEST_LINE = re.compile(rb"([A-Za-z]{1,20}) (/[!-~]{0,8191}) (HTTP/1\.[01])\Z")
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01])[ \t]+(\d{3})(?:[ \t]+([^\r\x00]*))?\Z")
_FIELD = re.compile(rb"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\r\n\x00]*)$", re.MULTILINE)
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,14}")
_BAD_REQUEST, _TOO_LARGE = 400, 431
_SWITCHING_PROTOCOLS, _OK = 101, 200
_WITHOUT_BODY = (204, 304)

UNTIL_CLOSE = -1
"""The size of a body that ends with its connection."""


class ReceiveBuffer(PlainBuffer):
    """What has come on a connection.

    Of a request's head that is not whole yet it knows what was looked at: one that comes byte by
    byte would else be read as often as it has bytes.

    Attributes:
        examined: so many bytes are good, whatever comes; they end in no line end of the head.
        empty: so many of them are empty lines before the head.
        lines: so many line ends are in the others.
    """

    _data: bytearray

    def __init__(self) -> None:
        super().__init__()
        self.examined = self.empty = self.lines = 0

    @override
    def __iadd__(self, byteslike: bytes | bytearray) -> Self:
        self._data += byteslike
        return self

    def unexamined(self) -> bytes:
        """What has come since."""
        return bytes(self._data[self.examined :] if self.examined else self._data)

    def take_head(self, rest: bytes, end: int) -> bytes:
        """Take out a head, of which the rest ends so many bytes after what was examined."""
        head = bytes(self._data[self.empty : self.examined]) + rest if self.examined else rest
        del self._data[: self.examined + end]
        self.examined = self.empty = self.lines = 0
        self._next_line_search = self._multiple_lines_search = 0
        return head


class MalformedHeadError(Exception):
    """A request's head that is answered with an error, after which the connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class MalformedAnswerError(Exception):
    """What a provider sent is not HTTP."""


@dataclass(slots=True)
class RequestHead:
    """The head of a request.

    Attributes:
        method, target, version: as sent.
        fields: the headers, names as sent.
        body_bytes: how long the body is; None if it ends by itself (chunked, or HTTP/2).
        http2: it came over HTTP/2.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: Headers = field(repr=False)
    body_bytes: int | None
    http2: bool = False

    def value(self, name: bytes) -> bytes:
        """The first value of a header, in lower case; empty if there is none."""
        for key, value in self.fields:
            if key.lower() == name:
                return value.lower()
        return b""

    @property
    def keeps_alive(self) -> bool:
        """The client means to send more on this connection (RFC 9112 section 9.3)."""
        if self.version == b"HTTP/1.0":
            return b"keep-alive" in self.value(b"connection")
        return b"close" not in self.value(b"connection")

    def is_short(self, max_bytes: int) -> bool:
        """The body is worth reading to its end, so that the connection can be used again."""
        return self.http2 or (self.body_bytes is not None and self.body_bytes <= max_bytes)


@dataclass(slots=True)
class ResponseHead:
    """The head of a provider's answer.

    Attributes:
        fields: the headers, names as sent.
        body_bytes: how long the body is; None: chunked; `UNTIL_CLOSE`: as long as the connection.
        keeps_alive: the connection may be used again.
    """

    status: int
    reason: bytes
    fields: Headers = field(repr=False)
    body_bytes: int | None
    keeps_alive: bool


def read_request_head(buffer: ReceiveBuffer) -> RequestHead | None:
    """Take a request's head out of what has come; None if it is not whole yet.

    Raises:
        MalformedHeadError: it never will be acceptable.
    """
    if not (received := buffer.unexamined()):
        return None
    begin = 0
    if buffer.examined == buffer.empty:  # nothing of the head itself has come before
        # RFC 9112 section 2.2: an empty line before it is ignored. Many are no request.
        empty = _EMPTY_LINES.match(received)
        begin = empty.end() if empty else 0
    end = received.find(b"\r\n\r\n", begin)
    if end >= 0:
        seen = head = received[begin:end]
    else:  # of the line ends behind the head some may have come, the last one by half
        seen = received[begin:].removesuffix(b"\r")
        head = seen.rstrip(b"\r\n")
    if is_ambiguous(seen):
        raise MalformedHeadError(_BAD_REQUEST, "The request's head is malformed.")
    size, lines = buffer.examined + begin + len(head), buffer.lines + head.count(b"\r\n")
    if size > HEAD_MAX_BYTES or lines > HEAD_MAX_LINES:
        raise MalformedHeadError(_TOO_LARGE, "The request's head is too large.")
    if end < 0:
        buffer.examined, buffer.empty, buffer.lines = size, buffer.empty + begin, lines
        return None
    head = buffer.take_head(head, end + 4)
    try:
        return _parse_request(head.split(b"\r\n"))
    except ValueError:
        message = "The request's head is malformed."
        raise MalformedHeadError(_BAD_REQUEST, message) from None


def _parse_request(lines: list[bytes]) -> RequestHead:
    """A request's head from its lines.

    Raises:
        ValueError: it is not acceptable.
    """
    match = _REQUEST_LINE.match(lines[0])
    if match is None:
        raise ValueError("request line")
    method, target, version = match.groups()
    fields = read_fields(lines)
    hosts = lengths = 0
    size: int | None = 0
    for name, value in fields:
        match name.lower():
            case b"host":
                hosts += 1
            case b"content-length":
                lengths += 1
                size = _length(value)
            case b"transfer-encoding":
                lengths += 1
                size = _chunked(value, version)
            case b"upgrade":
                raise ValueError("upgrade")
            case _:
                pass
    # RFC 9112 section 3.2; one way to say the body's length, said once (section 6.3)
    if hosts > 1 or (not hosts and version == b"HTTP/1.1") or lengths > 1:
        raise ValueError("host or length")
    return RequestHead(method, target, version, fields, size)


def read_response_head(buffer: PlainBuffer, method: str) -> ResponseHead | None:
    """Take an answer's head out of what has come; None if it is not whole yet.

    Interim answers (RFC 9110 section 15.2) are passed over.

    Args:
        buffer: what has come.
        method: of the request: an answer to HEAD has no body.

    Raises:
        MalformedAnswerError: it is none.
    """
    while (lines := buffer.maybe_extract_lines()) is not None:
        try:
            head = _parse_response(lines or [b""], method)
        except ValueError:
            raise MalformedAnswerError("not an HTTP answer") from None
        if head.status == _SWITCHING_PROTOCOLS:
            raise MalformedAnswerError("not an HTTP answer")
        if head.status >= _OK:
            return head
    if len(buffer) > HEAD_MAX_BYTES:
        raise MalformedAnswerError("not an HTTP answer")
    return None


def _parse_response(lines: Sequence[bytes | bytearray], method: str) -> ResponseHead:
    """An answer's head from its lines.

    Raises:
        ValueError: it is none.
    """
    match = _STATUS_LINE.match(bytes(lines[0]))
    if match is None:
        raise ValueError("status line")
    version, code, reason = match.groups(b"")
    status = int(code)
    fields = read_fields(lines)
    size: int | None = UNTIL_CLOSE
    lengths = 0
    keeps_alive = version == b"HTTP/1.1"
    for name, value in fields:
        match name.lower():
            case b"content-length":
                lengths += 1
                size = _length(value)
            case b"transfer-encoding":
                lengths += 1
                size = _chunked(value, version)
                if status < _OK or status == _WITHOUT_BODY[0]:
                    raise ValueError("length")  # RFC 9112 section 6.1
            case b"connection":
                keeps_alive = keeps_alive and b"close" not in value.lower()
            case _:
                pass
    if lengths > 1:
        raise ValueError("length")
    if method == "HEAD" or status < _OK or status in _WITHOUT_BODY:
        size = 0
    keeps_alive = keeps_alive and size != UNTIL_CLOSE
    return ResponseHead(status, reason, fields, size, keeps_alive)


def read_fields(lines: Sequence[bytes | bytearray]) -> Headers:
    """The header fields after the first line.

    Raises:
        ValueError: a line is none; folded lines (RFC 9112 section 5.2) are none.
    """
    # All at once takes a third of the time; in no line is there a line feed.
    found: Headers = _FIELD.findall(b"\n".join(lines[1:]))
    if len(found) != len(lines) - 1:
        raise ValueError("header line")
    return [(name, value.strip(b" \t")) for name, value in found]


def is_ambiguous(text: bytes) -> bool:
    """A bare LF or CR, a folded line, a control character: each is read differently somewhere."""
    if text.find(b"\r\n ") >= 0 or text.find(b"\r\n\t") >= 0:
        return True
    within = text.replace(b"\r\n", b"")
    # A regular expression for all of it took half of a head's time.
    return len(within.translate(None, CONTROLS)) != len(within)


def _length(value: bytes) -> int:
    if not _LENGTH.fullmatch(value):
        raise ValueError("content-length")
    return int(value)


def _chunked(value: bytes, version: bytes) -> None:
    # Other codings would have to be undone first; no SDK and no provider has any.
    if value.lower() != b"chunked" or version != b"HTTP/1.1":
        raise ValueError("transfer-encoding")
