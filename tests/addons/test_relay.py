"""The way of one request without sockets: what is asked of the gateway, what leaves, and when."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from addons.answers import Answer
from addons.body_budget import SMALL_BODY_BYTES
from addons.exchange import Phase
from addons.framing import RequestHead, ResponseHead
from addons.outcome import Outcome, Refused
from addons.providers.base import Origin
from addons.relay import DISCARD_MAX_BYTES, GRACE_SECONDS, Relay

OK = ResponseHead(200, b"OK", [(b"content-length", b"4")], 4, keeps_alive=True)
REFUSAL = Answer(429, [(b"content-length", b"2")], b"no")


class Wire:
    """Notes what leaves."""

    def __init__(self, *, connects: bool | None = True) -> None:
        self.said: list[Any] = []
        self.ticks: list[float] = []
        self.connects = connects
        self.relay: Relay

    def want_tick(self, at):
        self.ticks.append(at)

    def wait_for(self, step):
        step.add_done_callback(lambda _: self.relay.tell(self.relay.step_done))

    def look(self, exchange):
        return None

    def connect(self, origin):
        self.said.append("connect")
        if self.connects is not None:
            self.relay.tell(self.relay.connected if self.connects else self.relay.connect_failed)

    def send_head(self, status, reason, headers, *, ends):
        self.said.append(("head", status, dict(headers), ends))

    def send_data(self, data):
        self.said.append(data)

    def send_request(self, exchange, key_headers, body):
        self.said.append(("request", key_headers, body))

    def break_off(self, reason):
        self.said.append("broken off")

    def __getattr__(self, name):
        return lambda: self.said.append(name)


class Policy:
    """Lets everything pass, unless told otherwise."""

    header_timeout, idle_timeout, drain_seconds, drain_bytes = 5.0, 5.0, 5.0, 100
    is_observed = is_draining = is_stopping = False

    def __init__(self, exchange_of, **steps) -> None:
        self.exchange_of = exchange_of
        self.steps = steps
        self.ends: list[Outcome | str] = []
        self.bodies: list[str | Callable[[], bool]] = []

    def begin(self, head, client):
        exchange = self.exchange_of()
        exchange.method = head.method.decode()
        return exchange

    async def requestheaders(self, exchange):
        return await self.steps["admit"]() if "admit" in self.steps else None

    async def request(self, exchange):
        exchange.origin = Origin("http", "provider", 80)
        return await self.steps["check"]() if "check" in self.steps else None

    def outcome_of(self, exchange, step):
        try:
            return step.result()
        except Refused as refused:
            return self.refuse(exchange, refused)

    def body_refusal(self, exchange, body_bytes):
        return None

    def body_leaves(self, exchange, is_gone):
        self.bodies.append(is_gone)

    def body_forgotten(self, exchange):
        self.bodies.append("forgotten")

    def refuse(self, exchange, refused):
        self.ends.append(refused.outcome)
        return REFUSAL

    def defect(self, exchange, error):
        self.ends.append(type(error).__name__)
        return Answer(500, [], b"oops")

    def wire_headers(self, exchange):
        return [(b"authorization", b"key")]

    def responseheaders(self, exchange, status, headers):
        if "answer" in self.steps:
            raise self.steps["answer"]
        return headers

    def responsedata(self, exchange, data):
        return data

    def response(self, exchange):
        self.ends.append(Outcome.OK)
        return b""

    def error(self, exchange, outcome):
        self.ends.append(outcome)


@pytest.fixture
def relay_of(exchange):
    """A relay, its wire and its policy."""

    def make(connects: bool | None = True, **steps) -> tuple[Relay, Wire, Policy]:
        wire, policy = Wire(connects=connects), Policy(lambda: exchange, **steps)
        wire.relay = Relay(policy, wire)
        return wire.relay, wire, policy

    return make


@pytest.fixture
def exchange():
    from datetime import UTC, datetime  # noqa: PLC0415

    from addons.exchange import Exchange, Marks  # noqa: PLC0415
    from storage.identifiers import uuid7  # noqa: PLC0415

    now = datetime.now(UTC)
    return Exchange(str(uuid7()), now, "POST", "/p", "", [], "::1", http2=False, marks=Marks(0.0))


def ask(relay: Relay, body: bytes = b"{}", version: bytes = b"HTTP/1.1", **changes: Any) -> None:
    size = changes.get("size", len(body))
    method = changes.get("method", b"POST")
    relay.tell(relay.head, RequestHead(method, b"/p", version, [], size), "::1")
    if body:
        relay.tell(relay.body, body)
    relay.tell(relay.body_end)


async def test_a_request_and_its_answer(relay_of):
    relay, wire, policy = relay_of()
    ask(relay)
    assert wire.said == ["connect", ("request", [(b"authorization", b"key")], b"{}")]
    assert relay.phase is Phase.WAIT
    relay.tell(relay.answer_head, OK)
    relay.tell(relay.answer_data, b"ab")
    relay.tell(relay.answer_data, b"cd")
    # the last byte leaves after the row was written
    assert wire.said[2:] == [("head", 200, dict(OK.fields), False), b"ab"]
    assert not policy.ends
    relay.tell(relay.answer_end)
    assert policy.ends == [Outcome.OK]
    assert wire.said[4:] == [b"cd", "send_end", "dropped"]
    assert relay.phase is Phase.DONE


@pytest.mark.parametrize("size", [2, SMALL_BODY_BYTES, SMALL_BODY_BYTES + 1])
async def test_a_body_is_forgotten_when_the_answer_begins_or_the_exchange_ends(relay_of, size):
    """It may wait at the provider's connection; whether a large one does can be asked."""
    relay, _, policy = relay_of()
    ask(relay, b"x" * size)
    assert relay.exchange.body == b""
    assert len(policy.bodies) == (size > SMALL_BODY_BYTES)
    assert "forgotten" not in policy.bodies
    relay.tell(relay.answer_head, OK)
    assert policy.bodies[-1] == "forgotten"
    policy.bodies.clear()
    relay.tell(relay.expired)
    assert policy.bodies == ["forgotten"]


@pytest.mark.parametrize("waits", [False, True])
async def test_nothing_of_it_waits_for_the_garbage_collector(relay_of, waits):
    async def step():
        await asyncio.sleep(0) if waits else None

    relay, wire, _ = relay_of(admit=step, check=step)
    gc.disable()  # it may not come in between
    try:
        relay.tell(relay.head, RequestHead(b"POST", b"/p", b"HTTP/1.1", [], 2), "::1")
        await settle(relay)
        relay.tell(relay.body, b"{}")
        relay.tell(relay.body_end)
        await settle(relay)
        for what, *details in ((relay.answer_head, OK), (relay.answer_data, b"abcd")):
            relay.tell(what, *details)
        relay.tell(relay.answer_end)
        assert wire.said[-1] == "dropped"
        kept = weakref.ref(relay)
        del relay, wire.relay, what
        assert kept() is None
    finally:
        gc.enable()


async def settle(relay: Relay) -> None:
    """Until no step is under way."""
    while relay.is_waiting:
        await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (b"HTTP/1.1", {b"transfer-encoding": b"chunked"}),
        (b"HTTP/1.0", {b"connection": b"close"}),
    ],
)
async def test_the_end_of_a_body_is_told_in_the_clients_version(relay_of, version, expected):
    relay, wire, _ = relay_of()
    ask(relay, version=version)
    relay.tell(relay.answer_head, ResponseHead(200, b"", [], None, keeps_alive=True))
    assert wire.said[-1] == ("head", 200, expected, False)


@pytest.mark.parametrize("step", ["admit", "check"])
async def test_a_refusal_of_either_step_reaches_no_provider(relay_of, step):
    async def refuse():
        raise Refused(429, "rate_limited", "slowly")

    relay, wire, policy = relay_of(**{step: refuse})
    ask(relay)
    assert [each[0] for each in wire.said if isinstance(each, tuple)] == ["head"]
    assert wire.said[-1] == "dropped"
    assert policy.ends == [Outcome.REFUSED]


@pytest.mark.parametrize("step", ["admit", "check"])
async def test_a_client_that_leaves_during_a_step_is_noticed_after_it(relay_of, step):
    go_on = asyncio.Event()
    relay, wire, policy = relay_of(**{step: go_on.wait})
    ask(relay) if step == "check" else relay.tell(
        relay.head, RequestHead(b"POST", b"/p", b"HTTP/1.1", [], 2), "::1"
    )
    assert relay.is_waiting
    relay.tell(relay.client_left)
    assert not policy.ends
    go_on.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert policy.ends == [Outcome.CLIENT_CLOSED]
    assert wire.said == ["dropped"]


async def test_a_deadline_does_not_cut_a_step(relay_of):
    go_on = asyncio.Event()
    relay, wire, policy = relay_of(admit=go_on.wait)
    relay.tell(relay.head, RequestHead(b"GET", b"/p", b"HTTP/1.1", [], 0), "::1")
    before = relay.deadline
    relay.tell(relay.expired)
    assert relay.deadline < before - 5 + 2 * GRACE_SECONDS
    assert (wire.said, policy.ends) == ([], [])
    go_on.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert relay.phase is Phase.DISCARD or relay.phase is Phase.BODY


async def test_a_defect_before_the_answer_is_answered_and_closes_the_provider(relay_of):
    relay, wire, policy = relay_of(answer=ZeroDivisionError())
    ask(relay)
    relay.tell(relay.answer_head, OK)
    assert policy.ends == ["ZeroDivisionError"]
    assert wire.said[2:4] == ["close_upstream", "broken off"]


async def test_no_connection_is_a_refusal(relay_of):
    relay, wire, policy = relay_of(connects=False)
    ask(relay)
    assert policy.ends == [Outcome.PROVIDER_ERROR]
    assert wire.said[-1] == "dropped"


@pytest.mark.parametrize("urgent", ["expired", "client_left"])
async def test_what_is_urgent_ends_the_wait_for_a_connection(relay_of, urgent):
    relay, wire, policy = relay_of(connects=None)
    ask(relay)
    relay.tell(getattr(relay, urgent))
    assert wire.said[:2] == ["connect", "abandon_connect"]
    assert wire.said[-1] == "dropped"
    relay.tell(relay.connected)  # too late
    assert wire.said[-1] == "dropped"
    assert len(policy.ends) == 1


@pytest.mark.parametrize("phase", ["wait", "answer"])
async def test_a_process_that_waits_no_longer(relay_of, phase):
    relay, wire, policy = relay_of()
    ask(relay)
    if phase == "answer":
        relay.tell(relay.answer_head, OK)
    policy.is_draining = policy.is_stopping = True
    relay.tell(relay.expired)
    assert policy.ends == [Outcome.TIMEOUT]
    assert "close_upstream" in wire.said
    if phase == "answer":
        assert relay.exchange.error == "Metrion is shutting down."
        assert "broken off" in wire.said
    else:
        assert wire.said[3][2][b"connection"] == b"close"


@pytest.mark.parametrize("phase", ["wait", "answer"])
async def test_a_silent_provider(relay_of, phase):
    relay, wire, policy = relay_of()
    ask(relay)
    if phase == "answer":
        relay.tell(relay.answer_head, OK)
    relay.tell(relay.expired)
    assert policy.ends == [Outcome.TIMEOUT]
    assert "close_upstream" in wire.said
    assert ("broken off" in wire.said) is (phase == "answer")


async def test_a_client_that_leaves_is_outlived_by_the_answer_up_to_a_bound(relay_of):
    relay, wire, policy = relay_of()
    ask(relay)
    relay.tell(relay.client_left)
    assert relay.client_gone
    relay.tell(relay.answer_head, ResponseHead(200, b"", [], None, keeps_alive=True))
    relay.tell(relay.answer_data, b"x" * 60)
    assert relay.phase is Phase.ANSWER
    relay.tell(relay.answer_data, b"x" * 60)
    assert policy.ends == [Outcome.CLIENT_CLOSED]
    assert wire.said[2:] == ["close_upstream", "dropped"]


async def test_who_has_left_is_not_waited_for_longer_because_the_answer_begins(relay_of):
    relay, _, policy = relay_of()
    policy.drain_seconds = 1.0
    ask(relay)
    relay.tell(relay.client_left)
    before = relay.deadline
    relay.tell(relay.answer_head, OK)
    relay.tell(relay.answer_data, b"ab")
    assert relay.deadline == before


async def test_what_came_before_the_client_left_does_not_count_as_read_for_nobody(relay_of):
    relay, _, policy = relay_of()
    ask(relay)
    relay.tell(relay.answer_head, ResponseHead(200, b"", [], None, keeps_alive=True))
    relay.tell(relay.answer_data, b"x" * 150)
    relay.tell(relay.client_left)
    relay.tell(relay.answer_data, b"x" * 100)
    assert relay.phase is Phase.ANSWER
    relay.tell(relay.answer_data, b"x")
    assert policy.ends == [Outcome.CLIENT_CLOSED]


async def test_the_body_of_a_refused_request_is_read_up_to_a_bound(relay_of):
    async def refuse():
        return REFUSAL

    relay, wire, _ = relay_of(admit=refuse)
    relay.tell(relay.head, RequestHead(b"POST", b"/p", b"HTTP/1.1", [], None), "::1")
    assert wire.said[0][2] == {b"content-length": b"2", b"connection": b"close"}
    relay.tell(relay.body, b"x" * DISCARD_MAX_BYTES)
    assert wire.said[-1] == "send_end"
    relay.tell(relay.body, b"x")
    assert wire.said[-2:] == ["broken off", "dropped"]


async def test_an_answer_to_head_has_no_body(relay_of):
    async def refuse():
        return REFUSAL

    relay, wire, _ = relay_of(admit=refuse)
    ask(relay, body=b"", method=b"HEAD")
    assert wire.said == [("head", 429, dict(REFUSAL.headers), True), "send_end", "dropped"]


async def test_what_comes_too_late_changes_nothing(relay_of):
    relay, wire, policy = relay_of()
    ask(relay)
    relay.tell(relay.answer_head, OK)
    relay.tell(relay.answer_data, b"abcd")
    relay.tell(relay.answer_end)
    before = list(wire.said), list(policy.ends)
    for late in (relay.answer_end, relay.expired, relay.client_left, relay.connected):
        relay.tell(late)
    relay.tell(relay.answer_data, b"x")
    relay.tell(relay.provider_failed, "late")
    relay.tell(relay.answer_head, OK)
    relay.tell(relay.body, b"x")
    assert (wire.said, policy.ends) == before
