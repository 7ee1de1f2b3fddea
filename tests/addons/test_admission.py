import asyncio
import hashlib
import uuid
from datetime import UTC, date, datetime

import pytest

from addons.admission import Admission
from addons.exchange import Exchange, Marks, Mode
from addons.outcome import Refused
from storage.callers import Caller

DAY = 86_400.0


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class Clock:
    """Both clocks; they go when they are told to."""

    def __init__(self, start: str = "2025-06-15T12:00") -> None:
        self.now = seconds(start)

    def __call__(self) -> float:
        return self.now

    @property
    def month(self) -> date:
        return datetime.fromtimestamp(self.now, UTC).date().replace(day=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admission(clock: Clock, *, rate: int = 1000, monthly: int = 10) -> Admission:
    return Admission(
        None,
        rate_per_minute=rate,
        monthly_requests_free=monthly,
        now=clock,
        clock=clock,
        digest=str,
    )


LONG_AGO = date(2001, 1, 1)


def caller(plan: str = "free", used: int = 0, month: date = LONG_AGO) -> Caller:
    return Caller(uuid.uuid4(), plan, {}, month, used)


def exchange(who: Caller | None) -> Exchange:
    at = datetime.now(UTC)
    made = Exchange(str(uuid.uuid4()), at, "POST", "/", "", [], "", http2=False, marks=Marks(0.0))
    made.caller = who
    return made


async def send(gate: Admission, who: Caller) -> None:
    """What the gateway does with a request that is in order."""
    made = exchange(who)
    await gate.admit(made)
    await gate.count_forwarded(made)


async def refusal(gate: Admission, who: Caller) -> Refused:
    with pytest.raises(Refused) as caught:
        await gate.admit(exchange(who))
    assert caught.value.status == 429
    return caught.value


class TestRate:
    async def test_of_544_at_once_exactly_100_pass(self, clock: Clock) -> None:
        gate = admission(clock, rate=100)
        who = caller()
        results = await asyncio.gather(
            *(gate.admit(exchange(who)) for _ in range(544)), return_exceptions=True
        )
        assert results.count(None) == 100
        assert all(r is None or isinstance(r, Refused) for r in results)

    async def test_refusal_says_when_to_come_back(self, clock: Clock) -> None:
        gate, who = admission(clock, rate=2), caller()
        await gate.admit(exchange(who))
        clock.now += 0.5
        await gate.admit(exchange(who))
        clock.now += 20.25
        refused = await refusal(gate, who)
        assert (refused.code, refused.retry_after) == ("rate_limited", 40)  # of 39.25
        assert "2 requests" in refused.message
        assert "40 seconds" in refused.message
        clock.now += refused.retry_after
        await gate.admit(exchange(who))

    async def test_the_last_moment(self, clock: Clock) -> None:
        gate, who = admission(clock, rate=1), caller()
        await gate.admit(exchange(who))
        clock.now += 59.9
        refused = await refusal(gate, who)
        assert refused.retry_after == 1
        assert refused.message.endswith("in 1 second.")

    async def test_accounts_are_apart_also_in_the_unlimited_plan(self, clock: Clock) -> None:
        gate = admission(clock, rate=1)
        for who in (caller(), caller("pro")):
            await gate.admit(exchange(who))
            await refusal(gate, who)

    async def test_a_new_token_is_no_new_window(self, clock: Clock) -> None:
        # regenerating a token gives another `Caller` of the same account
        gate, who = admission(clock, rate=1), caller()
        await gate.admit(exchange(who))
        again = Caller(who.account_id, who.plan, {}, LONG_AGO, 0)
        assert (await refusal(gate, again)).code == "rate_limited"


class TestMonth:
    async def test_allowance_then_refusal(self, clock: Clock) -> None:
        gate, who = admission(clock, monthly=10_000, rate=100_000), caller()
        for _ in range(10_000):
            await send(gate, who)
        refused = await refusal(gate, who)
        assert refused.code == "monthly_limit"
        assert refused.retry_after == 15.5 * DAY
        assert "10,000" in refused.message
        assert "2025-07-01 at 00:00 UTC" in refused.message
        assert "Pro" in refused.message
        # the official SDKs would try again at once
        assert refused.headers == {"x-should-retry": "false"}

    async def test_what_is_not_forwarded_does_not_count(self, clock: Clock) -> None:
        gate, who = admission(clock), caller()
        for _ in range(50):
            await gate.admit(exchange(who))
        for _ in range(10):
            await send(gate, who)
        await refusal(gate, who)

    async def test_many_admitted_at_once_forward_no_more_than_is_left(self, clock: Clock) -> None:
        gate, who = admission(clock, monthly=100), caller(used=7, month=clock.month)
        admitted = [exchange(who) for _ in range(544)]
        await asyncio.gather(*map(gate.admit, admitted))
        forwarded = 0
        for made in admitted:
            try:
                await gate.count_forwarded(made)
            except Refused as refused:
                assert refused.code == "monthly_limit"  # noqa: PT017 - both ways are counted
            else:
                forwarded += 1
        assert forwarded == 93

    async def test_refused_for_the_month_does_not_count_for_the_minute(self, clock: Clock) -> None:
        gate = admission(clock, rate=1, monthly=1)
        who = caller(used=1, month=clock.month)
        for _ in range(5):
            assert (await refusal(gate, who)).code == "monthly_limit"
        upgraded = Caller(who.account_id, "pro", {}, clock.month, 0)
        await gate.admit(exchange(upgraded))

    async def test_the_database_knows_of_other_processes_and_earlier_runs(
        self, clock: Clock
    ) -> None:
        gate, who = admission(clock), caller(used=8, month=clock.month)
        await send(gate, who)
        await send(gate, who)
        assert (await refusal(gate, who)).code == "monthly_limit"

    async def test_a_look_up_that_lags_gives_nothing_back(self, clock: Clock) -> None:
        gate, who = admission(clock), caller()
        for _ in range(9):
            await send(gate, who)
        later = Caller(who.account_id, "free", {}, clock.month, 3)  # six rows are on their way
        await send(gate, later)
        await refusal(gate, later)

    async def test_a_look_up_that_knows_more_counts(self, clock: Clock) -> None:
        gate, who = admission(clock), caller()
        await send(gate, who)
        await refusal(gate, Caller(who.account_id, "free", {}, clock.month, 10))

    async def test_unlimited(self, clock: Clock) -> None:
        gate, who = admission(clock, monthly=0), caller("pro", 10**9, clock.month)
        for _ in range(20):
            await send(gate, who)

    @pytest.mark.parametrize("plan", ["free", "", "PRO", "enterprise"])
    async def test_a_plan_nobody_knows_is_limited(self, clock: Clock, plan: str) -> None:
        await refusal(admission(clock, monthly=0), caller(plan))

    async def test_downgrade_and_upgrade_count_at_once(self, clock: Clock) -> None:
        gate, who = admission(clock), caller(used=10, month=clock.month)
        await refusal(gate, who)
        await send(gate, Caller(who.account_id, "pro", {}, clock.month, 0))
        await refusal(gate, who)

    async def test_admission_before_authentication_is_a_defect(self, clock: Clock) -> None:
        gate = admission(clock)
        with pytest.raises(RuntimeError):
            await gate.admit(exchange(None))
        with pytest.raises(RuntimeError):
            await gate.count_forwarded(exchange(None))


class TestAnonymous:
    """An own key for no account: where the operator allows it."""

    @staticmethod
    def anonymous(key: str | None, client: str) -> Exchange:
        made = exchange(None)
        made.mode, made.own_key, made.client = Mode.PASS_THROUGH, key, client
        return made

    async def test_a_key_has_a_rate_wherever_it_comes_from(self, clock: Clock) -> None:
        gate = admission(clock, rate=2)
        for client in ("192.0.2.1", "192.0.2.2"):
            await gate.admit(self.anonymous("sk-one", client))
        with pytest.raises(Refused, match="More than 2 requests"):
            await gate.admit(self.anonymous("sk-one", "192.0.2.3"))
        await gate.admit(self.anonymous("sk-other", "192.0.2.3"))

    async def test_an_address_has_a_rate_whatever_its_keys(self, clock: Clock) -> None:
        gate = admission(clock, rate=2)
        for key in ("sk-one", "sk-two"):
            await gate.admit(self.anonymous(key, "192.0.2.1"))
        with pytest.raises(Refused, match="More than 2 requests"):
            await gate.admit(self.anonymous("sk-three", "192.0.2.1"))
        await gate.admit(self.anonymous("sk-three", "192.0.2.2"))

    async def test_a_key_is_no_address_and_no_account(self, clock: Clock) -> None:
        gate, who = admission(clock, rate=1), caller()
        await gate.admit(exchange(who))
        await gate.admit(self.anonymous(str(who.account_id), "sk-one"))
        await gate.admit(self.anonymous("sk-one", str(who.account_id)))

    async def test_neither_is_kept_in_clear(self, clock: Clock) -> None:
        gate = Admission(
            None,
            rate_per_minute=1,
            monthly_requests_free=0,
            now=clock,
            clock=clock,
            digest=lambda text: hashlib.sha256(text.encode()).hexdigest(),
        )
        await gate.admit(self.anonymous("sk-one", "192.0.2.1"))
        kept = repr(vars(gate._window))
        assert "sk-one" not in kept
        assert "192.0.2.1" not in kept

    async def test_the_month_is_no_limit_for_nobody(self, clock: Clock) -> None:
        gate = admission(clock, monthly=0)
        made = self.anonymous("sk-one", "192.0.2.1")
        await gate.admit(made)
        await gate.count_forwarded(made)

    async def test_without_a_key_it_is_a_defect(self, clock: Clock) -> None:
        with pytest.raises(RuntimeError, match="without a key"):
            await admission(clock).admit(self.anonymous(None, "192.0.2.1"))


class TestMonthChange:
    @pytest.mark.parametrize(
        ("at", "wait"),
        [
            ("2025-06-30T23:59:59", 1),
            ("2025-06-01T00:00:00", 30 * DAY),
            ("2025-12-31T00:00:00", DAY),  # into the next year
            ("2024-02-01T00:00:00", 29 * DAY),
            ("2025-02-28T12:00:00", DAY / 2),
            ("2025-03-30T00:00:00", 2 * DAY),  # the night when European clocks change
        ],
    )
    async def test_seconds_to_the_first(self, at: str, wait: float) -> None:
        refused = await refusal(admission(Clock(at), monthly=0), caller())
        assert refused.retry_after == wait

    async def test_parts_of_a_second_are_rounded_up(self) -> None:
        clock = Clock("2025-06-30T23:59:59")
        clock.now += 0.75
        assert (await refusal(admission(clock, monthly=0), caller())).retry_after == 1

    async def test_the_count_starts_again(self) -> None:
        clock = Clock("2025-06-30T23:59:59")
        gate, who = admission(clock), caller()
        for _ in range(10):
            await send(gate, who)
        await refusal(gate, who)
        clock.now += 0.999
        await refusal(gate, who)
        clock.now += 0.001
        for _ in range(10):
            await send(gate, who)
        assert (await refusal(gate, who)).retry_after == 31 * DAY

    async def test_last_month_s_look_up_says_nothing_about_this_month(self) -> None:
        clock = Clock("2025-06-30T23:59:59")
        gate, who = admission(clock), caller(used=10, month=clock.month)
        await refusal(gate, who)
        clock.now += 1  # the caller is still in the keyring's cache
        for _ in range(10):
            await send(gate, who)
        await refusal(gate, who)

    async def test_a_look_up_by_a_clock_ahead_of_ours_waits_for_its_month(self) -> None:
        clock = Clock("2025-06-30T23:59:59")
        gate, who = admission(clock), caller(used=0, month=date(2025, 7, 1))
        for _ in range(10):
            await send(gate, who)
        await refusal(gate, who)

    async def test_a_clock_that_was_wrong_is_forgiven(self) -> None:
        clock = Clock("2099-01-01T00:00")
        gate, who = admission(clock), caller()
        await send(gate, who)
        clock.now = seconds("2025-06-15T12:00")
        who = Caller(who.account_id, "free", {}, clock.month, 9)
        await send(gate, who)
        assert (await refusal(gate, who)).retry_after == 15.5 * DAY
