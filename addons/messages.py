"""mitmproxy's heads of requests and answers, made from ours."""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from mitmproxy import http
from mitmproxy.net.http import status_codes

from addons.answers import Answer
from addons.exchange import Exchange, Headers


def request_head(exchange: Exchange, key_headers: Headers, body_bytes: int) -> http.Request:
    """The head as the provider gets it: the only object that ever holds the key.

    Nothing but the provider's connection refers to it.
    """
    headers = [*exchange.upstream_headers, *key_headers]
    if exchange.method != "GET" or body_bytes:
        headers.append((b"content-length", b"%d" % body_bytes))
    return http.Request(
        host="",
        port=0,
        method=exchange.method.encode(),
        scheme=b"",
        authority=b"",
        path=exchange.upstream_path.encode(),
        http_version=b"HTTP/1.1",
        headers=http.Headers(headers),
        content=None,
        trailers=None,
        timestamp_start=0,
        timestamp_end=None,
    )


def is_short(request: http.Request, max_bytes: int) -> bool:
    """The declared body is worth reading to its end even if the request is refused."""
    declared = request.headers.get("content-length", "")
    return declared.isdecimal() and int(declared) <= max_bytes


def response_head(
    status: int, reason: bytes, headers: Headers, *, framing: Headers
) -> http.Response:
    """The head of a provider's answer as the client gets it."""
    return _response(status, reason, [*headers, *framing], None)


def framing(request: http.Request, headers: Headers, *, has_body: bool) -> Headers:
    """How the client is told where the body ends, in the way that its HTTP version knows.

    Args:
        request: the client's.
        headers: of the answer, without what belongs to the provider's connection.
        has_body: whether there is anything to end.
    """
    if not has_body or request.is_http2 or any(name == b"content-length" for name, _ in headers):
        return []
    if request.data.http_version == b"HTTP/1.0":
        return [(b"connection", b"close")]
    return [(b"transfer-encoding", b"chunked")]


def to_response(answer: Answer) -> http.Response:
    """An own answer."""
    reason = status_codes.RESPONSES.get(answer.status, "").encode()
    return _response(answer.status, reason, answer.headers, answer.body)


def _response(status: int, reason: bytes, headers: Headers, content: bytes | None) -> http.Response:
    return http.Response(
        http_version=b"HTTP/1.1",
        status_code=status,
        reason=reason,
        headers=http.Headers(headers),
        content=content,
        trailers=None,
        timestamp_start=0,
        timestamp_end=None,
    )
