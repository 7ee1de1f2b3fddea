"""How much memory request bodies may take, one by one and all together."""

from collections.abc import Callable

from addons.exchange import Exchange
from addons.outcome import Refused

# Bodies up to this size are always read; larger ones share `ALL_BODIES_BYTES`.
SMALL_BODY_BYTES = 64 * 1024
ALL_BODIES_BYTES = 256 * 1024 * 1024


class BodyBudget:
    """The memory of all request bodies that are being read, or wait to leave for the provider.

    Args:
        max_body_bytes: the longest body that is accepted.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._held: dict[str, int] = {}
        self._leaving: dict[str, tuple[Exchange, Callable[[], bool]]] = {}
        self.held_bytes = 0

    def check_declared(self, exchange: Exchange) -> None:
        """Refuse by the declared length what would be refused later anyway.

        Raises:
            Refused: 413; 400 if the length is no number.
        """
        declared = exchange.header(b"content-length")
        if declared is None:
            return
        if not declared.isdigit():
            raise Refused(400, "invalid_request", "`content-length` is not a number.")
        if int(declared) > self._max_body_bytes:
            raise self._too_large()

    def refusal(self, exchange: Exchange, body_bytes: int) -> Refused | None:
        """Why a body of which so much has come is not read on; else it counts."""
        if body_bytes > self._max_body_bytes:
            return self._too_large()
        if body_bytes <= SMALL_BODY_BYTES:
            return None
        before = self._held.get(exchange.id, 0)
        if self.held_bytes - before + body_bytes > ALL_BODIES_BYTES:
            self._forget_gone()
        if self.held_bytes - before + body_bytes > ALL_BODIES_BYTES:
            message = "Too many large requests are under way. Try again shortly."
            return Refused(503, "unavailable", message, retry_after=1)
        self.held_bytes += body_bytes - before
        self._held[exchange.id] = body_bytes
        return None

    def leaves(self, exchange: Exchange, is_gone: Callable[[], bool]) -> None:
        """The body was written, and its connection holds what the provider has not taken yet.

        Args:
            exchange: whose body it is.
            is_gone: whether all of it has left; asked when there is no room for another.
        """
        if exchange.id in self._held:
            self._leaving[exchange.id] = exchange, is_gone

    def forget(self, exchange: Exchange) -> None:
        """The body is no longer held."""
        self.held_bytes -= self._held.pop(exchange.id, 0)
        self._leaving.pop(exchange.id, None)

    def _forget_gone(self) -> None:
        for exchange, is_gone in list(self._leaving.values()):
            if is_gone():
                self.forget(exchange)

    def _too_large(self) -> Refused:
        limit = self._max_body_bytes
        message = f"The body is longer than {limit:,} bytes (METRION_MAX_BODY_BYTES)."
        return Refused(413, "request_too_large", message)
