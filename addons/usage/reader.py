"""What every family's reader has in common."""

from typing import Any

from addons.usage.documents import Document, error_message_of, parse
from storage.pricing import NO_USAGE, TokenUsage


class Reader:
    """Finds usage in one answer, given its events or its body; the result is in the attributes.

    Attributes:
        usage: what has been said so far; None while nothing has.
        model: as the provider returned it.
        error_message: the provider's, at most 500 characters, not scrubbed of secrets.
        complete: the answer ended as its protocol ends.
        has_last_word: a stream says so itself when it is over (`[DONE]`, `message_stop`).
    """

    has_last_word = True

    def __init__(self) -> None:
        self.usage: TokenUsage | None = None
        self.model: str | None = None
        self.error_message: str | None = None
        self.complete = False

    def read_event(self, data: bytes) -> None:
        """Read the data of one event of a stream."""

    def read_long_event(self, event: Document) -> None:
        """Read an event that is too long to be kept whole."""

    def read_body(self, body: Document) -> None:
        """Read an answer that is not an event stream."""
        whole = body.whole
        answer = None if whole is None else parse(whole)
        if answer is not None:
            self.complete = True
            self.error_message = error_message_of(answer)
            self.read_answer(answer)
            return
        # Cut off in the middle, or too long to be kept. Of the latter only the last byte can tell.
        self.complete = whole is None and body.ends[1].rstrip().endswith((b"}", b"]"))
        if len(body):
            self.read_ends(body)

    def read_answer(self, answer: Any) -> None:
        """Read a whole answer, parsed."""

    def read_ends(self, body: Document) -> None:
        """Read an answer of which only the ends are there."""

    def finish(self) -> None:
        """Nothing more will come."""


class FreeReader(Reader):
    """Reads answers that no model worked on, such as a list of models: nothing was used."""

    def read_answer(self, answer: Any) -> None:
        """Read a whole answer, parsed."""
        if self.error_message is None:
            self.usage = NO_USAGE

    def read_ends(self, body: Document) -> None:
        """Read an answer of which only the ends are there."""
        self.usage = NO_USAGE
