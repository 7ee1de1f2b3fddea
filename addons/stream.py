"""One request and its answer, as a state machine without any input or output of its own.

Events come in (a head, bytes, an end, a deadline), commands go out (write this there, connect).
What should happen is asked of the `Gateway`, in the order of SPEC section 5:
`requestheaders` → `request` → (connect, write) → `responseheaders` → `responsedata` → `response`,
or `error`. It replaces mitmproxy's own HttpStream, which cannot answer early, has no deadlines,
goes on when a hook raises, and holds what it sends upstream where every addon can read it.

Fails closed: a request goes upstream only from `_forward`, which is reached only when both steps
returned without an answer. Whatever is raised, there or here, becomes an answer.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import time
from collections.abc import Coroutine, Generator
from typing import Any

from mitmproxy import http
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import DropStream, GetHttpConnection, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from addons.answers import Answer
from addons.exchange import Exchange, Headers, Phase
from addons.inspection import FlowView
from addons.messages import framing, is_short, request_head, response_head, to_response
from addons.outcome import (
    Outcome,
    Refused,
    provider_timeout,
    provider_unreachable,
    request_timeout,
    shutting_down,
)
from addons.policy import Policy
from addons.waiting import NEVER, Commands, DeadlineExpired, Timekeeper, WaitingLayer

# A refused request's body is read up to here, so that its client gets to the answer.
DISCARD_MAX_BYTES = 1024 * 1024


class GatewayStream(WaitingLayer):
    """One request of one client connection."""

    exchange: Exchange
    request: http.Request

    def __init__(
        self, context: Context, stream_id: int, policy: Policy, timekeeper: Timekeeper
    ) -> None:
        super().__init__(context, timekeeper)
        self.stream_id = stream_id
        self.policy = policy
        self.phase = Phase.HEAD
        self.upstream: Connection | None = None
        self.client_gone = False
        self._request_done = False
        self._keeps_alive = True
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._passed_bytes = 0
        self._declared_bytes: int | None = None
        self._last = b""
        self._view: FlowView | None = None

    def _handle_event(self, event: events.Event) -> Commands:
        try:
            yield from self._dispatch(event)
        except Exception as error:  # noqa: BLE001 - fails closed, whatever it is
            yield from self._defect(error)

    def _defect(self, error: Exception) -> Commands:
        """Something of ours raised: nothing more goes upstream, and the client is told."""
        if self.phase is Phase.DONE:
            return
        answer = self.policy.defect(self.exchange, error)
        yield from self._close_upstream()
        if self.phase in (Phase.ANSWER, Phase.DISCARD):
            yield from self._break_off("Metrion failed")
            yield from self._drop()
        elif self.client_gone:
            yield from self._drop()
        else:
            yield from self._send_answer(answer)

    def _dispatch(self, event: events.Event) -> Commands:
        match event:
            case ResponseData():
                yield from self._answer_data(event.data)
            case ResponseHeaders():
                yield from self._answer_head(event)
            case ResponseEndOfMessage():
                yield from self._answer_end()
            case RequestHeaders():
                yield from self._head(event)
            case RequestData():
                yield from self._body_data(event.data)
            case RequestEndOfMessage():
                yield from self._body_end()
            case RequestProtocolError():
                yield from self._client_left()
            case ResponseProtocolError():
                yield from self._provider_failed(event.message)
            case DeadlineExpired():
                yield from self._expired()
            case _:
                pass  # Start; trailers, which no endpoint has a use for

    # ---- the request ------------------------------------------------------------------------

    def _head(self, event: RequestHeaders) -> Commands:
        self.request = event.request
        self.exchange = self.policy.begin(event.request, self.context.client)
        self._keeps_alive = event.end_stream or is_short(event.request, DISCARD_MAX_BYTES)
        self.set_deadline(self.policy.idle_timeout)
        if (yield from self._ask(self.policy.requestheaders(self.exchange))):
            return
        self.phase = Phase.BODY
        if (
            not event.end_stream
            and self.request.headers.get("expect", "").lower() == "100-continue"
        ):
            interim = http.Response.make(100)
            interim.headers.clear()
            yield SendHttp(ResponseHeaders(self.stream_id, interim), self.context.client)

    def _body_data(self, data: bytes) -> Commands:
        if self.phase is Phase.DISCARD:
            self._body_bytes += len(data)
            if self._body_bytes > DISCARD_MAX_BYTES:
                yield from self._break_off("the body of a refused request is too long")
                yield from self._drop()
            return
        if self.phase is not Phase.BODY:
            return
        self.set_deadline(self.policy.idle_timeout)
        self._body_bytes += len(data)
        if refused := self.policy.body_refusal(self.exchange, self._body_bytes):
            self._forget_body()
            yield from self._send_answer(self.policy.refuse(self.exchange, refused))
            return
        self._body.append(data)

    def _body_end(self) -> Commands:
        self._request_done = True
        if self.phase is Phase.DISCARD:
            yield from self._drop()
        if self.phase is not Phase.BODY:
            return
        self.exchange.body = b"".join(self._body)
        self._body.clear()
        if (yield from self._ask(self.policy.request(self.exchange))):
            return
        yield from self._forward()

    def _ask(
        self, step: Coroutine[Any, Any, Answer | None]
    ) -> Generator[commands.Command, Any, bool]:
        """Run a step of the gateway; True if the request is done with."""
        task = yield from self.run_step(step, self.policy.header_timeout)
        answer = self.policy.outcome_of(self.exchange, task)
        if self._view is None and self.policy.is_observed:
            self._view = FlowView(self.exchange, self.context)
        if self.client_left_meanwhile():
            yield from self._client_left()
            return True
        if answer is None:
            return False
        yield from self._send_answer(answer)
        return True

    # ---- forwarding -------------------------------------------------------------------------

    def _forward(self) -> Commands:
        exchange = self.exchange
        origin = exchange.origin
        if origin is None:
            raise RuntimeError("no step decided where the request goes")
        if self._view:
            yield from self._view.forwarded()
        self.phase = Phase.CONNECT
        exchange.marks.forwarded = time.monotonic()
        self.set_deadline(self.policy.header_timeout)
        connection, error = yield GetHttpConnection(
            (origin.host, origin.port),
            origin.scheme == "https",
            None,
        )
        if error:
            yield from self._send_answer(self.policy.refuse(exchange, provider_unreachable()))
            return
        self.upstream = self.context.server = connection
        self.phase = Phase.WAIT
        body = exchange.body
        self._forget_body()
        head = request_head(exchange, self.policy.wire_headers(exchange), len(body))
        yield SendHttp(RequestHeaders(self.stream_id, head, not body), connection)
        if body:
            yield SendHttp(RequestData(self.stream_id, body), connection)
        yield SendHttp(RequestEndOfMessage(self.stream_id), connection)

    # ---- the answer -------------------------------------------------------------------------

    def _answer_head(self, event: ResponseHeaders) -> Commands:
        if self.phase is not Phase.WAIT:
            return
        self.phase = Phase.ANSWER
        self.set_deadline(self.policy.idle_timeout)
        response = event.response
        exchange = self.exchange
        exchange.marks.answer_head = time.monotonic()
        headers = self.policy.responseheaders(
            exchange, response.status_code, list(response.headers.fields)
        )
        declared = response.headers.get("content-length", "")
        self._declared_bytes = int(declared) if declared.isdecimal() else None
        head = response_head(
            response.status_code,
            response.data.reason,
            headers,
            framing=framing(self.request, headers, has_body=not event.end_stream)
            + self._farewell(),
        )
        exchange.marks.answered = time.monotonic()
        if event.end_stream:
            self.policy.response(exchange)  # the head is the whole answer: its row comes first
        if not self.client_gone:
            yield SendHttp(
                ResponseHeaders(self.stream_id, head, event.end_stream),
                self.context.client,
            )
        if self._view:
            yield from self._view.response_head(response.status_code, headers)

    def _answer_data(self, data: bytes) -> Commands:
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
                yield from self._stop_draining()
        elif self._passed_bytes == self._declared_bytes:
            # The row comes first; the end, which writes it, is read together with the last byte.
            self._last = passed
        elif passed:
            yield SendHttp(ResponseData(self.stream_id, passed), self.context.client)

    def _answer_end(self) -> Commands:
        if self.phase is not Phase.ANSWER:
            return
        rest = self.policy.response(self.exchange)
        if self.client_gone:
            if self._view:
                yield from self._view.failed(Outcome.CLIENT_CLOSED.value)
            yield from self._drop()
            return
        if self._view:
            self._view.response_data(rest)
            yield from self._view.ended()
        if last := self._last + rest:
            yield SendHttp(ResponseData(self.stream_id, last), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        yield from self._drop()

    def _farewell(self) -> Headers:
        """What tells the client to send its next request to another process."""
        says_so = self.policy.is_draining and not self.exchange.http2
        return [(b"connection", b"close")] if says_so else []

    def _send_answer(self, answer: Answer) -> Commands:
        """Answer the request ourselves, whatever its phase; its row has been written."""
        self.deadline = NEVER
        if self._view:
            yield from self._view.answered(answer)
        response = to_response(answer)
        body = b"" if self.exchange.method == "HEAD" else answer.body
        ending = framing(self.request, answer.headers, has_body=bool(body))
        response.headers.fields += tuple(ending + self._farewell())
        if not self._request_done:
            if not self._keeps_alive and not self.exchange.http2:
                response.headers["connection"] = "close"
            self._body_bytes = 0
            self.phase = Phase.DISCARD
            self.set_deadline(self.policy.idle_timeout)
        yield SendHttp(ResponseHeaders(self.stream_id, response, not body), self.context.client)
        for piece in answer.pieces if body else ():
            yield SendHttp(ResponseData(self.stream_id, piece), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        if self._request_done:
            yield from self._drop()

    # ---- when something ends early ----------------------------------------------------------

    def _client_left(self) -> Commands:
        """The client hung up or reset its stream."""
        if self.phase in (Phase.WAIT, Phase.ANSWER) and not self.client_gone:
            # The provider goes on and charges for it: read on, to learn what it was.
            self.client_gone = self.exchange.client_gone = True
            self.set_deadline(self.policy.drain_seconds)
            return
        if self.phase is not Phase.DONE:
            if self.phase is not Phase.DISCARD:
                yield from self._end_early(Outcome.CLIENT_CLOSED)
            yield from self._drop()

    def _end_early(self, outcome: Outcome) -> Commands:
        self.policy.error(self.exchange, outcome)
        if self._view:
            yield from self._view.failed(outcome.value)

    def _stop_draining(self) -> Commands:
        yield from self._end_early(Outcome.CLIENT_CLOSED)
        yield from self._close_upstream()
        yield from self._drop()

    def _provider_failed(self, reason: str) -> Commands:
        """The provider's connection broke, or what came is not HTTP."""
        if self.phase not in (Phase.WAIT, Phase.ANSWER):
            return
        if self.client_gone:
            yield from self._end_early(Outcome.CLIENT_CLOSED)
            yield from self._drop()
        elif self.phase is Phase.WAIT:
            refused = Refused(
                502,
                "provider_error",
                f"The provider gave no usable answer ({reason}).",
                outcome=Outcome.UPSTREAM_CLOSED,
            )
            yield from self._send_answer(self.policy.refuse(self.exchange, refused))
        else:
            yield from self._end_early(Outcome.UPSTREAM_CLOSED)
            yield from self._break_off("the provider closed the connection")
            yield from self._drop()

    def _expired(self) -> Commands:
        """The deadline of the present phase has passed."""
        self.deadline = NEVER
        if self.client_gone:
            yield from self._stop_draining()
            return
        stops = self.policy.is_stopping
        match self.phase:
            case Phase.HEAD | Phase.BODY:
                refused = shutting_down() if stops else request_timeout()
                self._forget_body()
                yield from self._send_answer(self.policy.refuse(self.exchange, refused))
            case Phase.CONNECT | Phase.WAIT:
                yield from self._close_upstream()
                late = provider_timeout(self.policy.header_timeout)
                refused = shutting_down(Outcome.TIMEOUT) if stops else late
                yield from self._send_answer(self.policy.refuse(self.exchange, refused))
            case Phase.ANSWER:
                self.exchange.error = shutting_down().message if stops else None
                yield from self._end_early(Outcome.TIMEOUT)
                yield from self._close_upstream()
                yield from self._break_off("no more of the answer will come")
                yield from self._drop()
            case Phase.DISCARD:
                yield from self._break_off("the request did not end")
                yield from self._drop()
            case Phase.DONE:
                pass

    def _break_off(self, reason: str) -> Commands:
        """End the answer so that the client sees that it is not whole."""
        yield SendHttp(
            ResponseProtocolError(self.stream_id, reason, ErrorCode.KILL), self.context.client
        )

    def _close_upstream(self) -> Commands:
        if self.upstream is not None and self.phase in (Phase.WAIT, Phase.ANSWER):
            yield SendHttp(
                RequestProtocolError(self.stream_id, "no longer wanted", ErrorCode.CANCEL),
                self.upstream,
            )

    def _drop(self) -> Commands:
        self.phase = Phase.DONE
        self.deadline = NEVER
        self._forget_body()
        yield DropStream(self.stream_id)

    def _forget_body(self) -> None:
        self._body.clear()
        self.exchange.body = b""
        self.policy.body_forgotten(self.exchange)
