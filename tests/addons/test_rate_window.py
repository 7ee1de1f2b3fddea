import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits.aio.storage import MemoryStorage, memory

from addons.rate_window import WINDOW_SECONDS, MemoryWindow, RateWindow, SharedWindow


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Also the clock of `limits`."""
    clock = Clock()
    monkeypatch.setattr(memory, "time", SimpleNamespace(time=clock))
    return clock


@pytest.fixture(params=["memory", "shared"])
def window(request: pytest.FixtureRequest, clock: Clock) -> RateWindow:
    if request.param == "memory":
        return MemoryWindow(100, clock)
    return SharedWindow(MemoryStorage(), 100, clock)


async def hit_many(window: RateWindow, key: str, times: int) -> list[float]:
    return await asyncio.gather(*(window.hit(key) for _ in range(times)))


class TestBoth:
    async def test_of_544_at_once_exactly_100_pass(self, window: RateWindow) -> None:
        waits = await hit_many(window, "a", 544)
        assert waits.count(0) == 100
        assert all(0 < wait <= WINDOW_SECONDS for wait in waits if wait)

    async def test_keys_are_apart(self, window: RateWindow) -> None:
        await hit_many(window, "a", 100)
        assert await window.hit("a") > 0
        assert await window.hit("b") == 0

    async def test_what_is_refused_does_not_count(self, window: RateWindow, clock: Clock) -> None:
        await hit_many(window, "a", 100)
        for _ in range(59):
            clock.now += 1
            assert all(await hit_many(window, "a", 10))
        clock.now += 1.001
        assert (await hit_many(window, "a", 544)).count(0) == 100

    async def test_the_window_moves(self, window: RateWindow, clock: Clock) -> None:
        # 60 now and 40 half a minute later: a fixed window would let 100 through after a minute
        await hit_many(window, "a", 60)
        clock.now += 30
        await hit_many(window, "a", 40)
        clock.now += 30.001
        assert (await hit_many(window, "a", 544)).count(0) == 60
        clock.now += 29.99
        assert (await hit_many(window, "a", 544)).count(0) == 0
        clock.now += 0.02
        assert (await hit_many(window, "a", 544)).count(0) == 40

    async def test_wait_is_until_the_oldest_leaves(self, window: RateWindow, clock: Clock) -> None:
        await window.hit("a")
        clock.now += 10.5
        await hit_many(window, "a", 99)
        clock.now += 20
        assert await window.hit("a") == pytest.approx(29.5)

    async def test_a_wait_is_never_zero(self, window: RateWindow, clock: Clock) -> None:
        # zero would mean that it passed
        await hit_many(window, "a", 100)
        clock.now += 59.999999
        assert await window.hit("a") > 0


class TestMemoryWindow:
    @given(
        rate=st.integers(1, 5),
        hits=st.lists(
            st.tuples(
                st.sampled_from([0.0, 0.5, 7.0, 29.0, 30.0, 60.0, 61.0]), st.sampled_from("ab")
            )
        ),
    )
    def test_no_minute_ever_holds_more(self, rate: int, hits: list[tuple[float, str]]) -> None:
        clock = Clock(0.0)
        window = MemoryWindow(rate, clock)
        passed: dict[str, list[float]] = {"a": [], "b": []}

        async def run() -> None:
            for pause, key in hits:
                clock.now += pause
                recent = [at for at in passed[key] if clock.now - at < WINDOW_SECONDS]
                wait = await window.hit(key)
                if len(recent) < rate:
                    assert wait == 0
                    passed[key].append(clock.now)
                else:
                    assert wait == recent[0] + WINDOW_SECONDS - clock.now

        asyncio.run(run())

    async def test_waiting_as_long_as_told_is_enough(self) -> None:
        clock = Clock(0.1)
        window = MemoryWindow(1, clock)
        for _ in range(1000):
            wait = await window.hit("a")
            clock.now += wait
            if wait:
                assert await window.hit("a") == 0
            clock.now += 0.7

    async def test_memory_is_bounded_by_what_was_active_in_the_last_window(self) -> None:
        clock = Clock()
        window = MemoryWindow(3, clock)
        for number in range(10_000):
            clock.now += 1
            await hit_many(window, str(number), 5)
        kept = window._passed
        assert len(kept) <= WINDOW_SECONDS
        assert sum(map(len, kept.values())) <= 3 * WINDOW_SECONDS

    async def test_a_busy_key_keeps_no_idle_ones(self) -> None:
        clock = Clock()
        window = MemoryWindow(3, clock)
        for number in range(10_000):
            clock.now += 1
            if number % 30 == 0:
                await window.hit("busy")
            await window.hit(str(number))
        assert len(window._passed) <= WINDOW_SECONDS + 1

    async def test_whoever_is_at_the_limit_is_not_forgotten(self) -> None:
        clock = Clock()
        window = MemoryWindow(1, clock)
        await window.hit("first")
        for number in range(59):
            clock.now += 1
            assert await window.hit("first") > 0
            assert await window.hit(str(number)) == 0


class TestSharedWindow:
    async def test_the_oldest_may_leave_between_refusal_and_answer(self, clock: Clock) -> None:
        window = SharedWindow(MemoryStorage(), 1, lambda: clock.now + WINDOW_SECONDS)
        await window.hit("a")
        assert 0 < await window.hit("a") < 1
