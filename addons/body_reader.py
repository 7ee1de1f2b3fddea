"""HTTP/1 bodies as bytes say it: where each ends, in its length, its chunks or its connection.

They are read by h11, as in httpx and mitmproxy, but for the chunks of requests, with which it is
too lenient for a gateway (see `addons.framing`), and for whole chunks of answers, which are plain.
"""

import re

import h11
from h11._readers import ChunkedReader, Http10Reader
from h11._receivebuffer import ReceiveBuffer

from addons.framing import HEAD_MAX_BYTES, UNTIL_CLOSE, is_ambiguous, read_fields

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
_PLAIN_SIZE = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,6})\r\n")
_LINE_END = b"\r\n"


class MalformedBodyError(Exception):
    """A body that cannot be read on: its connection is of no further use."""


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
            if is_ambiguous(line):
                raise MalformedBodyError("the trailers are malformed")
            try:
                read_fields([b"", line.removesuffix(b"\r\n")])
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
