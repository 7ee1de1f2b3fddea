"""One request and its answer, as a state machine without any input or output of its own.

What arrives is told by calls (a head, bytes, an end, a deadline); what leaves goes to a `Wire`.
What should happen is asked of the `Gateway`, in the order of SPEC section 5:
`requestheaders` → `request` → (connect, write) → `responseheaders` → `responsedata` → `response`,
or `error`. There are two wires: `addons.direct`, our own sockets; and `addons.stream`, mitmproxy's,
where somebody looks at flows or a client speaks TLS or HTTP/2. Both only carry.

Fails closed: a request goes upstream only from `_forward`, which is reached only when both steps
returned without an answer. Whatever is raised, there or here, becomes an answer.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from addons.answers import Answer
from addons.body_budget import SMALL_BODY_BYTES
from addons.exchange import Exchange, Headers, Phase
from addons.framing import RequestHead, ResponseHead
from addons.outcome import (
    Outcome,
    Refused,
    provider_error,
    provider_timeout,
    provider_unreachable,
    request_timeout,
    shutting_down,
)
from addons.policy import NEVER, Policy, Step, View, Wire

# How soon to look again when a deadline passes during a step, which must not be cut.
GRACE_SECONDS = 0.05
# A refused request's body is read up to here, so that its client gets to the answer.
DISCARD_MAX_BYTES = 1024 * 1024


class Relay:
    """One request of one client connection.

    Args:
        policy: the gateway.
        wire: the connections.

    Attributes:
        phase: where the request is on its way.
        deadline: when the phase has taken too long, in seconds of `time.monotonic`.
        has_left: the client has left, and this relay was told.
        client_gone: it has; the answer is read on to learn its usage.
    """

    exchange: Exchange

    def __init__(self, policy: Policy, wire: Wire) -> None:
        self.policy = policy
        self.wire = wire
        self.phase = Phase.HEAD
        self.deadline = NEVER
        self.client_gone = False
        self._head: RequestHead | None = None
        self._request_done = False
        self._step: Step | None = None
        self._then: Callable[[], None] | None = None
        self.has_left = False
        self._body: list[bytes] = []
        self._body_bytes = self._passed_bytes = 0
        self._declared_bytes: int | None = None
        self._last = b""
        self._view: View | None = None

    @property
    def is_waiting(self) -> bool:
        """A step of the gateway is under way: the request's body has to wait."""
        return self._step is not None

    def set_deadline(self, seconds: float) -> None:
        """The present phase may take this long from now."""
        self.deadline = time.monotonic() + seconds
        self.wire.want_tick(self.deadline)

    def tell(self, what: Callable[..., None], *details: Any) -> None:
        """Tell the relay what has happened; whatever is raised ends in an answer.

        Args:
            what: one of the methods below.
            details: its arguments.
        """
        try:
            what(*details)
        except Exception as error:  # noqa: BLE001 - fails closed, whatever it is
            self._defect(error)

    def _defect(self, error: Exception) -> None:
        """Something of ours raised: nothing more goes upstream, and the client is told."""
        if self.phase is Phase.DONE:
            return
        answer = self.policy.defect(self.exchange, error)
        self._close_upstream()
        if self.phase in (Phase.ANSWER, Phase.DISCARD):
            if self._view and self.phase is Phase.ANSWER:
                self._view.failed("Metrion failed")
            self.wire.break_off("Metrion failed")
            self._drop()
        elif self.client_gone:
            self._drop()
        else:
            self._send_answer(answer)

    # ---- the request ------------------------------------------------------------------------

    def head(self, head: RequestHead, client: str) -> None:
        """The head of the request has come from `client` (an address)."""
        self._head = head
        self.exchange = self.policy.begin(head, client)
        self.set_deadline(self.policy.idle_timeout)
        self._ask(self.policy.requestheaders(self.exchange), self._admitted)

    def _admitted(self) -> None:
        self.phase = Phase.BODY
        head = self._head
        if head and head.body_bytes != 0 and head.value(b"expect") == b"100-continue":
            self.wire.send_continue()

    def body(self, data: bytes) -> None:
        """Bytes of the request's body."""
        if self.phase is Phase.DISCARD:
            self._body_bytes += len(data)
            if self._body_bytes > DISCARD_MAX_BYTES:
                self.wire.break_off("the body of a refused request is too long")
                self._drop()
            return
        if self.phase is not Phase.BODY:
            return
        self.set_deadline(self.policy.idle_timeout)
        self._body_bytes += len(data)
        if refused := self.policy.body_refusal(self.exchange, self._body_bytes):
            self._forget_body()
            self._send_answer(self.policy.refuse(self.exchange, refused))
            return
        self._body.append(data)

    def body_end(self) -> None:
        """The request is whole."""
        self._request_done = True
        if self.phase is Phase.DISCARD:
            self._drop()
        if self.phase is not Phase.BODY:
            return
        self.exchange.body = b"".join(self._body)
        self._body.clear()
        self._ask(self.policy.request(self.exchange), self._forward)

    def _ask(self, step: Coroutine[Any, Any, Answer | None], then: Callable[[], None]) -> None:
        """Run a step of the gateway, and go on with `then` unless it has an answer.

        Most steps finish without waiting, and then no task is scheduled.
        """
        # Owned: awaited by the wire if it is not done already.
        task = asyncio.Task(step, loop=asyncio.get_running_loop(), eager_start=True)
        self._step, self._then = task, then
        if task.done():
            self.step_done()
        else:
            self.set_deadline(self.policy.header_timeout)
            self.wire.wait_for(task)

    def step_done(self) -> None:
        """The step that the wire waited for has finished."""
        # Let go of: what leads back to this relay would keep it until garbage is collected.
        task, then, self._step, self._then = self._step, self._then, None, None
        if task is None or then is None:
            return
        answer = self.policy.outcome_of(self.exchange, task)
        if self._view is None:
            self._view = self.wire.look(self.exchange)
        if self.has_left:
            self.client_left()
        elif answer is None:
            then()
        else:
            self._send_answer(answer)

    # ---- forwarding -------------------------------------------------------------------------

    def _forward(self) -> None:
        exchange = self.exchange
        if exchange.origin is None:
            raise RuntimeError("no step decided where the request goes")
        if self._view:
            self._view.forwarded()
        self.phase = Phase.CONNECT
        exchange.marks.forwarded = time.monotonic()
        self.set_deadline(self.policy.header_timeout)
        self.wire.connect(exchange.origin)

    def connect_failed(self) -> None:
        """There is no connection to the provider."""
        if self.phase is not Phase.CONNECT:
            return
        self._send_answer(self.policy.refuse(self.exchange, provider_unreachable()))

    def connected(self) -> None:
        """There is a connection to the provider: write the request."""
        if self.phase is not Phase.CONNECT:
            return
        self.phase = Phase.WAIT
        exchange = self.exchange
        body, exchange.body = exchange.body, b""
        self.wire.send_request(exchange, self.policy.wire_headers(exchange), body)
        if len(body) > SMALL_BODY_BYTES:
            self.policy.body_leaves(exchange, self.wire.has_sent_all)

    # ---- the answer -------------------------------------------------------------------------

    def answer_head(self, head: ResponseHead) -> None:
        """The head of the provider's answer has come."""
        if self.phase is not Phase.WAIT:
            return
        self.phase = Phase.ANSWER
        if not self.client_gone:
            self.set_deadline(self.policy.idle_timeout)
        exchange = self.exchange
        self.policy.body_forgotten(exchange)
        exchange.marks.answer_head = time.monotonic()
        headers = self.policy.responseheaders(exchange, head.status, head.fields)
        self._declared_bytes, ends = head.body_bytes, head.body_bytes == 0
        framed = self._framed(headers, ends=ends)
        exchange.marks.answered = time.monotonic()
        if ends:
            self.policy.response(exchange)  # the head is the whole answer: its row comes first
        if not self.client_gone:
            self.wire.send_head(head.status, exchange.blot(head.reason), framed, ends=ends)
        if self._view:
            self._view.response_head(head.status, headers)

    def _framed(self, headers: Headers, *, ends: bool) -> Headers:
        """With what tells the client where the body ends, and to ask another process next."""
        framed, head = [*headers], self._head
        if head is None or head.http2:
            return framed
        if not ends and all(name != b"content-length" for name, _ in headers):
            old = head.version == b"HTTP/1.0"
            framed.append((b"connection", b"close") if old else (b"transfer-encoding", b"chunked"))
        if self.policy.is_draining:
            framed.append((b"connection", b"close"))
        return framed

    def answer_data(self, data: bytes) -> None:
        """Bytes of the provider's answer."""
        if self.phase is not Phase.ANSWER:
            return
        if not self.client_gone:
            self.set_deadline(self.policy.idle_timeout)
        self._passed_bytes += len(data)
        passed = self.policy.responsedata(self.exchange, data)
        if self._view:
            self._view.response_data(passed)
        if self.client_gone:
            if self._passed_bytes > self.policy.drain_bytes:
                self._stop_draining()
        elif self._passed_bytes == self._declared_bytes:
            # The row comes first; the end, which writes it, is read together with the last byte.
            self._last = passed
        elif passed:
            self.wire.send_data(passed)

    def answer_end(self) -> None:
        """The provider's answer is whole."""
        if self.phase is not Phase.ANSWER:
            return
        rest = self.policy.response(self.exchange)
        if self.client_gone:
            if self._view:
                self._view.failed(Outcome.CLIENT_CLOSED.value)
            self._drop()
            return
        if self._view:
            self._view.response_data(rest)
            self._view.ended()
        if last := self._last + rest:
            self.wire.send_data(last)
        self.wire.send_end()
        self._drop()

    def _send_answer(self, answer: Answer) -> None:
        """Answer the request ourselves, whatever its phase; its row has been written."""
        self.deadline = NEVER
        if self._view:
            self._view.answered(answer)
        body = b"" if self.exchange.method == "HEAD" else answer.body
        headers = self._framed(answer.headers, ends=not body)
        if not self._request_done:
            if not self._head or not self._head.is_short(DISCARD_MAX_BYTES):
                headers.append((b"connection", b"close"))
            self._body_bytes = 0
            self.phase = Phase.DISCARD
            self.set_deadline(self.policy.idle_timeout)
        self.wire.send_head(answer.status, b"", headers, ends=not body)
        for piece in answer.pieces if body else ():
            self.wire.send_data(piece)
        self.wire.send_end()
        if self._request_done:
            self._drop()

    # ---- when something ends early ----------------------------------------------------------

    def client_left(self) -> None:
        """The client hung up or reset its stream."""
        self.has_left = True
        if self._step is not None:
            return
        if self.phase in (Phase.WAIT, Phase.ANSWER) and not self.client_gone:
            # The provider goes on and charges for it: read on, to learn what it was.
            self.client_gone = self.exchange.client_gone = True
            self._passed_bytes = 0  # from here on they count against `drain_bytes`
            self.set_deadline(self.policy.drain_seconds)
        elif self.phase is not Phase.DONE:
            if self.phase is Phase.CONNECT:
                self.wire.abandon_connect()
            if self.phase is not Phase.DISCARD:
                self._end_early(Outcome.CLIENT_CLOSED)
            self._drop()

    def _end_early(self, outcome: Outcome) -> None:
        self.policy.error(self.exchange, outcome)
        if self._view:
            self._view.failed(outcome.value)

    def _stop_draining(self) -> None:
        self._end_early(Outcome.CLIENT_CLOSED)
        self._close_upstream()
        self._drop()

    def provider_failed(self, reason: str) -> None:
        """The provider's connection broke, or what came is not HTTP."""
        if self.phase not in (Phase.WAIT, Phase.ANSWER):
            return
        if self.client_gone:
            self._end_early(Outcome.CLIENT_CLOSED)
            self._drop()
        elif self.phase is Phase.WAIT:
            self._send_answer(self.policy.refuse(self.exchange, provider_error(reason)))
        else:
            self._end_early(Outcome.UPSTREAM_CLOSED)
            self.wire.break_off("the provider closed the connection")
            self._drop()

    def expired(self) -> None:
        """The present phase has taken too long, or the process waits no longer."""
        if self._step is not None:
            # A step has time-outs of its own, and its task must not be left alone: look again.
            self.set_deadline(GRACE_SECONDS)
            return
        self.deadline = NEVER
        if self.client_gone:
            self._stop_draining()
            return
        stops = self.policy.is_stopping
        match self.phase:
            case Phase.HEAD | Phase.BODY:
                refused = shutting_down() if stops else request_timeout()
                self._forget_body()
                self._send_answer(self.policy.refuse(self.exchange, refused))
            case Phase.CONNECT | Phase.WAIT:
                late = provider_timeout(self.policy.header_timeout)
                self._give_up(shutting_down(Outcome.TIMEOUT) if stops else late)
            case Phase.ANSWER:
                self.exchange.error = shutting_down().message if stops else None
                self._end_early(Outcome.TIMEOUT)
                self._close_upstream()
                self.wire.break_off("no more of the answer will come")
                self._drop()
            case Phase.DISCARD:
                self.wire.break_off("the request did not end")
                self._drop()
            case Phase.DONE:
                pass

    def _give_up(self, refused: Refused) -> None:
        """No answer has begun in time."""
        if self.phase is Phase.CONNECT:
            self.wire.abandon_connect()
        self._close_upstream()
        self._send_answer(self.policy.refuse(self.exchange, refused))

    def _close_upstream(self) -> None:
        if self.phase in (Phase.WAIT, Phase.ANSWER):
            self.wire.close_upstream()

    def _drop(self) -> None:
        self.phase = Phase.DONE
        self.deadline = NEVER
        self._forget_body()
        self.wire.dropped()

    def _forget_body(self) -> None:
        self._body.clear()
        self.exchange.body = b""
        self.policy.body_forgotten(self.exchange)
