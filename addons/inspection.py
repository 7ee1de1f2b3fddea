"""What mitmweb, the console, `-w` and other addons get to see of an exchange.

A flow is a picture: made from the exchange when somebody looks (by hand, never in production), and
nothing that is done to it changes what is sent. It never holds a credential: the client's is taken
off before a flow is made, the provider's exists only in the head that is written, and what looks
like a key or token anywhere else in heads and bodies is shown as asterisks. Bodies are shown up to
`SHOWN_MAX_BYTES`, whatever their length.

What Metrion knows of the exchange (`addons.facts`) is the flow's comment (a column of mitmweb, a
search with `~comment`), its metadata (the console's Detail tab, `-w`, `~meta`), its marker where
something went wrong, and a log line (mitmdump's only place for it).
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import functools
import logging
import time
from collections.abc import Callable

from mitmproxy import flow, http
from mitmproxy.proxy import layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._hooks import (
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)

from addons.answers import Answer
from addons.credentials import label, mask
from addons.exchange import Exchange, Headers
from addons.facts import Facts, facts_of, marker, own_answer, sentence
from addons.messages import to_response
from addons.usage.inflate import InflateError, Inflater

Commands = layer.CommandGenerator[None]
Hook = Callable[[http.HTTPFlow], object]

logger = logging.getLogger(__name__)

# Longer bodies are shown up to here; client and provider get all of them.
SHOWN_MAX_BYTES = 1024 * 1024
PATH_MAX_CHARS = 8192
KEY_NOTE = b"(put in by Metrion on the wire)"
MARK = "metrion"


def _picture[**P](draw: Callable[P, Commands]) -> Callable[P, Commands]:
    """What goes wrong with a picture stays with the picture: the request goes on."""

    @functools.wraps(draw)
    def drawn(*arguments: P.args, **options: P.kwargs) -> Commands:
        try:
            yield from draw(*arguments, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is; its text may hold anything
            logger.error("A flow cannot be shown: %s", type(error).__name__)  # noqa: TRY400

    return drawn


class FlowView:
    """The flow of one exchange.

    Args:
        exchange: with its credentials taken off.
        context: of the client connection.
    """

    def __init__(self, exchange: Exchange, context: Context) -> None:
        self._exchange = exchange
        self._context = context
        self._answer = _Body()
        self._own: Facts = {}
        self._is_shown = False
        self.flow = http.HTTPFlow(context.client, context.server, live=True)
        self.flow.timestamp_created = self._moment(exchange.marks.head)
        self.flow.request = http.Request.make(exchange.method, "http://metrion.invalid/")
        # somebody may have put a token into the path by mistake
        path = label(exchange.path, PATH_MAX_CHARS) or "/"
        self.flow.request.data.path = path.encode("latin-1", "replace")
        self.flow.request.headers = _headers(exchange.headers)
        self.flow.request.timestamp_start = self.flow.timestamp_created
        # Marks the flow as ours: `MetrionAddon.requestheaders` kills all others.
        self.flow.metadata[MARK] = exchange.id

    @_picture
    def forwarded(self) -> Commands:
        """The request is about to go upstream: show it as the provider will get it."""
        exchange, request = self._exchange, self.flow.request
        origin, route = exchange.origin, exchange.route
        if origin is not None and route is not None:
            place = route.key_place
            request.scheme, request.host, request.port = origin.scheme, origin.host, origin.port
            request.data.path = mask(exchange.upstream_path.encode())
            request.headers = _headers(exchange.upstream_headers)
            request.headers[place.header] = KEY_NOTE.decode()
        body = _Body()
        body.add(exchange.body)
        request.raw_content = body.shown("")
        request.timestamp_end = self._moment(exchange.marks.body)
        yield from self._show()
        yield HttpRequestHook(self.flow)

    def _show(self) -> Commands:
        """The hook with which a flow appears in every view: the first one, once."""
        self._describe()
        if not self._is_shown:
            self._is_shown = True
            yield HttpRequestHeadersHook(self.flow)

    @_picture
    def response_head(self, status: int, headers: Headers) -> Commands:
        """The answer has begun."""
        yield from self._show()
        response = http.Response.make(status)
        response.headers = _headers(headers)  # `make` would add a length
        response.timestamp_start = self._moment(self._exchange.marks.answer_head)
        response.timestamp_end = None
        self.flow.response = response
        self.flow.server_conn = self._context.server
        yield HttpResponseHeadersHook(self.flow)

    def response_data(self, data: bytes) -> None:
        """Bytes of the answer passed."""
        self._answer.add(data)

    @_picture
    def answered(self, answer: Answer) -> Commands:
        """Metrion answered by itself."""
        yield from self._show()
        response = to_response(answer)
        response.headers = _headers(answer.headers)
        response.timestamp_start = time.time()
        self.flow.response = response
        self._answer.add(answer.body)
        if self._exchange.row is None:
            self._own = own_answer(answer.status, response.headers.get("x-metrion-error"))
        yield from self.ended()

    @_picture
    def ended(self) -> Commands:
        """The answer is whole."""
        self._end()
        yield HttpResponseHook(self.flow)
        self.flow.live = False

    @_picture
    def failed(self, reason: str) -> Commands:
        """The exchange ended early."""
        self._end()
        self.flow.error = flow.Error(reason)
        yield from self._show()
        yield HttpErrorHook(self.flow)
        self.flow.live = False

    def _end(self) -> None:
        self.flow.error = None  # "killed", of somebody who cannot stop what is on the wire
        if response := self.flow.response:
            encoding = response.headers.pop("content-encoding", "")
            response.raw_content = self._answer.shown(encoding)
            response.timestamp_end = self._moment(self._exchange.marks.end)
        self._describe()
        logger.info("%s %s", self._exchange.id, self.flow.comment)

    def _describe(self) -> None:
        facts = facts_of(self._exchange) | self._own
        self.flow.comment = sentence(facts)
        self.flow.marked = marker(facts)
        for name, fact in facts.items():
            self.flow.metadata[f"{MARK}.{name}"] = fact

    def _moment(self, mark: float | None) -> float:
        """A mark of the exchange as Unix time; now, if it never came."""
        if mark is None:
            return time.time()
        return self._exchange.created_at.timestamp() + mark - self._exchange.marks.head


def facts_in(flow: http.HTTPFlow) -> Facts:
    """What was said about a flow, read from it."""
    prefix = f"{MARK}."
    return {
        name.removeprefix(prefix): fact
        for name, fact in flow.metadata.items()
        if name.startswith(prefix)
    }


class _Body:
    """The beginning of a body."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._kept = 0
        self._bytes = 0

    def add(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._kept < SHOWN_MAX_BYTES:
            self._chunks.append(data[: SHOWN_MAX_BYTES - self._kept])
            self._kept += len(self._chunks[-1])

    def shown(self, encoding: str) -> bytes:
        """What is shown of it: readable, masked, and with a note if it is not all."""
        data, is_whole = b"".join(self._chunks), self._bytes == self._kept
        if encoding not in ("", "identity"):
            data, is_all = _inflated(data, encoding)
            is_whole = is_whole and is_all
        note = b"\n(Metrion shows the beginning of %d bytes)" % self._bytes
        return mask(data) + (b"" if is_whole else note)


def _inflated(data: bytes, encoding: str) -> tuple[bytes, bool]:
    """The beginning of what is compressed, and whether it is all. Bounded: a bomb stays small."""
    pieces: list[bytes] = []
    room = SHOWN_MAX_BYTES
    try:
        for piece in Inflater(encoding).feed(data):
            pieces.append(piece[:room])
            room -= len(pieces[-1])
            if len(piece) > len(pieces[-1]):
                return b"".join(pieces), False
    except InflateError:
        return b"(compressed with %s, cannot be shown)" % mask(encoding.encode()), False
    return b"".join(pieces), True


def _headers(headers: Headers) -> http.Headers:
    return http.Headers([(name, mask(value)) for name, value in headers])
