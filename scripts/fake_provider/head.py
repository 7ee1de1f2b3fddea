"""The head of an answer: status line, framing, and the headers that each provider adds."""

import time
from email.utils import formatdate
from http import HTTPStatus

from scripts.fake_provider.knobs import Framing
from scripts.fake_provider.routes import Family, Reply

_COOKIE = b"; path=/; HttpOnly; Secure; SameSite=None\r\n"
_CLOUDFLARE = (
    b"server: cloudflare\r\n"
    b"cf-cache-status: DYNAMIC\r\n"
    b"cf-ray: 0123456789abcdef-ZRH\r\n"
    b"set-cookie: __cf_bm=fake-cookie-of-the-edge" + _COOKIE + b"set-cookie: _cfuvid=fake" + _COOKIE
)
_OPENAI = (
    b"access-control-expose-headers: X-Request-ID\r\n"
    b"openai-organization: fake-org\r\n"
    b"openai-processing-ms: 12\r\n"
    b"openai-version: 2020-10-01\r\n"
    b"x-ratelimit-limit-requests: 10000\r\n"
    b"x-ratelimit-limit-tokens: 200000\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\n"
    b"x-ratelimit-remaining-tokens: 199984\r\n"
    b"x-ratelimit-reset-requests: 8.64s\r\n"
    b"x-ratelimit-reset-tokens: 4ms\r\n"
)
_ANTHROPIC = (
    b"anthropic-organization-id: 00000000-0000-4000-8000-000000000000\r\n"
    b"anthropic-ratelimit-requests-limit: 4000\r\n"
    b"anthropic-ratelimit-requests-remaining: 3999\r\n"
    b"anthropic-ratelimit-requests-reset: 2030-01-01T00:00:00Z\r\n"
    b"anthropic-ratelimit-input-tokens-limit: 400000\r\n"
    b"anthropic-ratelimit-input-tokens-remaining: 400000\r\n"
    b"anthropic-ratelimit-input-tokens-reset: 2030-01-01T00:00:00Z\r\n"
    b"anthropic-ratelimit-output-tokens-limit: 80000\r\n"
    b"anthropic-ratelimit-output-tokens-remaining: 80000\r\n"
    b"anthropic-ratelimit-output-tokens-reset: 2030-01-01T00:00:00Z\r\n"
)
_GOOGLE = (
    b"server: scaffolding on HTTPServer2\r\n"
    b"vary: Origin, X-Origin, Referer\r\n"
    b"x-content-type-options: nosniff\r\n"
    b"set-cookie: NID=fake-cookie-of-google" + _COOKIE
)
_OWN_HEADERS: dict[Family, tuple[bytes, bytes | None]] = {
    "openai": (_OPENAI + _CLOUDFLARE, b"x-request-id"),
    "anthropic": (_ANTHROPIC + _CLOUDFLARE, b"request-id"),
    "gemini": (_GOOGLE, None),  # Google sends no request id
    "gemini-compatible": (_GOOGLE, None),
}
_STATUS_LINES = {
    each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus
}
_CODINGS: dict[str, bytes] = {
    name: b"content-encoding: " + name.encode() + b"\r\n"
    for name in ("gzip", "deflate", "br", "zstd")
}

_date = (0, b"")


def _date_line() -> bytes:
    """Return the date header, rendered once a second."""
    global _date  # noqa: PLW0603 - a cache of one value, harmless if two threads renew it
    now = int(time.time())
    if _date[0] != now:
        _date = (now, b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n")
    return _date[1]


def render_head(reply: Reply, framing: Framing, length: int) -> bytes:
    """Render everything up to the empty line; `length` is the body's, in bytes on the wire.

    An answer without a content type has no body (204, 304).
    """
    answer, knobs = reply.answer, reply.knobs
    own, id_name = _OWN_HEADERS[reply.family]
    status = _STATUS_LINES.get(answer.status) or b"HTTP/1.1 %d Unusual\r\n" % answer.status
    if knobs.echo_in == "reason":
        status = b"HTTP/1.1 %d Not %b\r\n" % (answer.status, answer.echo)
    parts = [status, _date_line()]
    if knobs.echo_in == "header":
        parts.append(b"x-you-sent: %b\r\n" % answer.echo)
    elif knobs.echo_in == "header-name":
        parts.append(b"x-%b: 1\r\n" % answer.echo)
    if answer.content_type:
        parts += [b"content-type: ", answer.content_type, b"\r\n"]
        if knobs.encoding:
            parts.append(_CODINGS[knobs.encoding])
        if framing == "chunked":
            parts.append(b"transfer-encoding: chunked\r\n")
        elif framing == "length":
            parts.append(b"content-length: %d\r\n" % length)
    if framing == "close" or knobs.connection == "close":
        parts.append(b"connection: close\r\n")
    if id_name:
        parts.append(b"%b: req_%024x\r\n" % (id_name, reply.number))
    parts += [answer.headers, own, b"\r\n"]
    return b"".join(parts)
