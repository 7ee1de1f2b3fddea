"""Reading HTTP/1.1 requests, strictly: bytes in, whole requests out, no sockets.

A provider behind a forgiving server would hide what a gateway does wrong. This reader refuses
everything that two parties could read differently (RFC 9112, section 11.2: request smuggling), so
that a malformed request shows as a `ProtocolViolation`.
"""

import re
from functools import lru_cache
from typing import NamedTuple

MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNK_LINE_BYTES = 4096

_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!\"$-~]*) HTTP/1\.([01])\Z")
# Possessive quantifiers: a hostile head cannot make the match backtrack.
_FIELD_LINES = re.compile(rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+)*+\Z")
_FIELD = re.compile(rb"\r\n([^:]+):([^\r]*)")
_CONTENT_LENGTH = re.compile(rb"[0-9]{1,15}\Z")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[\t ]*;[\t -~\x80-\xff]*)?\Z")
# Fields of which a second one would change who is meant, where the body ends, or who pays.
_SINGLE_FIELDS = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"authorization", b"x-api-key"}
)


class ProtocolViolation(Exception):  # noqa: N818 - it is the client's violation, not our error
    """The bytes are not a request that every HTTP/1.1 server must read the same way."""


class Request(NamedTuple):
    """One whole request as it came over the wire.

    `fields` maps lower-case names to values; of repeated names it holds the last one. All lines,
    in order and with their case, are in `head`.
    """

    method: str
    target: str
    persistent: bool
    fields: dict[bytes, bytes]
    head: bytes
    body: bytes


class _Head(NamedTuple):
    method: str
    target: str
    persistent: bool
    fields: dict[bytes, bytes]
    raw: bytes
    content_length: int | None  # None: chunked


class RequestReader:
    """Cuts one connection's bytes into requests.

    Args:
        skips_empty_lines: before a request, as RFC 9112 section 2.2 has it for servers; a gateway
            that sends some is not forgiven.
    """

    def __init__(self, *, skips_empty_lines: bool = False) -> None:
        self._skips_empty_lines = skips_empty_lines
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._chunks = bytearray()
        self._chunk_left = -1  # bytes of the current chunk still to come; -1: a size line is next
        self._in_trailers = False

    @property
    def buffered(self) -> bytes:
        """The first bytes that have not become a request (for the record of a violation)."""
        return bytes(self._buffer[:400])

    @property
    def awaits_continue(self) -> bool:
        """Whether the client waits for a `100 Continue` before it sends the body."""
        head = self._head
        return (
            head is not None
            and not self._buffer
            and not self._chunks
            and head.fields.get(b"expect", b"").lower() == b"100-continue"
        )

    def feed(self, data: bytes) -> None:
        """Take what came from the socket."""
        self._buffer += data

    def next_request(self) -> Request | None:
        """Return the next whole request, or None while more bytes are needed.

        Raises:
            ProtocolViolation: what is read so far cannot become a well-formed request.
        """
        if self._head is None:
            self._head = self._read_head() if self._buffer else None
            if self._head is None:
                return None
        head = self._head
        body = self._read_chunked() if head.content_length is None else self._read_sized(head)
        if body is None:
            return None
        self._head = None
        return Request(head.method, head.target, head.persistent, head.fields, head.raw, body)

    def _read_head(self) -> _Head | None:
        while self._skips_empty_lines and self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise ProtocolViolation("the head does not end")
            if b"\n\n" in self._buffer:
                raise ProtocolViolation("bare LF in the head")
            return None
        raw = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return _parse_head(raw)

    def _read_sized(self, head: _Head) -> bytes | None:
        length = head.content_length or 0
        if not length:
            return b""
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _read_chunked(self) -> bytes | None:
        while True:
            if self._chunk_left >= 0:
                if not self._take_chunk():
                    return None
                continue
            line = self._take_line()
            if line is None:
                return None
            if self._in_trailers:
                if line:
                    if not _FIELD_LINES.match(b"\r\n" + line):
                        raise ProtocolViolation("malformed trailer")
                    continue
                body = bytes(self._chunks)
                self._chunks.clear()
                self._in_trailers = False
                return body
            size = _CHUNK_LINE.match(line)
            if size is None:
                raise ProtocolViolation("malformed chunk size")
            self._chunk_left = int(size[1], 16)
            if self._chunk_left == 0:
                self._chunk_left = -1
                self._in_trailers = True

    def _take_chunk(self) -> bool:
        """Move a whole chunk and its line end to the body; False while it is not all there."""
        if len(self._buffer) < self._chunk_left + 2:
            return False
        if not self._buffer.startswith(b"\r\n", self._chunk_left):
            raise ProtocolViolation("a chunk is longer than its size")
        self._chunks += self._buffer[: self._chunk_left]
        del self._buffer[: self._chunk_left + 2]
        self._chunk_left = -1
        return True

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", 0, MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_CHUNK_LINE_BYTES:
                raise ProtocolViolation("a chunk line does not end")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line


@lru_cache(maxsize=256)  # a benchmark sends the same head thousands of times
def _parse_head(raw: bytes) -> _Head:
    line_end = raw.find(b"\r\n")
    request_line, lines = (raw, b"") if line_end < 0 else (raw[:line_end], raw[line_end:])
    start = _REQUEST_LINE.match(request_line)
    if start is None:
        raise ProtocolViolation("malformed request line")
    if not _FIELD_LINES.match(lines):
        raise ProtocolViolation("malformed header line")
    pairs = _FIELD.findall(lines)
    fields = {name.lower(): value.strip(b" \t") for name, value in pairs}
    if len(fields) < len(pairs):
        _check_repeated([name.lower() for name, _ in pairs])
    http_11 = start[3] == b"1"
    if http_11 and b"host" not in fields:
        raise ProtocolViolation("no host")
    connection = fields.get(b"connection", b"").lower()
    return _Head(
        method=start[1].decode("ascii"),
        target=start[2].decode("ascii"),
        persistent=http_11 and b"close" not in connection,
        fields=fields,
        raw=raw,
        content_length=_body_length(fields, http_11=http_11),
    )


def _check_repeated(names: list[bytes]) -> None:
    for name in _SINGLE_FIELDS:
        if names.count(name) > 1:
            raise ProtocolViolation(f"more than one {name.decode()}")


def _body_length(fields: dict[bytes, bytes], *, http_11: bool) -> int | None:
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is None:
        if length is None:
            return 0
        if not _CONTENT_LENGTH.match(length):
            raise ProtocolViolation("malformed content-length")
        return int(length)
    if length is not None:
        raise ProtocolViolation("content-length and transfer-encoding")
    if coding.lower() != b"chunked":
        raise ProtocolViolation("unknown transfer-encoding")
    if not http_11:
        raise ProtocolViolation("transfer-encoding in HTTP/1.0")
    return None
