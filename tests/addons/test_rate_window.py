import asyncio
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from addons import rate_window, shared_store
from addons.rate_window import WINDOW_SECONDS, MemoryWindow, RateWindow, SharedWindow
from addons.shared_store import SharedStore


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def window(clock: Clock) -> RateWindow:
    return MemoryWindow(100, clock)


async def hit_many(window: RateWindow, key: str, times: int) -> list[float]:
    return await asyncio.gather(*(window.hit(key) for _ in range(times)))


class TestWindow:
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
    def test_whoever_was_never_here_need_not_wait(self) -> None:
        assert MemoryWindow(1, Clock()).wait("a", 0.0) == 0

    @example(rate=1, hits=[(0.0, "a"), (60.0, "a"), (0.0, "a")])  # twice at the very moment
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


@pytest.fixture
async def stores(valkey, monkeypatch):
    """What four processes have: connections of their own to one server.

    Here they share one event loop, so thousands of replies may well take a busy machine a second.
    """
    monkeypatch.setattr(shared_store, "REPLY_SECONDS", 30.0)
    stores = [SharedStore(valkey.url, CollectorRegistry()) for _ in range(4)]
    tasks = [asyncio.create_task(store.run_forever()) for store in stores]
    for store in stores:
        await store.wait_until_connected(5)
    yield stores
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def hit_all(windows: list[SharedWindow], key: str, times: int) -> list[float]:
    """Hit by each process in turn, all at once."""
    return await asyncio.gather(*(windows[n % len(windows)].hit(key) for n in range(times)))


class TestSharedWindow:
    async def test_the_store_is_asked_and_answers_in_microseconds(
        self, clock: Clock, made_up_store
    ) -> None:
        store = made_up_store(0, 1, 1_500_000, 0)
        window = SharedWindow(store, 2, clock)
        assert [await window.hit("a") for _ in range(4)] == [0, 0.000_001, 1.5, 0]
        assert store.asked == [(b"metrion:rate:a", b"2", b"60000000")] * 4
        # two have passed by this process: it knows that the next one may not
        assert await window.hit("a") == WINDOW_SECONDS
        assert not store.answers

    async def test_whom_the_store_refused_is_forgotten(self, clock: Clock, made_up_store) -> None:
        window = SharedWindow(made_up_store(0, 5_000_000, 0), 2, clock)
        await window.hit("a")
        clock.now += WINDOW_SECONDS
        assert await window.hit("a") == 5  # another process has used the rate up meanwhile
        assert await window.hit("b") == 0
        assert list(window._own._passed) == ["b"]

    async def test_of_2000_at_once_by_four_processes_exactly_100_pass(self, stores):
        four = [SharedWindow(store, 100, time.monotonic) for store in stores]
        waits = await hit_all(four, "a", 2000)
        assert waits.count(0) == 100
        assert all(50 < wait <= WINDOW_SECONDS for wait in waits if wait)
        assert (await hit_all(four, "b", 150)).count(0) == 100

    async def test_the_window_moves(self, stores, monkeypatch):
        monkeypatch.setattr(rate_window, "WINDOW_SECONDS", 2.0)
        four = [SharedWindow(store, 10, time.monotonic) for store in stores]
        begun = time.monotonic()
        assert (await hit_all(four, "a", 20)).count(0) == 10
        passed = time.monotonic()
        assert 0 < max(await hit_all(four, "a", 20)) <= 2
        await asyncio.sleep(passed + 2 - time.monotonic())  # until the last of them has left
        assert (await hit_all(four, "a", 20)).count(0) == 10
        assert time.monotonic() - begun >= 2

    async def test_a_process_at_its_rate_does_not_ask(self, stores, valkey):
        window = SharedWindow(stores[0], 5, time.monotonic)
        await hit_all([window], "a", 10)
        commands = valkey.client.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert all(await hit_all([window], "a", 10))
        assert valkey.client.info("commandstats")["cmdstat_evalsha"]["calls"] == commands

    async def test_nothing_secret_is_kept_and_not_for_long(self, stores, valkey):
        window = SharedWindow(stores[0], 5, time.monotonic)
        await window.hit("an account's id")
        assert valkey.client.keys() == [b"metrion:rate:an account's id"]
        assert 0 < valkey.client.pttl("metrion:rate:an account's id") <= 60_000
        assert valkey.client.llen("metrion:rate:an account's id") == 1

    @pytest.mark.parametrize(("rate", "ahead"), [(5, 5), (5, 3), (1, 1)])
    async def test_a_clock_that_was_set_back_locks_nobody_out(self, stores, valkey, rate, ahead):
        key, (seconds, micros) = "metrion:rate:a", valkey.client.time()
        of_now, of_later = ((seconds + more) * 10**6 + micros for more in (0, 3600))
        # as they are when the clock was an hour ahead, and what has passed since it was set back
        valkey.client.lpush(key, *[of_later] * ahead, *[of_now] * (rate - ahead))
        valkey.client.pexpire(key, 3_660_000)
        windows = [SharedWindow(store, rate, time.monotonic) for store in stores]
        waits = await hit_all(windows, "a", 4 * rate)
        assert waits.count(0) == ahead
        assert max(waits) <= WINDOW_SECONDS
        assert 0 < valkey.client.pttl(key) <= 60_000

    async def test_a_wait_is_a_window_at_most_also_when_a_clock_was_set_back(self, stores, valkey):
        # a clock set back by half a minute: the oldest is not of later, those after it are
        seconds, micros = valkey.client.time()
        times = [(seconds + more) * 10**6 + micros for more in (-50, 30, 30)]
        valkey.client.lpush("metrion:rate:a", *times)
        first, second = (SharedWindow(store, 3, time.monotonic) for store in stores[:2])
        assert 0 < await first.hit("a") <= 10
        valkey.client.lset("metrion:rate:a", 2, times[0] - 10_000_000)  # ten seconds later
        assert [await first.hit("a") for _ in range(3)] == [0, 0, 0]
        assert 0 < await second.hit("a") <= WINDOW_SECONDS

    async def test_while_the_store_is_away_each_process_lets_its_rate_through(self, stores, valkey):
        four = [SharedWindow(store, 100, time.monotonic) for store in stores]
        assert (await hit_all(four, "a", 40)).count(0) == 40
        valkey.kill()
        # what each had let through before counts: 10 of its 100
        assert (await hit_all(four, "a", 1000)).count(0) == 4 * 90
        valkey.start()
        for store in stores:
            async with asyncio.timeout(10):
                while not store.is_up:
                    await asyncio.sleep(0.01)
        # an empty store would let 100 through; nobody asks it, each knows that it has had its rate
        assert (await hit_all(four, "a", 1000)).count(0) == 0
        assert (await hit_all(four, "b", 1000)).count(0) == 100
