import asyncio
import contextlib
import socket
import time

from addons.direct.tick import Tick
from addons.event_loop import EventLoop
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


def test_after_a_pause_of_the_process_what_has_come_is_read_first():
    order: list[str] = []

    async def go_on(pauses: list[socket.socket], comes: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()

        def pause() -> None:
            pauses[0].recv(1)
            comes[1].send(b"x")
            time.sleep(0.7)

        def read() -> None:
            comes[0].recv(1)
            order.append("read")

        loop.add_reader(pauses[0], pause)
        loop.add_reader(comes[0], read)
        Tick(lambda: order.append("fired")).want(time.monotonic() + 0.1)
        pauses[1].send(b"x")
        await asyncio.sleep(1)
        for pair in (pauses, comes):
            loop.remove_reader(pair[0])

    with contextlib.ExitStack() as stack:
        pairs = [[stack.enter_context(end) for end in socket.socketpair()] for _ in range(2)]
        asyncio.run(go_on(*pairs), loop_factory=EventLoop)
    assert order == ["read", "fired"]
