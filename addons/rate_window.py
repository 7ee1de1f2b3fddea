"""The moving window of the rate limit: of this process alone, or of all that share a store.

`limits` is not used for either. Its memory sweeps all keys at each hit, with a hop to another
thread for each (0.1 to 0.2 ms of CPU per request; this one takes 1 µs). Its Valkey window goes by
the clocks of the processes, asks a second time how long to wait, and costs 0.2 ms per hit.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Protocol

from addons.shared_store import Script, SharedStore, StoreAway

WINDOW_SECONDS = 60.0
_MICROSECONDS = 1_000_000

# A list of the times of what passed, newest first, at most as long as the rate: if the rate-th last
# is younger than a window, no more may pass. The server's clock counts, which is one for all.
# What is of later than now is of no window: the clock was ahead, and has been set back since.
# Returns 0, or the microseconds to wait.
_HIT = Script("""
local at = redis.call('TIME')
local now = at[1] * 1000000 + at[2]
local rate, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local oldest = tonumber(redis.call('LINDEX', KEYS[1], rate - 1))
if oldest and oldest <= now and oldest + window > now then
    return oldest + window - now
end
redis.call('LPUSH', KEYS[1], string.format('%.0f', now))
redis.call('LTRIM', KEYS[1], 0, rate - 1)
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
return 0
""")


class RateWindow(Protocol):
    """Counts what passes in any `WINDOW_SECONDS`."""

    async def hit(self, key: str) -> float:
        """Count one more and return 0; or count nothing and return the seconds to wait."""
        ...


class MemoryWindow:
    """A window of this process alone.

    What is kept is what passed in the last window, so its size is bounded by the rate and by the
    number of accounts that were active in it.

    Args:
        rate: how many may pass in a window.
        clock: seconds, monotonic.
    """

    def __init__(self, rate: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        # Times of what passed, oldest first; keys in the order of their last time.
        self._passed: OrderedDict[str, deque[float]] = OrderedDict()

    async def hit(self, key: str) -> float:
        """Count one more and return 0; or count nothing and return the seconds to wait."""
        now = self._clock()
        if wait := self.wait(key, now):
            return wait
        self.add(key, now)
        return 0.0

    def wait(self, key: str, now: float) -> float:
        """The seconds until one more may pass; 0: now."""
        times = self._passed.get(key)
        if times is None:
            return 0.0
        while times and now - times[0] >= WINDOW_SECONDS:
            times.popleft()
        return times[0] + WINDOW_SECONDS - now if len(times) >= self._rate else 0.0

    def add(self, key: str, now: float) -> None:
        """One has passed."""
        times = self._passed.get(key)
        if times is None:
            self._forget_idle(now)
            times = self._passed[key] = deque()
        times.append(now)
        self._passed.move_to_end(key)

    def _forget_idle(self, now: float) -> None:
        while self._passed:
            key, times = next(iter(self._passed.items()))
            if times and now - times[-1] < WINDOW_SECONDS:
                return
            del self._passed[key]


class SharedWindow:
    """A window of all processes that share a store; the store counts, so that the number is exact.

    Decision: while the store is away, requests pass up to the full rate *per process* (it fails
    open: a customer's traffic is worth more than the exact number, and a divided rate would refuse
    a client whose one connection lies on one process). So that this is bounded, each process notes
    what it let through also while the store is there, and never lets more than the rate through by
    itself. Of one account there pass in any window then:

    - `rate`, exactly, while the store is there, whatever becomes of processes. One that is killed
      takes with it what it had counted and not yet answered: these do not pass, and no other does
      in their place;
    - `rate` times the number of processes at most, in windows that touch an outage of the store, or
      its restart with nothing kept;
    - twice `rate` at most, in windows in which the store's clock is set back: nobody waits longer
      than a window for that.

    Args:
        store: counts.
        rate: how many may pass in a window.
        clock: seconds, monotonic.
    """

    def __init__(self, store: SharedStore, rate: int, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._own = MemoryWindow(rate, clock)
        self._arguments = (b"%d" % rate, b"%d" % (WINDOW_SECONDS * _MICROSECONDS))

    async def hit(self, key: str) -> float:
        """Count one more and return 0; or count nothing and return the seconds to wait."""
        # Taken before the store's own time, so that ours is never the later one to be forgotten.
        now = self._clock()
        if wait := self._own.wait(key, now):
            return wait
        try:
            microseconds = await self._store.run(
                _HIT, b"metrion:rate:" + key.encode(), *self._arguments
            )
        except StoreAway:
            return await self._own.hit(key)
        if microseconds > 0:
            return microseconds / _MICROSECONDS
        self._own.add(key, now)
        return 0.0
