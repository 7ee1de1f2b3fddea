import asyncio
import time

from addons.direct.tick import Tick
from addons.policy import NEVER


async def test_it_fires_once_at_the_earliest_time_that_was_wanted():
    fired: list[float] = []
    tick = Tick(lambda: fired.append(time.monotonic()))
    now = time.monotonic()
    tick.want(now + 60)
    tick.want(now + 0.03)
    tick.want(now + 0.05)
    tick.want(NEVER)
    await asyncio.sleep(0.2)
    assert len(fired) == 1
    assert fired[0] >= now + 0.02
    tick.want(now)  # a time that has passed is now
    await asyncio.sleep(0.05)
    assert len(fired) == 2


async def test_a_cancelled_one_does_not_fire_and_can_be_wanted_again():
    fired: list[bool] = []
    tick = Tick(lambda: fired.append(True))
    tick.want(time.monotonic() + 0.01)
    tick.cancel()
    await asyncio.sleep(0.05)
    assert not fired
    tick.want(time.monotonic() + 0.01)
    await asyncio.sleep(0.05)
    assert fired == [True]
