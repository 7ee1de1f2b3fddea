"""One timer for all deadlines of a connection."""

import asyncio
import time
from collections.abc import Callable

from addons.policy import NEVER

# A timer that fires this much early is good enough: saves a second one.
SLACK_SECONDS = 0.002
# One that comes so late was held up with the whole process (a machine that was paused), and libuv
# runs timers before it reads what has come meanwhile: that comes first.
_LATE_SECONDS = 0.5
_GRACE_SECONDS = 0.01


class Tick:
    """A timer that is not moved when a deadline moves on: it fires, and is asked for again.

    Deadlines move with every event of a stream, and making and cancelling a timer costs more than
    firing one in vain every thirty seconds.

    Args:
        fire: called once for each timer, at the earliest time that was wanted.
    """

    def __init__(self, fire: Callable[[], None]) -> None:
        self._fire = fire
        self._timer: asyncio.TimerHandle | None = None
        self._at = NEVER

    def want(self, at: float) -> None:
        """Fire at `at` (seconds of `time.monotonic`) or before."""
        if at >= self._at - SLACK_SECONDS:
            return
        self.cancel()
        self._at = at
        delay = max(0.0, at - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._fired)

    def cancel(self) -> None:
        """Do not fire."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._at = None, NEVER

    def _fired(self) -> None:
        if time.monotonic() - self._at > _LATE_SECONDS:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_GRACE_SECONDS, self._fired_at_last)
        else:
            self._fired_at_last()

    def _fired_at_last(self) -> None:
        self._timer, self._at = None, NEVER
        self._fire()
