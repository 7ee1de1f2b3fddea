"""What protects users whatever a route does: headers, origins, bounded guessing."""

import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import (
    CrossOriginError,
    RequestTooLargeError,
    TooManyAttemptsError,
    problem_response,
)

# Nothing inline, nothing from elsewhere, no framing; scripts cannot write HTML from strings.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_DOCUMENT_HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
# What no browser takes for a document of ours: its type is not guessed, and it is shown nowhere.
# A page loads 25 of them, each of which the headers of documents would make twice as long.
_NO_DOCUMENTS: Final = ("text/css", "text/javascript")
# A year, and only where the request came in by TLS: on a laptop it would lock http://localhost.
_STRICT_TRANSPORT: Final = "max-age=31536000; includeSubDomains"

FAILED_TOKENS_PER_MINUTE: Final = 30
SIGN_INS_PER_WINDOW: Final = 30  # mails asked for, and codes tried: a whole office is one client
SIGN_IN_SECONDS: Final = 600.0
CHECKOUTS_PER_WINDOW: Final = 30  # of one account in the same time: each asks Stripe a few things
_MINUTE: Final = 60.0
_MOST_NETWORKS: Final = 10_000  # remembered at once; the one that came longest ago is forgotten
_IPV6_NETWORK_BITS: Final = 64  # what one customer of a provider has at least

_SAFE_METHODS: Final = {"GET", "HEAD", "OPTIONS"}
LARGEST_BODY: Final = 256 * 1024
"""Bytes; no route takes anything large."""


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
                if not headers.get("content-type", "").startswith(_NO_DOCUMENTS):
                    headers.update(_DOCUMENT_HEADERS)
                # Files have an ETag: they may be kept, if it is asked each time. Data is not kept.
                headers.setdefault("cache-control", "no-cache" if "etag" in headers else "no-store")
                if scope["scheme"] == "https":
                    headers["strict-transport-security"] = _STRICT_TRANSPORT
            await send(message)

        await self._app(scope, receive, send_with_headers)


class CrossOriginGuard:
    """ASGI middleware: no page of another origin changes anything with a visitor's session.

    The rules are those of Go 1.25's `http.CrossOriginProtection`: what a browser says in
    `Sec-Fetch-Site` decides; a browser too old for that (or a page without TLS) says `Origin`,
    which must be of this host; who says neither is no browser. Bodies are bounded here, too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or scope["method"] in _SAFE_METHODS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _is_cross_origin(headers):
            await problem_response(scope, CrossOriginError())(scope, receive, send)
        elif int(headers.get("content-length", "0")) > LARGEST_BODY:
            await problem_response(scope, RequestTooLargeError())(scope, receive, send)
        else:
            await self._app(scope, _bounded(receive), send)


def _is_cross_origin(headers: Headers) -> bool:
    site = headers.get("sec-fetch-site")
    if site:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    if not origin:
        return False
    return origin.partition("://")[2] != headers.get("host", "")


def _bounded(receive: Receive) -> Receive:
    """Refuse a body without a stated length as soon as it is too long."""
    seen = 0

    async def receive_some() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > LARGEST_BODY:
            raise HTTPException(RequestTooLargeError.status)  # FastAPI lets only this kind through
        return message

    return receive_some


class Attempts:
    """Counts attempts by client address, in this process's memory.

    While a client has used up its share even a good attempt is refused: otherwise the refusal would
    not slow down who is guessing. The memory of `limits` is not used: it starts a thread for a hit,
    and never forgets a key.
    """

    def __init__(
        self, most: int, seconds: float = _MINUTE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Allow `most` attempts of one client in any `seconds`."""
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._attempts: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Let a client try.

        Raises:
            TooManyAttemptsError: it was counted too often.
        """
        attempts = self._attempts.get(_network(address), deque[float]())
        if len(attempts) < self._most:
            return
        wait = attempts[0] + self._seconds - self._clock()
        if wait > 0:
            raise TooManyAttemptsError(headers={"Retry-After": str(math.ceil(wait))})

    def count(self, address: str) -> None:
        """Note an attempt of this client."""
        network = _network(address)
        attempts = self._attempts.setdefault(network, deque(maxlen=self._most))
        attempts.append(self._clock())
        self._attempts.move_to_end(network)
        if len(self._attempts) > _MOST_NETWORKS:
            self._attempts.popitem(last=False)


def _network(address: str) -> str:
    """Return what stands for one client: an IPv4 address, or an IPv6 network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address  # a Unix socket has none
    if parsed.version == 4:  # noqa: PLR2004 - IPv4
        return address
    return str(ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False))
