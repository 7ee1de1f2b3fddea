"""Who may send how much: the one place that every forwarded request passes, twice.

Two limits (SPEC section 6): requests per minute, and requests per calendar month (UTC). `admit`
decides on the head and counts for the minute. The month counts what is forwarded, so its count is
in `count_forwarded`, at the very moment when nothing can refuse the request any more: there is no
reservation that somebody could forget to give back, and nothing waits between check and count.
"""

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime
from uuid import UUID

from limits.aio.storage import Storage

from addons.exchange import Exchange
from addons.outcome import Refused
from addons.rate_window import WINDOW_SECONDS, MemoryWindow, RateWindow, SharedWindow
from storage.callers import Caller
from storage.plans import is_capped

# An account that is pushed out starts again from what the database knows of it. More than the
# keyring keeps, so that whoever is pushed out is looked up anew.
MAX_ACCOUNTS = 20_000


class Admission:
    """Limits of all callers of this process, or of all processes that share a store.

    Args:
        store: of `limits`, where several processes share the rate window; None: it is in the
            memory of this one.
        rate_per_minute: requests per 60 seconds and account.
        monthly_requests_free: requests per calendar month of an account on the Free plan.
        now: wall clock in seconds since 1970.
        digest_key: secret with which callers' own keys are digested; the same in all processes
            that share a store.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        store: Storage | None,
        *,
        rate_per_minute: int,
        monthly_requests_free: int,
        now: Callable[[], float],
        digest_key: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate_per_minute = rate_per_minute
        self._window: RateWindow = (
            MemoryWindow(rate_per_minute, clock)
            if store is None
            else SharedWindow(store, rate_per_minute, now)
        )
        self._allowance = MonthlyAllowance(monthly_requests_free, now)
        # Keys of others are not kept in clear, not even as keys of the window.
        self._digest_key = digest_key

    async def admit(self, exchange: Exchange) -> None:
        """Decide on the head; counts for the minute. A request refused here counts for neither.

        Raises:
            Refused: 429 `rate_limited` or `monthly_limit`, with the seconds to wait.
        """
        if exchange.is_anonymous:
            await self._admit_anonymous(exchange)
            return
        caller = _caller_of(exchange)
        self._allowance.check(caller)
        await self._hit(str(caller.account_id))

    async def _admit_anonymous(self, exchange: Exchange) -> None:
        """Nobody's requests are limited by their key's digest and by their client's address."""
        if exchange.own_key is None:
            raise RuntimeError("an anonymous request without a key")
        digest = hmac.digest(self._digest_key, exchange.own_key.encode(), hashlib.sha256)
        await self._hit(f"key {digest.hex()}")
        await self._hit(f"address {exchange.client}")

    async def _hit(self, key: str) -> None:
        wait = await self._window.hit(key)
        if wait > 0:
            seconds = math.ceil(wait)
            message = (
                f"More than {self._rate_per_minute} requests in {WINDOW_SECONDS:g} seconds. "
                f"Try again in {seconds} second{'' if seconds == 1 else 's'}."
            )
            raise Refused(429, "rate_limited", message, retry_after=seconds)

    def count_forwarded(self, exchange: Exchange) -> None:
        """Count a request for the month: the last thing before it is forwarded or replayed.

        Raises:
            Refused: 429 `monthly_limit`, if others have used the allowance up since `admit`.
        """
        if not exchange.is_anonymous:
            self._allowance.spend(_caller_of(exchange))


class MonthlyAllowance:
    """What accounts have used of this month, as far as this process knows.

    An account's count is the larger of two: what the database said when the account was looked up
    (all processes' requests, except those whose rows are still on their way), and what this process
    had counted. So it never falls, and a restart forgets only rows that are still on their way.

    Args:
        monthly_requests_free: of an account on a plan that has a cap.
        now: wall clock in seconds since 1970.
    """

    def __init__(self, monthly_requests_free: int, now: Callable[[], float]) -> None:
        self._limit = monthly_requests_free
        self._now = now
        self._month = date.min
        self._begins_at = self._ends_at = 0.0
        # Least recently counted first.
        self._used: OrderedDict[UUID, int] = OrderedDict()

    def check(self, caller: Caller) -> None:
        """Refuse a caller whose allowance is used up, without counting.

        Raises:
            Refused: 429 `monthly_limit`.
        """
        if is_capped(caller.plan) and self._used_by(caller) >= self._limit:
            raise self._refusal()

    def spend(self, caller: Caller) -> None:
        """Count one request, or refuse it.

        Raises:
            Refused: 429 `monthly_limit`.
        """
        if not is_capped(caller.plan):
            return
        used = self._used_by(caller)
        if used >= self._limit:
            raise self._refusal()
        self._used[caller.account_id] = used + 1
        self._used.move_to_end(caller.account_id)
        if len(self._used) > MAX_ACCOUNTS:
            self._used.popitem(last=False)

    def _used_by(self, caller: Caller) -> int:
        now = self._now()
        if not self._begins_at <= now < self._ends_at:
            self._begin_month(now)
        # A caller may have been looked up last month.
        known = caller.month_requests if caller.month == self._month else 0
        return max(self._used.get(caller.account_id, 0), known)

    def _begin_month(self, now: float) -> None:
        # Whole seconds: fractions could be rounded up into a month that has not begun.
        today = datetime.fromtimestamp(math.floor(now), UTC)
        first = datetime(today.year, today.month, 1, tzinfo=UTC)
        self._month = first.date()
        self._begins_at = first.timestamp()
        self._ends_at = _next_month(first).timestamp()
        self._used.clear()

    def _refusal(self) -> Refused:
        again = datetime.fromtimestamp(self._ends_at, UTC)
        message = (
            f"The {self._limit:,} requests of this month that the Free plan includes are used up. "
            f"The count starts again on {again:%Y-%m-%d} at 00:00 UTC. To go on at once, switch to "
            "Pro on Settings, Plan."
        )
        seconds = math.ceil(self._ends_at - self._now())
        return Refused(
            429,
            "monthly_limit",
            message,
            retry_after=max(1, seconds),
            # Read by the SDKs of OpenAI and Anthropic, which would try again within seconds.
            headers={"x-should-retry": "false"},
        )


def _next_month(first: datetime) -> datetime:
    year, month = divmod(first.year * 12 + first.month, 12)
    return first.replace(year=year, month=month + 1)


def _caller_of(exchange: Exchange) -> Caller:
    if exchange.caller is None:
        raise RuntimeError("admission before authentication")
    return exchange.caller
