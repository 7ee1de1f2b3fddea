"""The moving window of the rate limit: in this process's memory, or in a store that several share.

The memory of `limits` is not used: each hit sweeps all keys, with a hop to another thread for each
(0.1 to 0.2 ms of CPU per request; this one takes 1 µs). Its shared stores are.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Protocol

from limits import RateLimitItemPerMinute
from limits.aio.storage import Storage
from limits.aio.strategies import MovingWindowRateLimiter

WINDOW_SECONDS = 60.0


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
        times = self._passed.get(key)
        if times is None:
            self._forget_idle(now)
            times = self._passed[key] = deque()
        while times and now - times[0] >= WINDOW_SECONDS:
            times.popleft()
        if len(times) >= self._rate:
            return times[0] + WINDOW_SECONDS - now
        times.append(now)
        self._passed.move_to_end(key)
        return 0.0

    def _forget_idle(self, now: float) -> None:
        while self._passed:
            key, times = next(iter(self._passed.items()))
            if times and now - times[-1] < WINDOW_SECONDS:
                return
            del self._passed[key]


class SharedWindow:
    """A window of all processes that share a store; the store counts, so that the number is exact.

    Args:
        store: of `limits`, with a moving window.
        rate: how many may pass in a window.
        now: seconds since 1970: the clock that `limits` uses.
    """

    def __init__(self, store: Storage, rate: int, now: Callable[[], float]) -> None:
        self._limiter = MovingWindowRateLimiter(store)
        self._rate = RateLimitItemPerMinute(rate)
        self._now = now

    async def hit(self, key: str) -> float:
        """Count one more and return 0; or count nothing and return the seconds to wait."""
        if await self._limiter.hit(self._rate, key):
            return 0.0
        stats = await self._limiter.get_window_stats(self._rate, key)
        # At the very edge the oldest may have left since.
        return min(max(stats.reset_time - self._now(), 0.001), WINDOW_SECONDS)
