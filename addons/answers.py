"""Metrion's own answers, in the shape that the route's provider would use; CORS headers.

SDKs raise their typed exceptions by status and shape, so a refusal has to look like the
provider's. What no shape has room for is in headers: `x-metrion-error` carries the code of SPEC
section 5 on every own error, `x-metrion-request-id` the id of the log row on every answer.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from addons.exchange import Exchange, Header, Headers
from addons.outcome import Refused
from addons.providers.base import ErrorShape

# `error.type` as OpenAI and Anthropic name it, and Google's `status`
# (https://docs.anthropic.com/en/api/errors, https://cloud.google.com/apis/design/errors).
_KINDS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "INVALID_ARGUMENT"),
    401: ("authentication_error", "UNAUTHENTICATED"),
    403: ("permission_error", "PERMISSION_DENIED"),
    404: ("not_found_error", "NOT_FOUND"),
    405: ("invalid_request_error", "INVALID_ARGUMENT"),
    408: ("timeout_error", "DEADLINE_EXCEEDED"),
    413: ("request_too_large", "INVALID_ARGUMENT"),
    429: ("rate_limit_error", "RESOURCE_EXHAUSTED"),
    431: ("invalid_request_error", "INVALID_ARGUMENT"),
    500: ("api_error", "INTERNAL"),
    502: ("api_error", "UNAVAILABLE"),
    503: ("overloaded_error", "UNAVAILABLE"),
    504: ("timeout_error", "DEADLINE_EXCEEDED"),
}
_OTHER_KIND = ("api_error", "INTERNAL")

# Response headers that a page of a listed origin may read (SPEC section 7).
EXPOSED_HEADERS = (
    "x-metrion-request-id, x-metrion-error, x-metrion-cache, retry-after, "
    "request-id, x-request-id, "
    "x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, "
    "x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens"
)
_PREFLIGHT_MAX_AGE = b"600"  # seconds; Chromium caps at 7,200


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of our own.

    Attributes:
        sizes: of the pieces in which the body is sent; none: it is one piece.
    """

    status: int
    headers: Headers
    body: bytes
    sizes: tuple[int, ...] = ()

    @property
    def pieces(self) -> Iterator[bytes]:
        """The body, cut as it is sent."""
        begin = 0
        for size in self.sizes or (len(self.body),):
            yield self.body[begin : begin + size]
            begin += size


def reason_of(status: int) -> bytes:
    """The usual words for a status (RFC 9110 section 15); not all clients support none."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def error_body(shape: ErrorShape, refused: Refused, request_id: str) -> dict[str, Any]:
    """The JSON of an own error in one provider's shape."""
    kind, google_status = _KINDS.get(refused.status, _OTHER_KIND)
    if shape == "anthropic":
        error = {"type": kind, "message": refused.message}
        return {"type": "error", "error": error, "request_id": request_id}
    if shape == "gemini":
        return {
            "error": {
                "code": refused.status,
                "message": refused.message,
                "status": google_status,
            }
        }
    return {
        "error": {
            "message": refused.message,
            "type": kind,
            "code": refused.code,
            "param": None,
        }
    }


def error_answer(exchange: Exchange, refused: Refused) -> Answer:
    """The answer to a request that Metrion does not forward, or whose provider failed."""
    shape: ErrorShape = exchange.provider.error_shape if exchange.provider else "openai"
    request_id = exchange.id
    body = json.dumps(error_body(shape, refused, request_id)).encode()
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-metrion-request-id", request_id.encode()),
        (b"x-metrion-error", refused.code.encode()),
        (b"cache-control", b"no-store"),
    ]
    if refused.retry_after is not None:
        headers.append((b"retry-after", b"%d" % refused.retry_after))
    headers += [(name.encode(), value.encode()) for name, value in refused.headers.items()]
    headers += cors_headers(exchange)
    return Answer(refused.status, headers, body)


def cors_headers(exchange: Exchange) -> Headers:
    """What an answer to a page of a listed origin carries; nothing for everybody else."""
    if exchange.cors_origin is None:
        return []
    return [
        (b"access-control-allow-origin", exchange.cors_origin),
        (b"access-control-expose-headers", EXPOSED_HEADERS.encode()),
        (b"vary", b"origin"),
    ]


def preflight_answer(exchange: Exchange, methods: str) -> Answer:
    """The answer to a CORS preflight of a listed origin: exactly what was asked for.

    Args:
        exchange: with `cors_origin` set.
        methods: the methods of the path, comma-separated.
    """
    headers: Headers = [
        (b"access-control-allow-methods", methods.encode()),
        (b"access-control-max-age", _PREFLIGHT_MAX_AGE),
        (b"x-metrion-request-id", exchange.id.encode()),
    ]
    asked = exchange.header(b"access-control-request-headers")
    if asked:
        headers.append((b"access-control-allow-headers", asked))
    origin: list[Header] = [
        header for header in cors_headers(exchange) if header[0] == b"access-control-allow-origin"
    ]
    vary = b"origin, access-control-request-method, access-control-request-headers"
    return Answer(204, [*headers, *origin, (b"vary", vary)], b"")
