"""Server-sent events, cut out of bytes that pass by (WHATWG HTML, 9.2.6).

Only the data of events is given on; names, ids and comments are dropped, for every provider says
in the data what an event is. Lines end with LF, CR or CRLF, which may lie in two chunks.
"""

from collections.abc import Callable

from addons.usage.documents import WHOLE_BYTES, Document

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_ENDS = b"\r\n"
_CARRIAGE_RETURN = _LINE_ENDS[0]
_IGNORED_LINE = b":"  # a comment

EventReader = Callable[[bytes], None]
LongEventReader = Callable[[Document], None]


class EventStream:
    """Bytes in, events out. An event over `WHOLE_BYTES` is given on by its two ends."""

    __slots__ = (
        "_after_carriage_return",
        "_at_start",
        "_data",
        "_data_bytes",
        "_line",
        "_long",
        "_on_event",
        "_on_long_event",
    )

    def __init__(self, on_event: EventReader, on_long_event: LongEventReader) -> None:
        self._on_event = on_event
        self._on_long_event = on_long_event
        self._line: Document | None = None  # a line that is not complete yet
        self._data: list[bytes] = []  # data lines of the event that is not complete yet
        self._data_bytes = 0  # zero if the event has no data so far
        self._long: Document | None = None  # the event's data before `_data`, when it is long
        self._at_start = True
        self._after_carriage_return = False

    def feed(self, chunk: bytes) -> None:
        """Read a chunk, cut at any byte."""
        if self._after_carriage_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_carriage_return = False
        if not chunk:
            return
        last = chunk[-1]
        self._after_carriage_return = last == _CARRIAGE_RETURN
        lines = chunk.splitlines()
        rest = None if last in _LINE_ENDS else lines.pop()
        if self._line is not None and lines:
            self._line.add(lines[0])
            lines[0] = self._end_partial_line()
        if lines:
            self._read_lines(lines)
        if rest is not None:
            if self._line is None:
                self._line = Document()
            self._line.add(rest)

    def _read_lines(self, lines: list[bytes]) -> None:
        """Read whole lines; runs for every event of every stream: hence no calls per line."""
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        for line in lines:
            if not line:
                if self._data_bytes:
                    self._end_event()
            elif line.startswith(b"data:"):
                value = line[6:] if line.startswith(b" ", 5) else line[5:]
                self._data.append(value)
                self._data_bytes += len(value) + 1
                if self._data_bytes > WHOLE_BYTES:
                    self._move_to_long()

    def finish(self) -> None:
        """Read what has come of an event that was not completed.

        A browser would drop it; here it may be the usage of an answer whose last line feed is
        missing.
        """
        if self._line is not None:
            self.feed(b"\n")
        if self._data_bytes:
            self._end_event()

    def _end_partial_line(self) -> bytes:
        """Return a line that came in pieces; nothing if it is long: then it is dealt with here."""
        partial, self._line = self._line or Document(), None
        line = partial.whole
        if line is not None:
            return line
        if partial.ends[0].startswith(b"data:"):
            self._long = partial
            self._data.clear()
            self._data_bytes = 1
        return _IGNORED_LINE

    def _move_to_long(self) -> None:
        """Keep no more than the ends of an event that has become long."""
        if self._long is None:
            self._long = Document()
        self._long.add(b"\n".join(self._data))
        self._data.clear()
        self._data_bytes = 1

    def _end_event(self) -> None:
        data, self._data = self._data, []
        self._data_bytes = 0
        if self._long is not None:
            event, self._long = self._long, None
            event.add(b"\n".join(data))
            self._on_long_event(event)
        else:
            self._on_event(data[0] if len(data) == 1 else b"\n".join(data))
