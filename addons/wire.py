"""HTTP/1 on both of mitmproxy's sockets, read by `addons.framing` instead of mitmproxy.

Nothing that a peer sent is logged or echoed: it may hold a credential.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import time
from collections.abc import Callable
from typing import cast

from mitmproxy.connection import ConnectionState
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
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
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server

from addons.answers import Answer
from addons.body_reader import BodyReader, MalformedBodyError
from addons.framing import (
    PIPELINE_MAX_BYTES,
    MalformedAnswerError,
    MalformedHeadError,
    ReceiveBuffer,
    read_request_head,
    read_response_head,
)
from addons.messages import to_provider_response, to_request, to_response

Commands = layer.CommandGenerator[None]
MakeAnswer = Callable[[int, str], Answer]


class GatewayHttp1Server(Http1Server):
    """The client's side of an HTTP/1 connection.

    Args:
        context: of the client connection.
        make_answer: the answer to a head that cannot be read: status and message → answer.
    """

    def __init__(self, context: Context, make_answer: MakeAnswer) -> None:
        super().__init__(context)
        self.buf = ReceiveBuffer()
        self._make_answer = make_answer

    @property
    def is_reading_head(self) -> bool:
        """No request is under way on this connection."""
        return self.state == self.read_headers

    @property
    def is_idle(self) -> bool:
        """No request is under way, and nothing of the next one has come."""
        return self.is_reading_head and not self.buf

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        """Read one request head, or refuse it and close."""
        if isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.conn)
            return
        try:
            head = read_request_head(cast("ReceiveBuffer", self.buf))
        except MalformedHeadError as error:
            yield from self._refuse(error.status, error.message)
            return
        if head is None:
            return
        self.request = to_request(head)
        yield ReceiveHttp(RequestHeaders(self.stream_id, self.request, head.body_bytes == 0))
        self._body = BodyReader(head.body_bytes, of_request=True)
        self.state = self.read_body
        yield from self.state(events.DataReceived(self.conn, b""))

    def _refuse(self, status: int, message: str) -> Commands:
        answer = self._make_answer(status, message)
        response = to_response(answer)
        response.headers["connection"] = "close"
        yield commands.SendData(self.conn, http1.assemble_response_head(response) + answer.body)
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def read_body(self, event: events.Event) -> Commands:
        """Read the body."""
        if isinstance(event, events.ConnectionClosed):
            yield from self._give_up("the body is cut off")
            return
        try:
            data, ended = self._body.read(self.buf)
        except MalformedBodyError as error:
            yield from self._give_up(str(error))
            return
        if data:
            yield ReceiveHttp(RequestData(self.stream_id, data))
        if ended:
            yield ReceiveHttp(RequestEndOfMessage(self.stream_id))
            yield from self.mark_done(request=True)

    def wait(self, event: events.Event) -> Commands:
        """Wait for the answer to leave before the next request is read."""
        if isinstance(event, events.DataReceived) and len(self.buf) > PIPELINE_MAX_BYTES:
            yield from self._give_up("too much was pipelined")
            return
        yield from super().wait(event)

    def _give_up(self, reason: str) -> Commands:
        """Close; for its request, the client has left."""
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(
            RequestProtocolError(self.stream_id, reason, ErrorCode.CLIENT_DISCONNECTED)
        )
        self.state = self.done


class GatewayHttp1Client(Http1Client):
    """The provider's side of an HTTP/1 connection.

    Attributes:
        idle_since: when the last answer had ended, in seconds of `time.monotonic`.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.idle_since = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """It can take a request: none is under way, and nothing unasked-for has come."""
        return self.stream_id is None and not self.buf and self.state == self.read_headers

    def send(self, event: HttpEvent) -> Commands:
        """Write to the provider; a connection that was closed meanwhile takes nothing more."""
        if self.state == self.done:
            return
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        """Read one response head; interim answers (RFC 9110 section 15.2) are passed over."""
        if isinstance(event, events.ConnectionClosed):
            yield from self._closed()
            return
        if self.request is None or self.stream_id is None:
            # Nothing was asked: what comes cannot be an answer to anybody.
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        try:
            head = read_response_head(self.buf, self.request.method)
        except MalformedAnswerError as error:
            yield from self._fail(str(error))
            return
        if head is None:
            return
        self.response = to_provider_response(head)
        yield ReceiveHttp(ResponseHeaders(self.stream_id, self.response, head.body_bytes == 0))
        self._body = BodyReader(head.body_bytes)
        self.state = self.read_body
        yield from self.state(events.DataReceived(self.conn, b""))

    def mark_done(self, *, request: bool = False, response: bool = False) -> Commands:
        """One side of the exchange has ended."""
        self.idle_since = time.monotonic()
        yield from super().mark_done(request=request, response=response)

    def _closed(self) -> Commands:
        if self.conn.state & ConnectionState.CAN_WRITE:
            yield commands.CloseConnection(self.conn)
        self.state = self.done
        if self.stream_id is not None:
            # Bytes without a whole head are as little an answer as none at all.
            reason = "not an HTTP answer" if self.buf else "connection closed"
            yield ReceiveHttp(
                ResponseProtocolError(self.stream_id, reason, ErrorCode.GENERIC_SERVER_ERROR)
            )

    def _fail(self, reason: str) -> Commands:
        yield commands.CloseConnection(self.conn)
        self.state = self.done
        if self.stream_id is not None:
            yield ReceiveHttp(
                ResponseProtocolError(self.stream_id, reason, ErrorCode.GENERIC_SERVER_ERROR)
            )

    def read_body(self, event: events.Event) -> Commands:
        """Read the body. What one read brought goes on as one piece.

        Each piece takes a way through all layers and a write of its own, and a burst of a stream's
        events comes as many small chunks.
        """
        stream_id = cast("int", self.stream_id)
        data, ended = b"", self._body.ends_with_connection
        try:
            if isinstance(event, events.DataReceived):
                data, ended = self._body.read(self.buf)
            elif not ended:
                yield from self._fail("the body is cut off")
                return
        except MalformedBodyError as error:
            yield from self._fail(str(error))
            return
        if data:
            yield ReceiveHttp(ResponseData(stream_id, data))
        if ended:
            yield ReceiveHttp(ResponseEndOfMessage(stream_id))
            yield from self.mark_done(response=True)
