"""Keeps a key out of an answer that came compressed, although nobody asked for that.

A key cannot be blotted out of compressed bytes, so such an answer is broken off. Bytes pass once
what they unpack to has been looked at, and are held back while that ends with what may be the key's
beginning. What no decoder here can read passes as it is: no client of ours can read it either.
"""

from addons.exchange import KeyFilter
from addons.outcome import provider_error
from addons.usage.inflate import InflateError, Inflater


class CompressedKeyGuard:
    """Looks at what compressed bytes unpack to.

    Args:
        guard: knows the key; nothing was fed to it.
        encoding: the answer's `Content-Encoding`.
    """

    __slots__ = ("_guard", "_held", "_inflater")

    def __init__(self, guard: KeyFilter, encoding: str) -> None:
        self._guard = guard
        self._held = b""
        self._inflater: Inflater | None = None
        try:
            self._inflater = Inflater(encoding.strip().lower())
        except InflateError:
            self._inflater = None

    @property
    def has_blotted(self) -> bool:
        """The key was in the answer."""
        return self._guard.has_blotted

    @property
    def is_holding(self) -> bool:
        """Bytes are held back."""
        return bool(self._held)

    def blot(self, data: bytes) -> bytes:
        """A whole value without the key in it; not compressed."""
        return self._guard.blot(data)

    def feed(self, data: bytes) -> bytes:
        """The next compressed bytes that may pass.

        Raises:
            Refused: 502, the key is in them.
        """
        if self._inflater is None:
            return data
        self._held += data
        try:
            for piece in self._inflater.feed(data):
                self._guard.feed(piece)
                if self._guard.has_blotted:
                    self._held = b""
                    raise provider_error("it repeats the key, compressed")
        except InflateError:
            self._inflater = None
            return self.finish()
        return b"" if self._guard.is_holding else self.finish()

    def finish(self) -> bytes:
        """What was held back at the end of a body."""
        held, self._held = self._held, b""
        return held
