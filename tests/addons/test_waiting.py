"""Waiting for steps and connections, without a proxy around it."""

import asyncio
from types import SimpleNamespace

import pytest
from mitmproxy.proxy import events
from mitmproxy.proxy.layers.http import GetHttpConnection
from mitmproxy.proxy.layers.http._events import ErrorCode, RequestData, RequestProtocolError

from addons.waiting import GRACE_SECONDS, DeadlineExpired, MetrionStepHook, WaitingLayer


class Timekeeper:
    def __init__(self):
        self.wanted = []
        self.abandoned = []

    def want_tick(self, at):
        self.wanted.append(at)

    def abandon(self, command):
        self.abandoned.append(command)
        yield from ()


class Layer(WaitingLayer):
    """Runs what it is given at the first event, and notes all events."""

    def __init__(self, act):
        self.timekeeper = Timekeeper()
        super().__init__(SimpleNamespace(layers=[], options=SimpleNamespace()), self.timekeeper)
        self.act = act
        self.seen = []

    def _handle_event(self, event):
        self.seen.append(event)
        if len(self.seen) == 1:
            yield from self.act(self)


async def answer(delay: bool) -> None:
    if delay:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_step_is_scheduled_only_if_it_has_to_wait(waits):
    done = []

    def act(layer):
        task = yield from layer.run_step(answer(delay=waits), 5)
        done.append(task.done())

    layer = Layer(act)
    commands = list(layer.handle_event(events.Start()))
    assert [type(command) for command in commands] == ([MetrionStepHook] if waits else [])
    if waits:
        assert not done
        await commands[0].step
        list(layer.handle_event(events.HookCompleted(commands[0])))
    assert done == [True]


async def test_a_deadline_does_not_cut_a_step():
    def act(layer):
        yield from layer.run_step(answer(delay=True), 5)

    layer = Layer(act)
    (hook,) = layer.handle_event(events.Start())
    before = layer.timekeeper.wanted[-1]
    assert not list(layer.handle_event(DeadlineExpired(1)))
    assert layer.timekeeper.wanted[-1] < before - 5 + 2 * GRACE_SECONDS
    await hook.step
    assert len(layer.seen) == 1


@pytest.mark.parametrize(
    "event", [DeadlineExpired(1), RequestProtocolError(1, "gone", ErrorCode.CLIENT_DISCONNECTED)]
)
def test_what_is_urgent_ends_the_wait_for_a_connection(event):
    ended = []

    def act(layer):
        try:
            yield GetHttpConnection(("h", 1), False, None)
        finally:
            ended.append(True)

    layer = Layer(act)
    (command,) = layer.handle_event(events.Start())
    list(layer.handle_event(RequestData(1, b"queued")))
    assert len(layer.seen) == 1
    list(layer.handle_event(event))
    assert ended == [True]
    assert layer.timekeeper.abandoned == [command]
    assert layer.seen[1] is event


def test_a_farewell_is_seen_in_the_queue():
    def act(layer):
        yield MetrionStepHook(None)
        layer.left = layer.client_left_meanwhile()

    layer = Layer(act)
    (hook,) = layer.handle_event(events.Start())
    list(layer.handle_event(RequestData(1, b"x")))
    list(layer.handle_event(RequestProtocolError(1, "gone", ErrorCode.CLIENT_DISCONNECTED)))
    list(layer.handle_event(events.HookCompleted(hook)))
    assert layer.left
    assert len(layer.seen) == 1  # nothing of the queue is handled after it
