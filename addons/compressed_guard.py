"""Keeps a key out of an answer that came compressed, although nobody asked for that.

A key cannot be blotted out of compressed bytes, so such an answer is broken off. Bytes pass once
what they unpack to has been looked at, and are held back while that ends with what may be the key's
beginning. They are also looked at as they are: an answer may only say that it is compressed, and
its client show it all the same. What is packed in a way that no decoder here can read passes.
"""

import copy

from addons.exchange import Headers, KeyFilter
from addons.outcome import provider_error
from addons.usage.inflate import InflateError, Inflater


def coding_of(headers: Headers) -> str:
    """How an answer is packed, of all its `Content-Encoding` (RFC 9110 section 8.4).

    Args:
        headers: names in lower case.

    Returns:
        One coding, or several joined by commas, in lower case; empty if there is none.
    """
    said = b",".join([value for name, value in headers if name == b"content-encoding"])
    codings = [coding.strip() for coding in said.decode("latin-1").lower().split(",")]
    return ", ".join([coding for coding in codings if coding not in ("", "identity")])


class CompressedKeyGuard:
    """Looks at what compressed bytes unpack to.

    Args:
        guard: knows the key; nothing was fed to it.
        coding: the answer's, see `coding_of`.
    """

    __slots__ = ("_as_it_is", "_held", "_inflater", "_unpacked")

    def __init__(self, guard: KeyFilter, coding: str) -> None:
        self._unpacked = guard
        self._as_it_is = copy.copy(guard)
        self._held = b""
        self._inflater: Inflater | None = None
        try:
            self._inflater = Inflater(coding)
        except InflateError:
            self._inflater = None

    @property
    def has_blotted(self) -> bool:
        """The key was in the answer."""
        return self._unpacked.has_blotted or self._as_it_is.has_blotted

    @property
    def is_holding(self) -> bool:
        """Bytes are held back."""
        return bool(self._held) or self._as_it_is.is_holding

    def blot(self, data: bytes) -> bytes:
        """A whole value without the key in it; not compressed."""
        return self._unpacked.blot(data)

    def feed(self, data: bytes) -> bytes:
        """The next compressed bytes that may pass.

        Raises:
            Refused: 502, the key is in what they unpack to.
        """
        self._held += data
        self._unpack(data)
        if self._inflater is not None and self._unpacked.is_holding:
            return b""
        return self._as_it_is.feed(self._released())

    def finish(self) -> bytes:
        """What was held back at the end of a body."""
        return self._as_it_is.feed(self._released()) + self._as_it_is.finish()

    def _unpack(self, data: bytes) -> None:
        """Look at what the next bytes unpack to, as long as they do.

        Raises:
            Refused: 502, the key is in it.
        """
        if self._inflater is None:
            return
        try:
            for piece in self._inflater.feed(data):
                self._unpacked.feed(piece)
                if self._unpacked.has_blotted:
                    self._held = b""
                    raise provider_error("it repeats the key, compressed")
        except InflateError:
            self._inflater = None

    def _released(self) -> bytes:
        held, self._held = self._held, b""
        return held
