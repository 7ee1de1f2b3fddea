"""What mitmweb, the console, `-w` and other addons get to see of an exchange.

A flow is a picture: made from the exchange when somebody looks (by hand, never in production), and
nothing that is done to it changes what is sent. It never holds a credential: the client's is taken
off before a flow is made, the provider's exists only in the head that is written.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

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
from addons.credentials import label
from addons.exchange import Exchange, Headers
from addons.messages import to_response

Commands = layer.CommandGenerator[None]
Hook = Callable[[http.HTTPFlow], object]

# Longer answers are shown up to here; the client gets all of them.
SHOWN_MAX_BYTES = 1024 * 1024
PATH_MAX_CHARS = 8192
KEY_NOTE = b"(put in by Metrion on the wire)"


class FlowView:
    """The flow of one exchange.

    Args:
        exchange: with its credentials taken off.
        context: of the client connection.
    """

    def __init__(self, exchange: Exchange, context: Context) -> None:
        self._exchange = exchange
        self._chunks: list[bytes] = []
        self._bytes = 0
        self._is_shown = False
        self.flow = http.HTTPFlow(context.client, context.server, live=True)
        self.flow.request = http.Request.make(
            exchange.method,
            # somebody may have put a token into the path by mistake
            f"http://metrion.invalid{label(exchange.path, PATH_MAX_CHARS)}",
            headers=http.Headers(exchange.headers),
        )
        # Marks the flow as ours: `MetrionAddon.requestheaders` kills all others.
        self.flow.metadata["metrion"] = {"id": str(exchange.id)}

    def forwarded(self) -> Commands:
        """The request is about to go upstream: show it as the provider will get it."""
        exchange, request = self._exchange, self.flow.request
        origin, route = exchange.origin, exchange.route
        if origin is not None and route is not None:
            place = route.key_place
            request.scheme, request.host, request.port = origin.scheme, origin.host, origin.port
            request.path = exchange.upstream_path
            request.headers = http.Headers(
                [*exchange.upstream_headers, (place.header.encode(), KEY_NOTE)]
            )
        request.content = exchange.body
        self._describe()
        yield from self._show()
        yield HttpRequestHook(self.flow)

    def _show(self) -> Commands:
        """The hook with which a flow appears in every view: the first one, once."""
        if not self._is_shown:
            self._is_shown = True
            yield HttpRequestHeadersHook(self.flow)

    def response_head(self, status: int, headers: Headers) -> Commands:
        """The answer has begun."""
        self.flow.response = http.Response.make(status, b"", http.Headers(headers))
        yield HttpResponseHeadersHook(self.flow)

    def response_data(self, data: bytes) -> None:
        """Bytes of the answer passed."""
        if self._bytes < SHOWN_MAX_BYTES:
            self._chunks.append(data[: SHOWN_MAX_BYTES - self._bytes])
            self._bytes += len(self._chunks[-1])

    def answered(self, answer: Answer) -> Commands:
        """Metrion answered by itself."""
        self._describe()
        yield from self._show()
        self.flow.response = to_response(answer)
        yield HttpResponseHook(self.flow)
        self.flow.live = False

    def ended(self) -> Commands:
        """The answer is whole."""
        if self.flow.response is not None:
            self.flow.response.raw_content = b"".join(self._chunks)
        self._describe()
        yield HttpResponseHook(self.flow)
        self.flow.live = False

    def failed(self, reason: str) -> Commands:
        """The exchange ended early."""
        if self.flow.response is not None:
            self.flow.response.raw_content = b"".join(self._chunks)
        self.flow.error = flow.Error(reason)
        self._describe()
        yield from self._show()
        yield HttpErrorHook(self.flow)
        self.flow.live = False

    def _describe(self) -> None:
        exchange = self._exchange
        usage = exchange.meter.usage if exchange.meter else None
        facts: dict[str, object] = {
            "id": str(exchange.id),
            "account": str(exchange.caller.account_id) if exchange.caller else None,
            "mode": exchange.mode.value,
            "requester": exchange.requester,
            "model": (exchange.meter.model if exchange.meter else None) or exchange.model,
            "outcome": exchange.outcome.value if exchange.recorded else None,
            "input_tokens": usage.input_tokens if usage else None,
            "output_tokens": usage.output_tokens if usage else None,
        }
        self.flow.metadata["metrion"] = facts
        self.flow.comment = " · ".join(
            f"{name} {value}" for name, value in facts.items() if value is not None
        )
