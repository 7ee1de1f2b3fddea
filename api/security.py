"""What protects users whatever a route does: headers on every answer, bounded guessing."""

import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import TooManyAttemptsError

# Nothing inline, nothing from elsewhere, no framing; scripts cannot write HTML from strings.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
# A year, and only where the request came in by TLS: on a laptop it would lock http://localhost.
_STRICT_TRANSPORT: Final = "max-age=31536000; includeSubDomains"

FAILED_TOKENS_PER_MINUTE: Final = 30
_WINDOW_SECONDS: Final = 60.0
_MOST_NETWORKS: Final = 10_000  # remembered at once; the one that failed longest ago is forgotten
_IPV6_NETWORK_BITS: Final = 64  # what one customer of a provider has at least


class SecurityHeaders:
    """ASGI middleware that sets the headers above, and keeps answers out of caches by default."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer back with the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                # Files have an ETag: they may be kept, if it is asked each time. Data is not kept.
                headers.setdefault("cache-control", "no-cache" if "etag" in headers else "no-store")
                if scope["scheme"] == "https":
                    headers["strict-transport-security"] = _STRICT_TRANSPORT
            await send(message)

        await self._app(scope, receive, send_with_headers)


class FailedTokens:
    """Counts unknown tokens by client address, in this process's memory.

    While an address has used up its share even a good token is refused: otherwise the refusal
    would not slow down who is guessing. The memory of `limits` is not used: it starts a thread for
    a hit, and never forgets a key.
    """

    def __init__(
        self,
        per_minute: int = FAILED_TOKENS_PER_MINUTE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Let an address try a token.

        Raises:
            TooManyAttemptsError: it failed too often in the last minute.
        """
        failures = self._failures.get(_network(address), deque[float]())
        if len(failures) < self._per_minute:
            return
        wait = failures[0] + _WINDOW_SECONDS - self._clock()
        if wait > 0:
            raise TooManyAttemptsError(headers={"Retry-After": str(math.ceil(wait))})

    def count(self, address: str) -> None:
        """Note that a token from this address was unknown."""
        network = _network(address)
        failures = self._failures.setdefault(network, deque(maxlen=self._per_minute))
        failures.append(self._clock())
        self._failures.move_to_end(network)
        if len(self._failures) > _MOST_NETWORKS:
            self._failures.popitem(last=False)


def _network(address: str) -> str:
    """Return what stands for one client: an IPv4 address, or an IPv6 network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address  # a Unix socket has none
    if parsed.version == 4:  # noqa: PLR2004 - IPv4
        return address
    return str(ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False))
