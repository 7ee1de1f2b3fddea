"""Keeps OpenAI's extra usage chunk from a client that did not ask for it.

Metrion asks for the usage of every stream; the chunk that carries it has an empty `choices`, which
some clients choke on. Events pass whole: what waits is at most the one that is still incomplete.
"""

import re
from typing import Any, cast

import jiter

_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_EVENT_END_BYTES = 4
_DATA = re.compile(rb"^data: ?(.*)$", re.MULTILINE)
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
# No provider sends events this long; one that does is passed on unread.
_MAX_HELD_BYTES = 1024 * 1024


class UsageChunkFilter:
    """Passes a stream of server-sent events on, without the usage chunk."""

    def __init__(self) -> None:
        self._held = b""
        self._is_open = False

    def feed(self, data: bytes) -> bytes:
        """The next bytes; returns the events that are complete and pass."""
        if self._is_open:
            return data
        # What was held has no end of an event in it, except that one may have begun.
        searched = max(0, len(self._held) - _EVENT_END_BYTES + 1)
        self._held += data
        passed: list[bytes] = []
        start = 0
        for end in _EVENT_END.finditer(self._held, searched):
            event = self._held[start : end.end()]
            start = end.end()
            if not _is_usage_chunk(event):
                passed.append(event)
        self._held = self._held[start:]
        if len(self._held) > _MAX_HELD_BYTES:
            self._is_open = True
            passed.append(self.finish())
        return b"".join(passed)

    def finish(self) -> bytes:
        """What is left at the end of the stream: an event that was never completed."""
        held, self._held = self._held, b""
        return held


def _is_usage_chunk(event: bytes) -> bool:
    # Some send `"usage":null` with every chunk, so the rarer mark is looked for as well.
    if b'"usage"' not in event or _NO_CHOICES.search(event) is None:
        return False
    line = _DATA.search(event)
    if line is None:
        return False
    try:
        chunk: Any = jiter.from_json(line[1].strip())
    except ValueError:
        return False
    if not isinstance(chunk, dict):
        return False
    fields = cast("dict[str, Any]", chunk)
    return fields.get("choices") == [] and isinstance(fields.get("usage"), dict)
