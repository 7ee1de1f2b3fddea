"""The log row of an exchange, and how many rows refusals may write."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from addons.credentials import label, plain, scrub
from addons.exchange import Exchange, Marks
from addons.outcome import Outcome

MODEL_MAX_CHARS = 200
REQUESTER_MAX_CHARS = 200
REFUSED_ROWS_PER_MINUTE = 10
_MINUTE_SECONDS = 60.0
_MAX_ACCOUNTS = 10_000


class RowWriter(Protocol):
    """Where rows go (see `addons.recorder`)."""

    def record(self, row: dict[str, Any]) -> None:
        """Take a row; never waits and never raises."""
        ...

    def complete(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """Return the row as it will be written, for whoever looks; never raises."""
        ...


def request_log(exchange: Exchange, *, left_out: int) -> dict[str, Any]:
    """The row of SPEC section 8, as the journal keeps it; the recorder adds tokens and price.

    Args:
        exchange: at its end.
        left_out: refused requests before this one that have no row.
    """
    marks, route, caller, meter = exchange.marks, exchange.route, exchange.caller, exchange.meter
    replayed = exchange.cache.answer if exchange.cache else None
    usage = meter.usage if meter else None
    return {
        "id": exchange.id,
        "account_id": str(caller.account_id) if caller else None,
        "created_at": exchange.created_at.isoformat(),
        "provider": route.provider.name if route else None,
        "endpoint": route.endpoint.name if route else None,
        "model": label(_keyless(exchange, _model(exchange)), MODEL_MAX_CHARS),
        "requester": label(_keyless(exchange, exchange.requester), REQUESTER_MAX_CHARS),
        "mode": exchange.mode.value,
        "status": exchange.status,
        "outcome": exchange.outcome.value,
        "streamed": exchange.streamed,
        "cached": replayed is not None,
        # Of a stored answer what it used when it was made: that is what it saves now.
        "usage": replayed.usage if replayed else usage,
        "latency_ms": milliseconds(marks.head, marks.end),
        "ttfb_ms": milliseconds(marks.head, marks.first_byte),
        "overhead_ms": overhead_ms(marks),
        "error": _error(exchange, left_out),
        "left_out": left_out,
    }


def _model(exchange: Exchange) -> str | None:
    """As the provider returned it, else as asked for."""
    if exchange.cache and exchange.cache.answer:
        return exchange.cache.answer.model
    return (exchange.meter.model if exchange.meter else None) or exchange.model


def _keyless(exchange: Exchange, text: str | None) -> str | None:
    """A text without the request's key, whose form `scrub` and `label` may not know."""
    return exchange.blot(plain(text).encode()).decode() if text else None


def _error(exchange: Exchange, left_out: int) -> str | None:
    """The error message, without anything secret; the note first, so that it is not cut off."""
    said: list[str] = []
    if left_out:
        said.append(f"({left_out} refused requests before this one are not logged)")
    if exchange.error:
        said.append(_keyless(exchange, exchange.error) or "")
    return scrub(" ".join(said)) or None


def milliseconds(start: float | None, end: float | None) -> float | None:
    """The time between two marks, to the microsecond; None if one of them never came."""
    if start is None or end is None:
        return None
    return round((end - start) * 1000, 3)


def overhead_ms(marks: Marks) -> float | None:
    """Metrion's own share of the latency, in milliseconds.

    From the head to its decision, from the whole body to the connect, and from the provider's head
    to ours. Not in it: waiting for the client's body, for the connection, and for the provider.
    None if the request was not forwarded.
    """
    if marks.admitted is None or marks.body is None or marks.forwarded is None:
        return None
    seconds = (marks.admitted - marks.head) + (marks.forwarded - marks.body)
    if marks.answer_head is not None and marks.answered is not None:
        seconds += marks.answered - marks.answer_head
    return round(seconds * 1000, 3)


@dataclass(slots=True)
class _Count:
    """Times of the last rows of an account, and the refusals without one since."""

    written: deque[float] = field(default_factory=lambda: deque(maxlen=REFUSED_ROWS_PER_MINUTE))
    left_out: int = 0


class RefusalRows:
    """Keeps refusals from filling the disk: ten rows in any minute and account, the rest counted.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: OrderedDict[UUID, _Count] = OrderedDict()

    def may_write(self, account_id: UUID, outcome: Outcome) -> bool:
        """Count a row that is due; False if it must be left out."""
        if outcome is not Outcome.REFUSED:
            return True
        now = self._clock()
        count = self._counts.get(account_id)
        if count is None:
            count = self._counts[account_id] = _Count()
            if len(self._counts) > _MAX_ACCOUNTS:
                self._counts.popitem(last=False)
        written = count.written
        if len(written) == REFUSED_ROWS_PER_MINUTE and now - written[0] < _MINUTE_SECONDS:
            count.left_out += 1
            return False
        written.append(now)
        return True

    def take_left_out(self, account_id: UUID) -> int:
        """How many rows were left out since the last one that was written."""
        count = self._counts.get(account_id)
        if count is None:
            return 0
        left_out, count.left_out = count.left_out, 0
        return left_out
