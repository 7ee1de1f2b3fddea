"""HTTP/1 on both sockets, stricter than mitmproxy's own reading.

What is refused here never reaches `addons.stream`: heads that two parsers could read in two ways
(request smuggling, RFC 9112 section 11.2), endless heads, requests that name a host of their own,
and upgrades. Nothing that a peer sent is logged or echoed: it may hold a credential.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import re
import time
from collections.abc import Callable
from typing import cast

from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.net.http import http1
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import (
    Http1Client,
    Http1Connection,
    Http1Server,
    make_body_reader,
)

from addons.answers import Answer
from addons.messages import parse_request, parse_response, to_response

HEAD_MAX_BYTES = 64 * 1024
HEAD_MAX_LINES = 200
# A client may send its next request before the answer to this one (pipelining): it is kept, but
# only this much of it, since nothing is read from it before the answer is done.
PIPELINE_MAX_BYTES = 64 * 1024

# A bare LF or CR, a folded line, a control character: each is read differently somewhere.
_AMBIGUOUS = re.compile(rb"(?<!\r)\n|\r(?!\n)|\r\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Origin-form only: a request that names a host (absolute-form, CONNECT) is not for a gateway.
_REQUEST_LINE = re.compile(rb"[A-Za-z]{1,20} /[!-~]{0,8191} HTTP/1\.[01]\Z")
_STATUS_SWITCHING_PROTOCOLS = 101
_STATUS_OK = 200
_STATUS_TOO_LARGE = 431
_STATUS_BAD_REQUEST = 400

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
        received = bytes(self.buf)
        # RFC 9112 section 2.2: an empty line before the request line is ignored.
        start = len(received) - len(received.lstrip(b"\r\n"))
        end = received.find(b"\r\n\r\n", start)
        head = received[start : end if end >= 0 else None]
        # The last byte of an unfinished head may be the CR of a CRLF.
        if _AMBIGUOUS.search(head if end >= 0 else head.rstrip(b"\r")):
            yield from self._refuse(_STATUS_BAD_REQUEST, "The request's head is malformed.")
            return
        if len(head) > HEAD_MAX_BYTES or head.count(b"\r\n") > HEAD_MAX_LINES:
            yield from self._refuse(_STATUS_TOO_LARGE, "The request's head is too large.")
            return
        if end < 0:
            return
        self.buf.maybe_extract_at_most(end + 4)
        try:
            request, body_size = _parse_request(head.split(b"\r\n"))
        except ValueError:
            yield from self._refuse(_STATUS_BAD_REQUEST, "The request's head is malformed.")
            return
        self.request = request
        yield ReceiveHttp(RequestHeaders(self.stream_id, request, body_size == 0))
        self.body_reader = make_body_reader(body_size)
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
        """Read the body; trailers are dropped (no endpoint has a use for them)."""
        yield from _without_trailers(self, super().read_body(event), is_request=True)

    def wait(self, event: events.Event) -> Commands:
        """Wait for the answer to leave before the next request is read."""
        if isinstance(event, events.DataReceived) and len(self.buf) > PIPELINE_MAX_BYTES:
            yield commands.CloseConnection(self.conn)
            message = "too much was pipelined"
            yield ReceiveHttp(
                RequestProtocolError(self.stream_id, message, ErrorCode.CLIENT_DISCONNECTED)
            )
            self.state = self.done
            return
        yield from super().wait(event)


def _parse_request(lines: list[bytes]) -> tuple[http.Request, int | None]:
    """The parsed head and the body's size (None: chunked).

    Raises:
        ValueError: the head is not acceptable.
    """
    if not _REQUEST_LINE.match(lines[0]):
        raise ValueError("request line")
    request = parse_request(lines)
    validate_headers(request)
    hosts = request.headers.get_all("host")
    if len(hosts) > 1 or (not hosts and request.data.http_version == b"HTTP/1.1"):
        raise ValueError("host")  # RFC 9112 section 3.2
    if "upgrade" in request.headers:
        raise ValueError("upgrade")
    size = http1.expected_http_body_size(request)
    return request, size


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
        while (lines := self._extract_head()) is not None:
            try:
                response = parse_response(lines)
                validate_headers(response)
                size = http1.expected_http_body_size(self.request, response)
            except ValueError:
                break
            if response.status_code == _STATUS_SWITCHING_PROTOCOLS:
                break
            if response.status_code < _STATUS_OK:
                continue
            self.response = response
            yield ReceiveHttp(ResponseHeaders(self.stream_id, response, size == 0))
            self.body_reader = make_body_reader(size)
            self.state = self.read_body
            yield from self.state(events.DataReceived(self.conn, b""))
            return
        else:
            if len(self.buf) <= HEAD_MAX_BYTES:
                return
        yield from self._fail("not an HTTP answer")

    def _extract_head(self) -> list[bytes] | None:
        lines = self.buf.maybe_extract_lines()
        return None if lines is None else [bytes(line) for line in lines] or [b""]

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
        """Read the body; trailers are dropped. What one read brought goes on as one piece.

        Each piece takes a way through all layers and a write of its own, and a burst of a stream's
        events comes as many small chunks.
        """
        pieces: list[bytes] = []
        for command in _without_trailers(self, super().read_body(event), is_request=False):
            if isinstance(command, ReceiveHttp) and isinstance(command.event, ResponseData):
                pieces.append(command.event.data)
                continue
            if pieces:
                yield self._received(pieces)
                pieces = []
            yield command
        if pieces:
            yield self._received(pieces)

    def _received(self, pieces: list[bytes]) -> ReceiveHttp:
        return ReceiveHttp(ResponseData(cast("int", self.stream_id), b"".join(pieces)))


def _without_trailers(
    connection: Http1Connection, reading: Commands, *, is_request: bool
) -> Commands:
    """Finish a chunked body that has trailers as if it had none: mitmproxy gives up on them."""
    try:
        yield from reading
    except NotImplementedError:
        stream_id = cast("int", connection.stream_id)
        yield ReceiveHttp(connection.ReceiveEndOfMessage(stream_id))
        yield from connection.mark_done(request=is_request, response=not is_request)
