"""The month's count: of this process alone, and exactly, by a real Valkey, of several."""

import asyncio
import contextlib
import uuid
from datetime import UTC, date, datetime, time
from time import tzset

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from addons import shared_store
from addons.monthly_allowance import MAX_ACCOUNTS, MonthlyAllowance
from addons.outcome import Refused
from addons.shared_store import SharedStore
from storage.callers import Caller

DAY = 86_400.0
LONG_AGO = date(2001, 1, 1)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class Clock:
    """A wall clock that goes when it is told to."""

    def __init__(self, start: str = "2025-06-15T12:00") -> None:
        self.now = seconds(start)

    def __call__(self) -> float:
        return self.now

    @property
    def month(self) -> date:
        return datetime.fromtimestamp(self.now, UTC).date().replace(day=1)


def caller(plan: str = "free", used: int = 0, month: date = LONG_AGO) -> Caller:
    return Caller(uuid.uuid4(), plan, {}, month, used)


async def forwarded(allowances: list[MonthlyAllowance], who: Caller, attempts: int) -> int:
    """Try by each process in turn, all at once; returns how many were let through."""
    tries = [allowances[n % len(allowances)].spend(who) for n in range(attempts)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert all(each is None or isinstance(each, Refused) for each in results)
    return results.count(None)


@given(st.floats(0, 4_102_444_800))
@example(2_051_222_399.9999995)
async def test_waiting_as_told_is_enough(now: float) -> None:
    clock = Clock()
    clock.now = now
    allowance, who = MonthlyAllowance(1, clock), caller()
    await allowance.spend(who)
    with pytest.raises(Refused) as caught:
        await allowance.spend(who)
    wait = caught.value.retry_after
    assert wait is not None
    assert 0 < wait <= 31 * DAY
    clock.now += wait
    await allowance.spend(who)
    assert 0 <= clock.now - datetime.combine(clock.month, time.min, UTC).timestamp() < 1


def test_a_month_that_ends_while_it_refuses_asks_for_a_second() -> None:
    times = iter([seconds("2025-06-30T23:59:59"), seconds("2025-07-01T00:00:03")])
    with pytest.raises(Refused) as caught:
        MonthlyAllowance(0, lambda: next(times)).check(caller())
    assert caught.value.retry_after == 1


async def test_months_begin_in_utc_wherever_the_machine_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    tzset()
    try:
        clock = Clock("2025-06-30T23:59:59")
        allowance, who = MonthlyAllowance(1, clock), caller()
        await allowance.spend(who)
        with pytest.raises(Refused) as caught:
            allowance.check(who)
        assert caught.value.retry_after == 1
        clock.now += 1
        allowance.check(who)
    finally:
        monkeypatch.undo()
        tzset()


class TestMemory:
    async def test_is_bounded(self) -> None:
        allowance = MonthlyAllowance(1, Clock())
        callers = [caller() for _ in range(MAX_ACCOUNTS + 2)]
        for each in callers:
            await allowance.spend(each)
        assert len(allowance._used) == MAX_ACCOUNTS == 20_000
        # who was counted longest ago is forgotten
        allowance.check(callers[1])
        for each in (callers[2], callers[-1]):
            with pytest.raises(Refused):
                allowance.check(each)

    async def test_the_busy_are_kept(self) -> None:
        allowance, busy = MonthlyAllowance(3, Clock()), caller()
        for _ in range(3):
            await allowance.spend(busy)
            for _ in range(MAX_ACCOUNTS - 1):
                await allowance.spend(caller())
        with pytest.raises(Refused):
            await allowance.spend(busy)

    async def test_a_new_month_clears_it(self) -> None:
        clock = Clock("2025-06-30T23:59:59")
        allowance = MonthlyAllowance(1, clock)
        for _ in range(100):
            await allowance.spend(caller())
        clock.now += 1
        allowance.check(caller())
        assert not allowance._used


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


@pytest.fixture
def clock() -> Clock:
    """Of this month: the server forgets by its own clock."""
    clock = Clock()
    clock.now = datetime.now(UTC).timestamp()
    return clock


async def test_what_the_store_is_asked_and_what_its_answers_mean(made_up_store) -> None:
    clock, store = Clock("2025-06-15T12:00"), made_up_store(8, -100)
    allowance = MonthlyAllowance(100, clock, store)
    who = caller(used=7, month=clock.month)
    await allowance.spend(who)
    with pytest.raises(Refused):  # others have used it up
        await allowance.spend(who)
    until = b"%d" % (seconds("2025-07-01T00:00") + 3600)
    key = f"metrion:month:{who.account_id}:2025-06".encode()
    assert store.asked == [(key, b"7", b"100", until), (key, b"8", b"100", until)]
    with pytest.raises(Refused):
        allowance.check(who)
    with pytest.raises(Refused):  # and nobody is asked again
        await allowance.spend(who)


class TestShared:
    async def test_several_processes_let_through_what_is_left_and_no_more(self, stores, clock):
        four = [MonthlyAllowance(1000, clock, store) for store in stores]
        who = caller(used=7, month=clock.month)
        assert await forwarded(four, who, 2000) == 993
        assert await forwarded(four, who, 40) == 0
        for one in four:
            with pytest.raises(Refused):
                one.check(who)

    async def test_accounts_are_apart(self, stores, clock):
        four = [MonthlyAllowance(10, clock, store) for store in stores]
        assert await forwarded(four, caller(), 20) == 10
        assert await forwarded(four, caller(), 20) == 10

    async def test_pro_asks_nobody(self, stores, clock, valkey):
        four = [MonthlyAllowance(0, clock, store) for store in stores]
        assert await forwarded(four, caller("pro"), 20) == 20
        assert valkey.client.keys() == []

    async def test_nothing_secret_is_kept_and_not_for_ever(self, stores, clock, valkey):
        who = caller()
        await MonthlyAllowance(10, clock, stores[0]).spend(who)
        (key,) = valkey.client.keys()
        assert key.decode() == f"metrion:month:{who.account_id}:{clock.month:%Y-%m}"
        assert 0 < valkey.client.ttl(key) <= 31 * DAY + 3600 + 1

    async def test_what_the_database_knows_more_counts(self, stores, clock):
        one, other = (MonthlyAllowance(100, clock, store) for store in stores[:2])
        who = caller()
        await one.spend(who)
        later = Caller(who.account_id, "free", {}, clock.month, 95)
        assert await forwarded([other], later, 20) == 5
        assert await forwarded([one], who, 1) == 0

    async def test_a_store_that_lost_its_memory_is_told(self, stores, clock, valkey):
        four = [MonthlyAllowance(100, clock, store) for store in stores]
        who = caller()
        for one in four:
            assert await forwarded([one], who, 10) == 10
        valkey.client.flushall()
        # Whoever asks first tells what it knows: 40, or 10 to 30 if others have asked since.
        assert await forwarded([four[3]], who, 10) == 10
        assert await forwarded(four, who, 200) == 50

    async def test_without_the_store_each_goes_on_from_what_it_knows(self, stores, clock, valkey):
        four = [MonthlyAllowance(100, clock, store) for store in stores]
        who = caller()
        for one in four:
            assert await forwarded([one], who, 20) == 20
        valkey.kill()
        # of each: what is left, as far as it knows
        assert await forwarded(four, who, 400) == 80 + 60 + 40 + 20
        valkey.start()
        for store in stores:
            async with asyncio.timeout(10):
                while not store.is_up:
                    await asyncio.sleep(0.01)
        assert await forwarded(four, who, 40) == 0

    async def test_a_month_that_ends_meanwhile_leaves_nothing_behind(self, stores, valkey):
        clock = Clock()
        clock.now = seconds("2099-06-30T23:59:59")  # the server keeps what is in its future
        allowance, who = MonthlyAllowance(10, clock, stores[0]), caller()
        first = asyncio.create_task(allowance.spend(who))
        await asyncio.sleep(0)  # it is asked
        clock.now += 1
        with contextlib.suppress(Refused):
            allowance.check(who)
        await first
        assert await forwarded([allowance], who, 20) == 10
