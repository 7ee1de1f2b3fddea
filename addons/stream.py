"""A relay on mitmproxy's connections: one stream of one client connection.

mitmproxy's layers are generators that take events and give commands. This one turns events into
calls of the relay, and what the relay wants into commands, in the same order. It replaces
mitmproxy's own HttpStream, which cannot answer early, has no deadlines, goes on when a hook raises,
and holds what it sends upstream where every addon can read it.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections import deque
from typing import cast

from mitmproxy import http
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import DropStream, GetHttpConnection, SendHttp
from mitmproxy.proxy.layers.http._base import HttpEvent
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
from addons.exchange import Exchange, Headers
from addons.framing import RequestHead, ResponseHead
from addons.inspection import FlowView
from addons.messages import request_head, response_head
from addons.policy import Policy, Step, View
from addons.providers.base import Origin
from addons.relay import Relay
from addons.waiting import Commands, DeadlineExpired, MetrionStepHook, Timekeeper, WaitingLayer


class GatewayStream(WaitingLayer):
    """One request of one client connection; the wire of its relay."""

    def __init__(
        self, context: Context, stream_id: int, policy: Policy, timekeeper: Timekeeper
    ) -> None:
        super().__init__(context)
        self.stream_id = stream_id
        self.relay = Relay(policy, self)
        self._policy = policy
        self._timekeeper = timekeeper
        self._upstream: Connection | None = None
        # What is to be done: commands, and the hooks of those who look.
        self._todo: deque[commands.Command | Commands] = deque()

    @property
    def deadline(self) -> float:
        """In seconds of `time.monotonic`."""
        return self.relay.deadline

    def _handle_event(self, event: events.Event) -> Commands:
        self._tell(event)
        while self._todo:
            command = self._todo.popleft()
            if isinstance(command, GetHttpConnection):
                connection, error = cast("tuple[Connection | None, str | None]", (yield command))
                self._connected(connection, error)
            elif isinstance(command, MetrionStepHook):
                yield command
                if self.client_left_meanwhile():
                    self.relay.tell(self.relay.client_left)
                self.relay.tell(self.relay.step_done)
            elif isinstance(command, commands.Command):
                yield command
            else:
                yield from command

    def _tell(self, event: events.Event) -> None:
        """Tell the relay what has happened."""
        tell, relay = self.relay.tell, self.relay
        match event:
            case ResponseData():
                tell(relay.answer_data, event.data)
            case ResponseHeaders():
                tell(relay.answer_head, _answer_head(event))
            case ResponseEndOfMessage():
                tell(relay.answer_end)
            case RequestHeaders():
                peer = self.context.client.peername
                tell(relay.head, _request_head(event), peer[0] if peer else "")
            case RequestData():
                tell(relay.body, event.data)
            case RequestEndOfMessage():
                tell(relay.body_end)
            case RequestProtocolError():
                tell(relay.client_left)
            case ResponseProtocolError():
                tell(relay.provider_failed, event.message)
            case DeadlineExpired():
                tell(relay.expired)
            case _:
                pass  # Start; trailers, which no endpoint has a use for

    def _connected(self, connection: Connection | None, error: str | None) -> None:
        if error or connection is None:
            self.relay.tell(self.relay.connect_failed)
            return
        # mitmproxy's flows name the connection that they went over
        self._upstream = self.context.server = connection  # pyright: ignore[reportAttributeAccessIssue]
        self.relay.tell(self.relay.connected)

    # ---- the wire of the relay --------------------------------------------------------------

    def want_tick(self, at: float) -> None:
        """See `addons.policy.Wire`, as for all that follow."""
        self._timekeeper.want_tick(at)

    def wait_for(self, step: Step) -> None:
        """Pause this layer until the step has finished."""
        self._todo.append(MetrionStepHook(step))

    def look(self, exchange: Exchange) -> View | None:
        """A flow, if somebody looks."""
        if not self._policy.is_observed:
            return None
        return _QueuedView(FlowView(exchange, self.context), self._todo)

    def send_continue(self) -> None:
        """An interim answer."""
        interim = http.Response.make(100)
        interim.headers.clear()
        self._send(ResponseHeaders(self.stream_id, interim))

    def send_head(self, status: int, reason: bytes, headers: Headers, *, ends: bool) -> None:
        """The head of the answer."""
        self._send(ResponseHeaders(self.stream_id, response_head(status, reason, headers), ends))

    def send_data(self, data: bytes) -> None:
        """Some of the answer's body."""
        self._send(ResponseData(self.stream_id, data))

    def send_end(self) -> None:
        """The end of the answer."""
        self._send(ResponseEndOfMessage(self.stream_id))

    def break_off(self, reason: str) -> None:
        """Close an HTTP/1 connection, reset an HTTP/2 stream."""
        self._send(ResponseProtocolError(self.stream_id, reason, ErrorCode.KILL))

    def connect(self, origin: Origin) -> None:
        """Pause this layer until there is a connection, or none."""
        address = (origin.host, origin.port)
        self._todo.append(GetHttpConnection(address, origin.scheme == "https", None))

    def abandon_connect(self) -> None:
        """`WaitingLayer.handle_event` has done it: it ends the pause."""

    def send_request(self, exchange: Exchange, key_headers: Headers, body: bytes) -> None:
        """The whole request, to the provider."""
        head = request_head(exchange, key_headers, len(body))
        self._send_upstream(RequestHeaders(self.stream_id, head, not body))
        if body:
            self._send_upstream(RequestData(self.stream_id, body))
        self._send_upstream(RequestEndOfMessage(self.stream_id))

    def has_sent_all(self) -> bool:
        """Not known here: mitmproxy writes later, to sockets of its own."""
        return False

    def close_upstream(self) -> None:
        """The provider's connection has no further use."""
        message = "no longer wanted"
        self._send_upstream(RequestProtocolError(self.stream_id, message, ErrorCode.CANCEL))

    def dropped(self) -> None:
        """This stream is over."""
        self._todo.append(DropStream(self.stream_id))

    def _send(self, event: HttpEvent) -> None:
        self._todo.append(SendHttp(event, self.context.client))

    def _send_upstream(self, event: HttpEvent) -> None:
        if self._upstream is not None:
            self._todo.append(SendHttp(event, self._upstream))


class _QueuedView:
    """Runs the hooks of a flow when their turn comes among the commands."""

    def __init__(self, view: FlowView, todo: deque[commands.Command | Commands]) -> None:
        self._view = view
        self._todo = todo

    def forwarded(self) -> None:
        self._todo.append(self._view.forwarded())

    def response_head(self, status: int, headers: Headers) -> None:
        self._todo.append(self._view.response_head(status, headers))

    def response_data(self, data: bytes) -> None:
        self._view.response_data(data)

    def answered(self, answer: Answer) -> None:
        self._todo.append(self._view.answered(answer))

    def ended(self) -> None:
        self._todo.append(self._view.ended())

    def failed(self, reason: str) -> None:
        self._todo.append(self._view.failed(reason))


def _request_head(event: RequestHeaders) -> RequestHead:
    request = event.request
    size = 0 if event.end_stream else _declared(request)
    data = request.data
    fields = list(request.headers.fields)
    return RequestHead(
        data.method, data.path, data.http_version, fields, size, http2=request.is_http2
    )


def _answer_head(event: ResponseHeaders) -> ResponseHead:
    response = event.response
    size = 0 if event.end_stream else _declared(response)
    fields = list(response.headers.fields)
    return ResponseHead(response.status_code, response.data.reason, fields, size, keeps_alive=True)


def _declared(message: http.Message) -> int | None:
    length = message.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None
