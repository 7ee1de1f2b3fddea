"""Mixed traffic of several people: all kinds of requests, by clients of all manners, at a rate."""

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final
from urllib.parse import urlsplit

from scripts.proof import calls
from scripts.proof.books import Seen
from scripts.proof.calls import Call
from scripts.proof.client import GOOD, Answer, Client, Leaving, Manners

PATIENCE_SECONDS: Final = 40.0
"""Who has no answer by then is not answered at all: it is longer than all time-outs together."""
_NOBODY_SECONDS: Final = 0.1
_NUMBER = re.compile(rb'"id":"(?:chatcmpl-|msg_)([0-9a-f]{24})"')
_NOBODYS_TOKEN = "sk-metrion-" + "0" * 32
_LEAVINGS: Final[tuple[Leaving, ...]] = ("in request", "after request", "after head", "in body")


@dataclass
class Person:
    """Somebody who calls.

    Attributes:
        email: of the account.
        token: the one that lives now.
        own_keys: provider → a key of their own, for pass-through mode; None: stored mode.
        weight: how much of the traffic is theirs.
    """

    email: str
    token: str = field(repr=False)
    own_keys: Mapping[str, str] | None = field(default=None, repr=False)
    weight: float = 1.0

    @property
    def mode(self) -> str:
        """As rows say it."""
        return "stored" if self.own_keys is None else "pass-through"


@dataclass
class Shares:
    """How much of the traffic is bad; changed while it goes on."""

    hang_ups: float = 0.04
    broken_answers: float = 0.03
    slow: float = 0.04


class Traffic:
    """Clients that send one request after the other.

    Args:
        people: who calls.
        url: where the proxy is now; a deployment that starts anew is somewhere else.
        seed: of all chances.
        rate: requests in a second, of all together.
        clients: how many at once.

    Attributes:
        seen: every request that was sent, once it has ended.
        shares: may be changed at any time.
    """

    def __init__(
        self, people: list[Person], url: Callable[[], str], *, seed: int, rate: float, clients: int
    ) -> None:
        self.seen: list[Seen] = []
        self.shares = Shares()
        self._people = people
        self._url = url
        self._seed = seed
        self._pause = clients / rate
        self._clients = clients
        self._is_over = False
        self._last_url = ""

    async def run(self) -> None:
        """Send until `stop`, then see what is under way to its end."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._clients):
                chance = Random(f"{self._seed}/{number}")  # noqa: S311 - chances, not secrets
                tasks.create_task(self._work(chance, number))

    def stop(self) -> None:
        """Begin no more requests."""
        self._is_over = True

    async def _work(self, chance: Random, number: int) -> None:
        client, keeps = Client(), number % 3 != 0  # a third have a connection for each request
        weights = [person.weight for person in self._people]
        due = time.monotonic() + chance.random() * self._pause
        while not self._is_over:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            # those who are late do not come all at once
            due = max(due, time.monotonic() - 1) + chance.expovariate(1 / self._pause)
            (person,) = chance.choices(self._people, weights)
            call = calls.draw(chance)
            if chance.random() < self.shares.broken_answers:
                call = calls.break_answer(call, chance)
            await self._one(client, person, call, self._manners(chance, call))
            if not keeps or chance.random() < 0.02:  # noqa: PLR2004
                await client.close(with_reset=chance.random() < self.shares.hang_ups)
        await client.close()

    def _manners(self, chance: Random, call: Call) -> Manners:
        if chance.random() < self.shares.hang_ups:
            leaves = chance.choice(_LEAVINGS)
            return Manners(leaves, chance.randrange(1, 400), with_reset=chance.random() < 0.5)  # noqa: PLR2004
        if chance.random() < self.shares.slow:
            slow = chance.random() < 0.5  # noqa: PLR2004
            return Manners(sends_slowly=slow, reads_slowly=not slow)
        return GOOD

    async def _one(self, client: Client, person: Person, call: Call, manners: Manners) -> None:
        seen = Seen(person.email, person.mode, call.expected, time.monotonic())
        address, request = self._address(), write_request(call, person)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await client.ask(
                    address, request, manners=manners, last_word=call.last_word
                )
        except TimeoutError:
            seen.hung = True
        else:
            if not answer.was_sent:
                await asyncio.sleep(_NOBODY_SECONDS)
                return
            note(seen, answer, call)
        seen.ended = time.monotonic()
        self.seen.append(seen)

    def _address(self) -> tuple[str, int]:
        with contextlib.suppress(FileNotFoundError):  # all of it is down: nobody answers there
            self._last_url = self._url()
        url = urlsplit(self._last_url)
        return url.hostname or "", url.port or 0


def note(seen: Seen, answer: Answer, call: Call) -> None:
    """Note what an answer says."""
    seen.id = answer.headers.get("x-metrion-request-id")
    seen.status, seen.whole = answer.status, answer.whole
    seen.code = answer.headers.get("x-metrion-error")
    seen.cache = answer.headers.get("x-metrion-cache")
    if answer.whole and seen.cache and answer.status == 200:  # noqa: PLR2004
        found = _NUMBER.search(answer.body)
        seen.number = int(found[1], 16) if found else None
        seen.digest = hashlib.sha256(answer.body).digest()


def write_request(call: Call, person: Person) -> bytes:
    """The bytes of a request."""
    token = person.token if call.with_token else _NOBODYS_TOKEN
    headers = {"Host": "metrion", "X-Metrion-User": person.email.partition("@")[0]}
    if person.own_keys is None or not call.with_token:
        headers["Authorization"] = f"Bearer {token}"
    else:
        headers["Authorization"] = f"Bearer {person.own_keys[call.expected.provider]}"
        headers["X-Metrion-Token"] = token
    headers.update({f"x-fake-{name}": value for name, value in call.knobs.items()})
    headers.update(call.headers)
    if call.body is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(call.body))}
    lines = [f"{call.method} {call.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (call.body or b"")
