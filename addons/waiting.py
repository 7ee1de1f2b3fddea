"""Waiting, for a stream: for a step of the gateway, for a connection, and not for ever.

mitmproxy's layers are generators: one that waits (for a hook, for a connection) is paused, and
events queue up behind it. What is added here: steps that need not wait are not scheduled at all, a
deadline or the client's farewell also ends a wait for a connection, and after any other wait a
client that left meanwhile is seen in the queue.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import asyncio
import math
import time
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import GetHttpConnection
from mitmproxy.proxy.layers.http._base import HttpEvent
from mitmproxy.proxy.layers.http._events import RequestProtocolError

from addons.answers import Answer

Commands = layer.CommandGenerator[None]
Step = asyncio.Task[Answer | None]

NEVER = math.inf
# How soon to look again when a deadline passes while something is awaited that must not be cut.
GRACE_SECONDS = 0.05


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
    """A layer with one deadline.

    Attributes:
        deadline: in seconds of `time.monotonic`.
    """

    def __init__(self, context: Context, timekeeper: Timekeeper) -> None:
        super().__init__(context)
        self.deadline = NEVER
        self._timekeeper = timekeeper

    def set_deadline(self, seconds: float) -> None:
        """The present phase may take this long from now."""
        self.deadline = time.monotonic() + seconds
        self._timekeeper.want_tick(self.deadline)

    def run_step(
        self, step: Coroutine[Any, Any, Answer | None], seconds: float
    ) -> Generator[commands.Command, Any, Step]:
        """Run a step to its end; most finish without waiting, and then no task is scheduled.

        Args:
            step: a coroutine of the gateway.
            seconds: the deadline while it is awaited.
        """
        # Owned: awaited by the hook below if it is not done already.
        task = asyncio.Task(step, loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            self.set_deadline(seconds)
            yield MetrionStepHook(task)
        return task

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
            self.set_deadline(GRACE_SECONDS)
        else:
            yield from super().handle_event(event)
