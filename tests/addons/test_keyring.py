import asyncio
import hashlib
import uuid
from collections.abc import Callable
from datetime import date

import pytest

from addons import keyring
from addons.keyring import (
    AWAY_SECONDS,
    MAX_CALLERS,
    MAX_UNKNOWN,
    OFFLINE_SECONDS,
    TRUST_SECONDS,
    UNKNOWN_SECONDS,
    Keyring,
)
from addons.outcome import Refused
from storage.callers import Caller
from storage.errors import DatabaseUnavailable, RightsMissing

TOKEN = "sk-metrion-" + "ab" * 16
OTHER = "sk-metrion-" + "cd" * 16


class World:
    """A database whose answers can be held back, a listener's lease, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.is_listening = True
        self.is_away = False
        self.callers: dict[str, Caller] = {}
        self.asked: list[str] = []
        self.hold: asyncio.Event | None = None
        self.keyring = Keyring(self.find_caller, lambda: self.is_listening, lambda: self.now)

    async def find_caller(self, token: str) -> Caller | None:
        self.asked.append(token)
        caller, is_away = self.callers.get(token), self.is_away  # the moment it is read
        if self.hold is not None:
            await self.hold.wait()
        if is_away:
            raise DatabaseUnavailable("away")
        return caller

    def add(self, token: str, plan: str = "free") -> Caller:
        old = self.callers.get(token)
        account_id = old.account_id if old else uuid.uuid4()
        self.callers[token] = Caller(account_id, plan, {"openai": b"sealed"}, date(2025, 6, 1), 0)
        return self.callers[token]

    async def identify(self, token: str = TOKEN) -> Caller:
        return await self.keyring.identify(token)

    async def refusal(self, token: str = TOKEN) -> tuple[int, str]:
        with pytest.raises(Refused) as caught:
            await self.keyring.identify(token)
        return caught.value.status, caught.value.code

    def asks(self) -> int:
        """How often the database was asked since the last time."""
        count = len(self.asked)
        self.asked.clear()
        return count


@pytest.fixture
def world() -> World:
    return World()


UNKNOWN = (401, "invalid_token")
AWAY = (503, "unavailable")


def test_the_times_and_sizes_are_those_that_are_promised() -> None:
    assert (TRUST_SECONDS, UNKNOWN_SECONDS) == (60, 2)
    assert (OFFLINE_SECONDS, AWAY_SECONDS) == (7200, 1)
    assert (MAX_CALLERS, MAX_UNKNOWN) == (10_000, 1_000)


class TestTrust:
    async def test_an_answer_counts_for_a_while(self, world: World) -> None:
        caller = world.add(TOKEN)
        assert await world.identify() is caller
        world.now += TRUST_SECONDS - 0.001
        assert await world.identify() is caller
        assert world.asks() == 1
        world.now += 0.001
        assert await world.identify() is caller
        assert world.asks() == 1

    async def test_without_news_it_counts_for_nothing(self, world: World) -> None:
        world.add(TOKEN)
        await world.identify()
        world.is_listening = False
        world.callers.clear()  # regenerated, and nobody said so
        assert await world.refusal() == UNKNOWN
        assert world.asks() == 2

    async def test_what_was_read_without_news_is_asked_again(self, world: World) -> None:
        world.is_listening = False
        world.add(TOKEN)
        for _ in range(3):
            await world.identify()
        assert world.asks() == 3

    async def test_tokens_are_told_apart(self, world: World) -> None:
        mine, theirs = world.add(TOKEN), world.add(OTHER)
        for _ in range(2):
            assert await world.identify(TOKEN) is mine
            assert await world.identify(OTHER) is theirs

    @pytest.mark.parametrize("at", [10, 11, 26, 42])
    async def test_a_token_that_is_nearly_the_same_is_another(self, world: World, at: int) -> None:
        world.add(TOKEN)
        await world.identify()
        changed = TOKEN[:at] + ("0" if TOKEN[at] != "0" else "1") + TOKEN[at + 1 :]
        assert await world.refusal(changed) == UNKNOWN

    async def test_no_token_is_kept_in_clear_or_as_a_plain_digest(self, world: World) -> None:
        world.add(TOKEN)
        await world.identify()
        await world.refusal(OTHER)
        kept = [*world.keyring._entries, *world.keyring._unknown]
        assert [len(each) for each in kept] == [32, 32]
        for token in (TOKEN, OTHER):
            assert hashlib.sha256(token.encode()).digest() not in kept
            assert hashlib.blake2b(token.encode(), digest_size=32).digest() not in kept
            assert token not in repr(vars(world.keyring))


class TestUnknown:
    async def test_is_remembered_for_a_moment(self, world: World) -> None:
        for _ in range(5):
            assert await world.refusal() == UNKNOWN
        assert world.asks() == 1
        world.now += UNKNOWN_SECONDS
        assert await world.refusal() == UNKNOWN
        assert world.asks() == 1

    async def test_is_forgotten_when_something_changed(self, world: World) -> None:
        await world.refusal()
        world.keyring.invalidate(world.add(TOKEN).account_id)
        await world.identify()

    async def test_the_message_does_not_repeat_the_token(self, world: World) -> None:
        with pytest.raises(Refused) as caught:
            await world.identify()
        assert TOKEN[11:] not in str(caught.value)

    async def test_a_flood_pushes_no_caller_out_and_takes_little_memory(self, world: World) -> None:
        world.add(TOKEN)
        await world.identify()
        for number in range(MAX_UNKNOWN + 100):
            await world.refusal(f"sk-metrion-{number:032x}")
        world.asks()
        await world.identify()
        assert world.asks() == 0
        assert len(world.keyring._unknown) == MAX_UNKNOWN


class TestInvalidation:
    async def test_drops_the_account_and_no_other(self, world: World) -> None:
        caller = world.add(TOKEN)
        other = world.add(OTHER)
        await world.identify(TOKEN)
        await world.identify(OTHER)
        del world.callers[TOKEN]
        world.keyring.invalidate(caller.account_id)
        world.asks()
        assert await world.refusal(TOKEN) == UNKNOWN
        assert await world.identify(OTHER) is other
        assert world.asked == [TOKEN]

    async def test_shows_new_keys_and_plans(self, world: World) -> None:
        caller = world.add(TOKEN)
        await world.identify()
        changed = world.add(TOKEN, "pro")
        world.keyring.invalidate(caller.account_id)
        assert await world.identify() is changed

    async def test_both_tokens_of_an_account_go(self, world: World) -> None:
        # the old one is still cached, the new one already is
        caller = world.add(TOKEN)
        await world.identify(TOKEN)
        world.callers[OTHER] = caller
        await world.identify(OTHER)
        world.asks()
        world.keyring.invalidate(caller.account_id)
        await world.identify(TOKEN)
        await world.identify(OTHER)
        assert world.asks() == 2

    async def test_of_everything_asks_again_for_everything(self, world: World) -> None:
        world.add(TOKEN)
        world.add(OTHER)
        await world.identify(TOKEN)
        await world.identify(OTHER)
        del world.callers[TOKEN]
        world.keyring.invalidate(None)
        assert await world.refusal(TOKEN) == UNKNOWN
        await world.identify(OTHER)
        assert world.asks() == 4

    @pytest.mark.parametrize("what", ["the account", "another account", "everything"])
    async def test_during_a_look_up_its_answer_serves_once(self, world: World, what: str) -> None:
        old = world.add(TOKEN)
        world.hold = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(world.identify())
            await asyncio.sleep(0)
            new = world.add(TOKEN, "pro")
            changed = {"the account": old.account_id, "another account": uuid.uuid4()}
            world.keyring.invalidate(changed.get(what))
            world.hold.set()
        assert asking.result() is old  # it had begun before the change
        world.hold = None
        assert await world.identify() is new

    async def test_during_a_look_up_leaves_a_newer_answer(self, world: World) -> None:
        old = world.add(TOKEN)
        world.hold = first = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.identify())
            await asyncio.sleep(0)
            new = world.add(TOKEN, "pro")
            world.keyring.invalidate(old.account_id)
            world.hold = None
            assert await world.identify() is new
            first.set()
        assert await world.identify() is new

    async def test_during_a_look_up_of_an_unknown_token(self, world: World) -> None:
        world.hold = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(world.refusal())
            await asyncio.sleep(0)
            world.keyring.invalidate(world.add(TOKEN).account_id)
            world.hold.set()
        assert asking.result() == UNKNOWN
        await world.identify()  # not remembered as unknown


class TestAway:
    async def test_a_known_caller_goes_on(self, world: World) -> None:
        caller = world.add(TOKEN)
        await world.identify()
        world.is_away, world.is_listening = True, False
        world.keyring.invalidate(None)
        world.now += OFFLINE_SECONDS - 0.001
        assert await world.identify() is caller
        world.now += 0.001
        assert await world.refusal() == AWAY

    async def test_an_unknown_caller_waits(self, world: World) -> None:
        world.is_away = True
        with pytest.raises(Refused) as caught:
            await world.identify()
        assert (caught.value.status, caught.value.retry_after) == (503, 1)

    async def test_is_not_asked_for_a_moment(self, world: World) -> None:
        # a database behind a black hole would cost every request its connect timeout
        world.is_away = True
        await world.refusal()
        world.now += AWAY_SECONDS / 2
        for token in (TOKEN, OTHER):
            assert await world.refusal(token) == AWAY
        assert world.asks() == 1
        world.is_away = False
        caller = world.add(TOKEN)
        world.now += AWAY_SECONDS / 2
        assert await world.identify() is caller

    async def test_what_was_spoken_against_does_not_come_back(self, world: World) -> None:
        caller = world.add(TOKEN)
        await world.identify()
        world.keyring.invalidate(caller.account_id)
        world.is_away = True
        assert await world.refusal() == AWAY

    async def test_spoken_against_while_it_was_asked(self, world: World) -> None:
        caller = world.add(TOKEN)
        await world.identify()
        world.is_away, world.is_listening, world.hold = True, False, asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(world.refusal())
            await asyncio.sleep(0)
            world.keyring.invalidate(caller.account_id)
            world.hold.set()
        assert asking.result() == AWAY

    async def test_a_newer_answer_counts_for_whoever_asked_in_vain(self, world: World) -> None:
        old = world.add(TOKEN)
        await world.identify()
        world.is_away, world.is_listening, world.hold = True, False, asyncio.Event()
        first = world.hold
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(world.identify())
            await asyncio.sleep(0)
            world.keyring.invalidate(old.account_id)
            world.is_away, world.hold = False, None
            new = world.add(TOKEN, "pro")
            assert await world.identify() is new
            first.set()
        assert asking.result() is new

    async def test_a_refused_token_is_not_trusted_again(self, world: World) -> None:
        # regenerated while nobody listened; the answer came together with other news
        world.add(TOKEN)
        await world.identify()
        world.keyring.invalidate(None)
        del world.callers[TOKEN]
        world.hold = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(world.refusal())
            await asyncio.sleep(0)
            world.keyring.invalidate(uuid.uuid4())
            world.hold.set()
        assert asking.result() == UNKNOWN
        world.is_away = True
        assert await world.refusal() == AWAY

    async def test_other_errors_are_not_hidden(self, world: World) -> None:
        # not "away": nobody gets in, and the gateway answers 500
        world.add(TOKEN)
        await world.identify()
        world.is_listening = False

        async def fail(token: str) -> Caller | None:
            raise RightsMissing("no")

        world.keyring._find_caller = fail
        with pytest.raises(RightsMissing):
            await world.identify()


class TestMemory:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keyring, "MAX_CALLERS", 10)

    @pytest.fixture
    def fill(self, world: World) -> Callable[[int], list[str]]:
        tokens = [f"sk-metrion-{number:032x}" for number in range(20)]
        for token in tokens:
            world.add(token)
        return lambda count: tokens[:count]

    async def test_is_bounded(self, world: World, fill: Callable[[int], list[str]]) -> None:
        for token in fill(20):
            await world.identify(token)
        assert len(world.keyring._entries) == 10
        assert MAX_CALLERS == 10_000

    @pytest.mark.parametrize("is_listening", [True, False])
    async def test_the_busy_are_kept(
        self, world: World, fill: Callable[[int], list[str]], *, is_listening: bool
    ) -> None:
        world.is_listening = is_listening  # if not, each time it is looked up
        busy, *others = fill(11)
        for token in others:
            await world.identify(busy)
            world.asks()
            await world.identify(token)
        world.is_listening = True
        world.asks()
        await world.identify(busy)
        assert world.asks() == 0

    async def test_who_came_first_is_forgotten_first(
        self, world: World, fill: Callable[[int], list[str]]
    ) -> None:
        tokens = fill(11)
        for token in tokens:
            await world.identify(token)
        world.asks()
        for token in tokens[1:]:
            await world.identify(token)
        assert world.asks() == 0
        await world.identify(tokens[0])
        assert world.asks() == 1

    async def test_of_unknown_ones_too(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keyring, "MAX_UNKNOWN", 2)
        tokens = [f"sk-metrion-{number:032x}" for number in range(3)]
        for token in tokens:
            await world.refusal(token)
        world.asks()
        for token in tokens[1:]:
            assert await world.refusal(token) == UNKNOWN
        assert world.asks() == 0
        await world.refusal(tokens[0])
        assert world.asks() == 1

    async def test_who_was_unknown_a_moment_ago_and_is_not_any_more(self, world: World) -> None:
        world.hold, world.is_listening = asyncio.Event(), False
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(world.refusal())  # reads that there is none
            await asyncio.sleep(0)
            caller = world.add(TOKEN)
            again = tasks.create_task(world.identify())
            await asyncio.sleep(0)
            world.hold.set()
        assert (asking.result(), again.result()) == (UNKNOWN, caller)
        assert await world.identify() is caller
