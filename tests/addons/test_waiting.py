"""Waiting for steps and connections in mitmproxy's way, without a proxy around it."""

from types import SimpleNamespace

import pytest
from mitmproxy.proxy import events
from mitmproxy.proxy.layers.http import GetHttpConnection
from mitmproxy.proxy.layers.http._events import ErrorCode, RequestData, RequestProtocolError

from addons.relay import GRACE_SECONDS
from addons.waiting import DeadlineExpired, MetrionStepHook, WaitingLayer


class Timekeeper:
    def __init__(self):
        self.abandoned = []

    def want_tick(self, at):
        pass

    def abandon(self, command):
        self.abandoned.append(command)
        yield from ()


class Layer(WaitingLayer):
    """Runs what it is given at the first event, and notes all events."""

    def __init__(self, act):
        super().__init__(SimpleNamespace(layers=[], options=SimpleNamespace()))
        self._timekeeper = Timekeeper()
        self.deadlines = []
        self.relay = SimpleNamespace(set_deadline=self.deadlines.append)
        self.act = act
        self.seen = []

    def _handle_event(self, event):
        self.seen.append(event)
        if len(self.seen) == 1:
            yield from self.act(self)


def test_a_deadline_does_not_cut_a_step():
    def act(layer):
        yield MetrionStepHook(None)

    layer = Layer(act)
    (hook,) = layer.handle_event(events.Start())
    assert not list(layer.handle_event(DeadlineExpired(1)))
    assert layer.deadlines == [GRACE_SECONDS]
    list(layer.handle_event(events.HookCompleted(hook)))
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
    assert layer._timekeeper.abandoned == [command]
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
