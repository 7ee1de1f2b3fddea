"""Which headers pass, both ways (SPEC section 4).

Everything passes except what belongs to one connection (RFC 9110 section 7.6.1), to the way to
Metrion, or to Metrion itself.
"""

import re

from addons.exchange import Exchange, Headers
from addons.framing import CONTROLS
from addons.outcome import Refused

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
_NOT_SENT = _HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"expect",
    b"accept-encoding",
    # how the request came to Metrion: addresses inside the user's network
    b"forwarded",
    b"via",
    b"x-real-ip",
}
_OWN_PREFIXES = (b"x-metrion-", b"x-forwarded-")
# What is not passed back: cookies of the provider, what it says of its own origin (a browser would
# take it for Metrion's, dashboard included), and CORS, which is Metrion's to say (SPEC section 7).
_NOT_RETURNED = _HOP_BY_HOP | {
    b"set-cookie",
    b"set-cookie2",
    b"alt-svc",
    b"clear-site-data",
    b"nel",
    b"report-to",
    b"reporting-endpoints",
    b"strict-transport-security",
}
_NOT_RETURNED_PREFIXES = (b"access-control-", b"x-metrion-")

_BAD_TARGET = re.compile(r"[^!-~]|[\\#]")
# What two parsers may normalise differently. No route needs any of it.
_ODD_PATH = re.compile(r"//|/\.|%")


def check_head(exchange: Exchange) -> None:
    """Refuse what could be read in two ways.

    Raises:
        Refused: 400 `invalid_request`.
    """
    if _BAD_TARGET.search(exchange.path) or _BAD_TARGET.search(exchange.query):
        raise Refused(400, "invalid_request", "The request target has characters no URL has.")
    if _ODD_PATH.search(exchange.path):
        raise Refused(400, "invalid_request", "The path is not in its plain form.")
    values = b"".join([value for _, value in exchange.headers])
    if len(values.translate(None, CONTROLS)) != len(values):
        raise Refused(400, "invalid_request", "A header value has control characters.")


def upstream_headers(exchange: Exchange, host: str) -> Headers:
    """The request headers that the provider gets, without its key.

    Args:
        exchange: after routing; its credentials have been taken off.
        host: the origin's host header.
    """
    named_in_connection = _named_in_connection(exchange.headers)
    headers: Headers = [(b"host", host.encode())]
    names: set[bytes] = set()
    for name, value in exchange.headers:
        lower = name.lower()
        if lower in _NOT_SENT or lower in named_in_connection or lower.startswith(_OWN_PREFIXES):
            continue
        if lower.startswith(b":"):
            continue
        headers.append((lower, value))
        names.add(lower)
    # The answer is read as it passes: an uncompressed one costs least for all.
    headers.append((b"accept-encoding", b"identity"))
    if exchange.route is not None:
        for name, value in exchange.route.provider.default_headers.items():
            if name.encode() not in names:
                headers.append((name.encode(), value.encode()))
    return headers


def blotted(exchange: Exchange, headers: Headers) -> Headers:
    """The provider's response headers without the request's key in them."""
    # Nearly always nowhere, and one search is quicker than one for each.
    together = b"\n".join([part for header in headers for part in header])
    if exchange.blot(together) == together:
        return headers
    return [(exchange.blot(name), exchange.blot(value)) for name, value in headers]


def client_headers(headers: Headers) -> Headers:
    """The provider's response headers that the client gets."""
    named_in_connection = _named_in_connection(headers)
    kept: Headers = []
    for name, value in headers:
        lower = name.lower()
        if (
            lower not in _NOT_RETURNED
            and lower not in named_in_connection
            and not lower.startswith(_NOT_RETURNED_PREFIXES)
        ):
            kept.append((lower, value))
    return kept


def _named_in_connection(headers: Headers) -> set[bytes]:
    """Header names that `Connection` declares to be for one hop only.

    What describes the body is never dropped on a peer's word: that would change what it means.
    """
    named: set[bytes] = set()
    for name, value in headers:
        if name.lower() == b"connection":
            named.update(part.strip().lower() for part in value.split(b","))
    return {name for name in named if not name.startswith(b"content-")}
