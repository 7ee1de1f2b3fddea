"""An answer that passes, kept in bounded memory until it is known whether it may be stored."""

from addons.exchange import Exchange, Headers
from storage.response_cache import StoredAnswer

_PIECE_BYTES = 64  # what Python needs for a piece, beside what is in it


class Budget:
    """The memory of all recordings of a process."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.held_bytes = 0

    def take(self, size: int) -> bool:
        """Count so many bytes; False: there is no room for them."""
        if self.held_bytes + size > self._most_bytes:
            return False
        self.held_bytes += size
        return True


class Recording:
    """The pieces of an answer that its client gets. Gives its memory back when it goes at last."""

    __slots__ = ("_budget", "_held_bytes", "_most_bytes", "_pieces", "headers", "is_given_up")

    def __init__(self, headers: Headers, budget: Budget, most_bytes: int) -> None:
        self.headers = headers
        self.is_given_up = False
        self._budget = budget
        self._most_bytes = most_bytes
        self._pieces: list[bytes] = []
        self._held_bytes = 0

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the pieces."""
        self._pieces.clear()
        self._budget.held_bytes -= self._held_bytes
        self._held_bytes = 0

    def add(self, data: bytes) -> None:
        """One more piece."""
        if not data or self.is_given_up:
            return
        size = len(data) + _PIECE_BYTES
        if self._held_bytes + size > self._most_bytes or not self._budget.take(size):
            self.is_given_up = True
            self.release()
            return
        self._held_bytes += size
        self._pieces.append(data)

    def answer(self, exchange: Exchange) -> StoredAnswer | None:
        """The answer, if it may be kept: whole, and as long as it says."""
        meter = exchange.meter
        body = b"".join(self._pieces)
        length = dict(self.headers).get(b"content-length")
        is_whole = meter is not None and meter.complete and meter.error_message is None
        if meter is None or not is_whole or (length and length != b"%d" % len(body)):
            return None
        return StoredAnswer(
            headers=tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in self.headers),
            body=body,
            sizes=tuple(len(piece) for piece in self._pieces),
            model=meter.model or exchange.model,
            usage=meter.usage.to_json() if meter.usage else None,
        )
