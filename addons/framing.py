"""HTTP/1 as bytes say it: heads and bodies, read more strictly than RFC 9112 asks.

No input and no output here, and nothing of mitmproxy: both ways into Metrion (`addons.direct` and
`addons.wire`) read requests and answers with this, so a request is refused by both or by none.
What is refused could be read in two ways by two parsers (request smuggling, RFC 9112 section
11.2), has no end, or names a host of its own. Bodies are read by h11, as in httpx and mitmproxy,
but for the chunks of requests, with which it is too lenient for a gateway.
"""

import re
from dataclasses import dataclass, field

import h11
from h11._readers import ChunkedReader, Http10Reader
from h11._receivebuffer import ReceiveBuffer

from addons.exchange import Headers

HEAD_MAX_BYTES = 64 * 1024
HEAD_MAX_LINES = 200
# A client may send its next request before the answer to this one (pipelining): it is kept, but
# only this much of it, since nothing is read from it before the answer is done.
PIPELINE_MAX_BYTES = 64 * 1024

# A bare LF or CR, a folded line, a control character: each is read differently somewhere.
_AMBIGUOUS = re.compile(rb"(?<!\r)\n|\r(?!\n)|\r\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
# Origin-form only: a request that names a host (absolute-form, CONNECT) is not for a gateway.
_REQUEST_LINE = re.compile(rb"([A-Za-z]{1,20}) (/[!-~]{0,8191}) (HTTP/1\.[01])\Z")
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01])[ \t]+(\d{3})(?:[ \t]+([^\r\x00]*))?\Z")
_FIELD = re.compile(rb"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\r\n\x00]*)$", re.MULTILINE)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
_PLAIN_SIZE = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,6})\r\n")
_LINE_END = b"\r\n"
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,14}")
_BAD_REQUEST, _TOO_LARGE = 400, 431
_SWITCHING_PROTOCOLS, _OK = 101, 200
_WITHOUT_BODY = (204, 304)

UNTIL_CLOSE = -1
"""The size of a body that ends with its connection."""


class MalformedHeadError(Exception):
    """A request's head that is answered with an error, after which the connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class MalformedAnswerError(Exception):
    """What a provider sent is not HTTP."""


class MalformedBodyError(Exception):
    """A body that cannot be read on: its connection is of no further use."""


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
    if not (received := bytes(buffer)):
        return None
    # RFC 9112 section 2.2: an empty line before the request line is ignored. Many are no request.
    empty = _EMPTY_LINES.match(received)
    start = empty.end() if empty else 0
    end = received.find(b"\r\n\r\n", start)
    head = received[start : end if end >= 0 else None]
    # The last byte of an unfinished head may be the CR of a CRLF.
    if _AMBIGUOUS.search(head if end >= 0 else head.rstrip(b"\r")):
        raise MalformedHeadError(_BAD_REQUEST, "The request's head is malformed.")
    if start + len(head) > HEAD_MAX_BYTES or head.count(b"\r\n") > HEAD_MAX_LINES:
        raise MalformedHeadError(_TOO_LARGE, "The request's head is too large.")
    if end < 0:
        return None
    buffer.maybe_extract_at_most(end + 4)
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
    fields = _fields(lines)
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


def read_response_head(buffer: ReceiveBuffer, method: str) -> ResponseHead | None:
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
            head = _parse_response([bytes(line) for line in lines] or [b""], method)
        except ValueError:
            raise MalformedAnswerError("not an HTTP answer") from None
        if head.status == _SWITCHING_PROTOCOLS:
            raise MalformedAnswerError("not an HTTP answer")
        if head.status >= _OK:
            return head
    if len(buffer) > HEAD_MAX_BYTES:
        raise MalformedAnswerError("not an HTTP answer")
    return None


def _parse_response(lines: list[bytes], method: str) -> ResponseHead:
    """An answer's head from its lines.

    Raises:
        ValueError: it is none.
    """
    match = _STATUS_LINE.match(lines[0])
    if match is None:
        raise ValueError("status line")
    version, code, reason = match.groups(b"")
    status = int(code)
    fields = _fields(lines)
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


def _fields(lines: list[bytes]) -> Headers:
    """The header fields after the first line.

    Raises:
        ValueError: a line is none; folded lines (RFC 9112 section 5.2) are none.
    """
    # All at once takes a third of the time; in no line is there a line feed.
    found: Headers = _FIELD.findall(b"\n".join(lines[1:]))
    if len(found) != len(lines) - 1:
        raise ValueError("header line")
    return [(name, value.strip(b" \t")) for name, value in found]


def _length(value: bytes) -> int:
    if not _LENGTH.fullmatch(value):
        raise ValueError("content-length")
    return int(value)


def _chunked(value: bytes, version: bytes) -> None:
    # Other codings would have to be undone first; no SDK and no provider has any.
    if value.lower() != b"chunked" or version != b"HTTP/1.1":
        raise ValueError("transfer-encoding")


class _StrictChunkedReader:
    """Reads chunks without what h11 forgives around them.

    h11 takes trailers whose lines are folded or end with LF alone, spaces behind a chunk's size,
    and control characters in its extension: each ends the body elsewhere for some other parser.
    """

    def __init__(self) -> None:
        self._left = 0  # of the chunk, in bytes
        self._line_end = b""  # what is still to come of the one after the chunk
        self._trailer_bytes = -1  # -1: the last chunk has not come

    def __call__(self, buffer: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        """The next event; None if it is not there yet."""
        if self._line_end and not self._skip_line_end(buffer):
            return None
        if self._trailer_bytes < 0 and not self._left and not self._read_size(buffer):
            return None
        if self._trailer_bytes >= 0:
            return self._read_trailers(buffer)
        data = buffer.maybe_extract_at_most(self._left)
        if data is None:
            return None
        self._left -= len(data)
        self._line_end = b"" if self._left else b"\r\n"
        return h11.Data(data=bytes(data))

    def _skip_line_end(self, buffer: ReceiveBuffer) -> bool:
        data = buffer.maybe_extract_at_most(len(self._line_end)) or b""
        if not self._line_end.startswith(data):
            raise MalformedBodyError("a chunk is longer than its size")
        self._line_end = self._line_end[len(data) :]
        return not self._line_end

    def _read_size(self, buffer: ReceiveBuffer) -> bool:
        line = buffer.maybe_extract_next_line()
        if line is None:
            return False
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise MalformedBodyError("a chunk's size is malformed")
        self._left = int(match[1], 16)
        if not self._left:
            self._trailer_bytes = 0
        return True

    def _read_trailers(self, buffer: ReceiveBuffer) -> h11.EndOfMessage | None:
        while (taken := buffer.maybe_extract_next_line()) is not None:
            line = bytes(taken)
            self._trailer_bytes += len(line)
            if self._trailer_bytes > HEAD_MAX_BYTES:
                raise MalformedBodyError("the trailers are too long")
            if line == b"\r\n":
                return h11.EndOfMessage()
            if _AMBIGUOUS.search(line):
                raise MalformedBodyError("the trailers are malformed")
            try:
                _fields([b"", line.removesuffix(b"\r\n")])
            except ValueError:
                raise MalformedBodyError("the trailers are malformed") from None
        return None


class BodyReader:
    """Reads the body of one message.

    Args:
        size: in bytes; None: chunked; `UNTIL_CLOSE`.
        of_request: two parsers must never end it in two places; a provider is forgiven more.
    """

    def __init__(self, size: int | None, *, of_request: bool = False) -> None:
        self._reader: ChunkedReader | _StrictChunkedReader | Http10Reader | None = None
        self._left = size or 0  # in bytes, where they are known: nothing is parsed there
        # Of an answer: what comes next is a chunk's size, and h11 has nothing of it.
        self._is_between_chunks = size is None and not of_request
        if size is None:
            self._reader = _StrictChunkedReader() if of_request else ChunkedReader()
        elif size == UNTIL_CLOSE:
            self._reader = Http10Reader()

    def read(self, buffer: ReceiveBuffer) -> tuple[bytes, bool]:
        """Take what there is of the body out of the buffer: its bytes, and whether it has ended.

        Trailers are dropped: no endpoint has a use for them.

        Raises:
            MalformedBodyError: the chunks are none, or one's head or the trailers have no end.
        """
        if (reader := self._reader) is None:
            data = bytes(buffer.maybe_extract_at_most(self._left) or b"")
            self._left -= len(data)
            return data, not self._left
        pieces: list[bytes] = []
        self._is_between_chunks &= not buffer  # h11 may take the size of a chunk that is to come
        try:
            while (event := reader(buffer)) is not None:
                if isinstance(event, h11.EndOfMessage):
                    return b"".join(pieces), True
                pieces.append(bytes(event.data))
                # All that has come is its line end, and h11 takes that next.
                self._is_between_chunks = event.chunk_end and len(buffer) == len(_LINE_END)
        except h11.ProtocolError:
            raise MalformedBodyError("the body is malformed") from None
        if len(buffer) > HEAD_MAX_BYTES:
            raise MalformedBodyError("a chunk's head is too long")
        return b"".join(pieces), False

    def read_next(self, data: bytes, buffer: ReceiveBuffer) -> tuple[bytes, bool]:
        """As `read`, of bytes that have just come and are not in the buffer.

        Whole chunks, nearly all of a stream, cost a fifth of what h11 takes; it gets the rest.
        """
        is_plain = self._is_between_chunks and not buffer
        plain, data = _plain_chunks(data) if is_plain else (b"", data)
        if not data:
            return plain, False
        buffer += data
        more, ended = self.read(buffer)
        return plain + more, ended

    @property
    def ends_with_connection(self) -> bool:
        """The body is whole when its connection ends."""
        return isinstance(self._reader, Http10Reader)


def _plain_chunks(data: bytes) -> tuple[bytes, bytes]:
    """What is in the whole chunks that `data` begins with, and all that follows them."""
    pieces: list[bytes] = []
    begin = 0
    while (size := _PLAIN_SIZE.match(data, begin)) and data.startswith(
        _LINE_END, end := size.end() + int(size[1], 16)
    ):
        pieces.append(data[size.end() : end])
        begin = end + len(_LINE_END)
    return b"".join(pieces), data[begin:]
