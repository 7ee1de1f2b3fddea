"""How many requests an account may still forward this calendar month (UTC, SPEC section 6)."""

import math
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime
from uuid import UUID

from addons.outcome import Refused
from addons.shared_store import Script, SharedStore, StoreAway
from storage.callers import Caller
from storage.plans import is_capped

# An account that is pushed out starts again from what the database knows of it. More than the
# keyring keeps, so that whoever is pushed out is looked up anew.
MAX_ACCOUNTS = 20_000
# A month's count is kept this much longer than the month: clocks differ.
_KEPT_AFTER_SECONDS = 3600

# Count one more, unless the limit is reached, from the larger of what is counted here and what the
# asker knows: a store that has lost its memory goes on where the asker was.
# Returns the count, or minus the count if it is refused (minus 1 of 0 allowed, too: never 0).
_SPEND = Script("""
local known, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local used = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), known)
if used >= limit then
    return -math.max(used, 1)
end
redis.call('SET', KEYS[1], string.format('%.0f', used + 1), 'EXAT', ARGV[3])
return used + 1
""")


class MonthlyAllowance:
    """What accounts have used of this month, as far as this process knows.

    An account's count is the larger of two: what the database said when the account was looked up
    (all processes' requests, except those whose rows are still on their way), and what this process
    had counted. So it never falls, and a restart forgets only rows that are still on their way.

    With a store that several processes share, that one counts, and exactly. What this process knows
    is then what the store has last told it: enough to refuse by without asking again, to go on with
    while the store is away (each process then counts alone, and learns of the others from the
    database within `addons.keyring.TRUST_SECONDS`), and to tell a store that has lost its memory.

    Args:
        monthly_requests_free: of an account on a plan that has a cap.
        now: wall clock in seconds since 1970.
        store: shared with other processes; None: this one is alone.
    """

    def __init__(
        self,
        monthly_requests_free: int,
        now: Callable[[], float],
        store: SharedStore | None = None,
    ) -> None:
        self._limit = monthly_requests_free
        self._now = now
        self._store = store
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

    async def spend(self, caller: Caller) -> None:
        """Count one request, or refuse it.

        Raises:
            Refused: 429 `monthly_limit`.
        """
        if not is_capped(caller.plan):
            return
        used = self._used_by(caller)
        if used >= self._limit:
            raise self._refusal()
        if self._store is not None:
            try:
                await self._spend_together(self._store, caller, used)
            except StoreAway:
                # Others were counted while this one waited.
                used = self._used_by(caller)
                if used >= self._limit:
                    raise self._refusal() from None
            else:
                return
        self._remember(caller.account_id, used + 1)

    async def _spend_together(self, store: SharedStore, caller: Caller, used: int) -> None:
        """Count in the store, which knows of all processes."""
        month = self._month
        key = f"metrion:month:{caller.account_id}:{month:%Y-%m}"
        until = int(self._ends_at) + _KEPT_AFTER_SECONDS
        counted = await store.run(
            _SPEND, key.encode(), b"%d" % used, b"%d" % self._limit, b"%d" % until
        )
        if month == self._month:  # else another month has begun meanwhile
            self._remember(caller.account_id, abs(counted))
        if counted < 0:
            raise self._refusal()

    def _remember(self, account_id: UUID, used: int) -> None:
        """What the account has used; replies may come in another order than they were counted."""
        self._used[account_id] = max(self._used.get(account_id, 0), used)
        self._used.move_to_end(account_id)
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
