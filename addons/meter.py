"""Reads a provider's answer while it passes, and finds out what it used.

The meter gets every chunk after it has been sent on; it delays and changes nothing. It is bounded
in memory (about 0.6 MiB for an answer of any size, compressed or not) and never raises. Measured on
one busy core: 2 to 3 µs for a small event of a stream, 10 ms for a body of 21 MB.
"""

import logging
from collections.abc import Callable, Mapping

from addons.usage.anthropic_family import MessagesReader
from addons.usage.documents import Document
from addons.usage.gemini_family import GenerateReader
from addons.usage.inflate import InflateError, Inflater
from addons.usage.openai_family import ChatReader, EmbeddingsReader, ResponsesReader
from addons.usage.reader import FreeReader, Reader
from addons.usage.sse import EventStream
from storage.pricing import TokenUsage

_log = logging.getLogger(__name__)

READERS: Mapping[str, Callable[[], Reader]] = {
    "openai.chat": ChatReader,
    "openai.responses": ResponsesReader,
    "openai.embeddings": EmbeddingsReader,
    "openai.models": FreeReader,
    "anthropic.messages": MessagesReader,
    "anthropic.count_tokens": FreeReader,
    "anthropic.models": FreeReader,
    "gemini.generate": GenerateReader,
    "gemini.embed": GenerateReader,
    "gemini.count_tokens": FreeReader,
    "gemini.models": FreeReader,
}


class Meter:
    """One answer's meter: `feed` what passes, `finish` in the end, whatever the end was.

    Attributes (they hold from `finish` on):
        usage: what the provider reported; None if it reported nothing.
        model: as the provider returned it.
        error_message: the provider's message, if the answer is an error: at most 500 characters,
            not scrubbed of secrets.
        complete: the answer ended as its protocol ends (`[DONE]`, `message_stop`, whole JSON …).
    """

    def __init__(self, flavour: str, content_type: str, content_encoding: str) -> None:
        """Prepare for an answer.

        Args:
            flavour: one of `READERS`.
            content_type: the answer's header, or nothing.
            content_encoding: the answer's header, or nothing.

        Raises:
            KeyError: there is no such flavour.
        """
        self.usage: TokenUsage | None = None
        self.model: str | None = None
        self.error_message: str | None = None
        self.complete = False
        self._reader = READERS[flavour]()
        self._body = Document()
        self._events: EventStream | None = None
        self._read = self._body.add
        if content_type.strip().lower().startswith("text/event-stream"):
            self._events = EventStream(self._reader.read_event, self._reader.read_long_event)
            self._read = self._events.feed
        self._inflater: Inflater | None = None
        self._unreadable = False
        encoding = content_encoding.strip().lower()
        if encoding not in ("", "identity"):
            try:
                self._inflater = Inflater(encoding)
            except InflateError as error:
                self._give_up(error)

    @property
    def heard_last_word(self) -> bool:
        """The stream has said that it is over: whatever follows is no part of the answer."""
        reader = self._reader
        return self._events is not None and reader.has_last_word and reader.complete

    def feed(self, chunk: bytes) -> None:
        """Read bytes that pass by, cut anywhere."""
        if self._unreadable:
            return
        try:
            if self._inflater is None:
                self._read(chunk)
            else:
                for piece in self._inflater.feed(chunk):
                    self._read(piece)
        except InflateError as error:
            self._give_up(error)
        except Exception:  # noqa: BLE001 - the customer's answer goes before its accounting
            self._fail()

    def finish(self) -> None:
        """Take stock: no more bytes will come."""
        try:
            if self._events is not None:
                self._events.finish()
            elif not self._unreadable:
                self._reader.read_body(self._body)
            self._reader.finish()
        except Exception:  # noqa: BLE001 - as in feed
            self._fail()
        self.usage = self._reader.usage
        self.model = self._reader.model
        self.error_message = self._reader.error_message
        self.complete = self._reader.complete and not self._unreadable

    def _give_up(self, reason: InflateError) -> None:
        self._unreadable = True
        _log.warning("An answer cannot be metered: %s", reason)

    def _fail(self) -> None:
        self._unreadable = True
        _log.exception("The meter failed; the answer was passed on, its usage may be missing")
