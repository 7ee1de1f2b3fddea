"""Waiting, for a stream: for a step of the gateway, for a connection, and not for ever.

mitmproxy's layers are generators: one that waits (for a hook, for a connection) is paused, and
events queue up behind it. What is added here: a deadline or the client's farewell also ends a wait
for a connection, and after any other wait a client that left meanwhile is seen in the queue.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from dataclasses import dataclass
from typing import Protocol

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import GetHttpConnection
from mitmproxy.proxy.layers.http._base import HttpEvent
from mitmproxy.proxy.layers.http._events import RequestProtocolError

from addons.policy import Step
from addons.relay import GRACE_SECONDS, Relay

Commands = layer.CommandGenerator[None]


@dataclass
class DeadlineExpired(HttpEvent):
    """The stream's deadline has passed."""


@dataclass
class MetrionStepHook(commands.StartHook):
    """Wait until a step of the gateway that could not finish at once has finished."""

    step: Step


class Timekeeper(Protocol):
    """The connection's layer, which holds the one timer (see `addons.layer`)."""

    def want_tick(self, at: float) -> None:
        """Something has a deadline at `at`, in seconds of `time.monotonic`."""
        ...

    def abandon(self, command: GetHttpConnection) -> Commands:
        """Nobody waits for this connection any more."""
        ...


class WaitingLayer(layer.Layer):
    """A layer whose waits can be ended."""

    relay: Relay
    _timekeeper: Timekeeper

    def client_left_meanwhile(self) -> bool:
        """While something was awaited, events queued up: is a farewell among them?"""
        for event in self._paused_event_queue:
            if isinstance(event, RequestProtocolError):
                self._paused_event_queue.clear()
                return True
        return False

    def handle_event(self, event: events.Event) -> Commands:
        """Handle an event; a deadline or a farewell also interrupts waiting for a connection."""
        paused = self._paused
        urgent = isinstance(event, DeadlineExpired | RequestProtocolError)
        if paused is None or not urgent:
            yield from super().handle_event(event)
        elif isinstance(paused.command, GetHttpConnection):
            paused.generator.close()
            self._paused = None
            yield from self._timekeeper.abandon(paused.command)
            yield from super().handle_event(event)
        elif isinstance(event, DeadlineExpired):
            # A step of ours has time-outs of its own, and its task must not be left alone; a flow
            # may be held by a person. Look again in a moment.
            self.relay.set_deadline(GRACE_SECONDS)
        else:
            yield from super().handle_event(event)
