"""mitmproxy's heads of requests and answers, read from lines or made from our own.

They are mitmproxy's classes in all that matters to it, without two things that cost a quarter of a
request: a check of every field's type with `typing`'s means, and look-ups of headers that convert
every name each time (there are twenty look-ups to a request, most of them in vain).
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import re
from collections.abc import Iterable
from typing import Any, override

from mitmproxy import http
from mitmproxy.net.http import status_codes

from addons.answers import Answer
from addons.exchange import Exchange, Headers

_STATUS_LINE = re.compile(rb"(HTTP/\d\.\d)[ \t]+(\d{3})(?:[ \t]+(.*))?\Z", re.DOTALL)


class IndexedHeaders(http.Headers):
    """Headers with an index by name, made when it is first asked for and after each change."""

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.fields = tuple(fields)
        self._index: dict[bytes, list[bytes]] = {}
        self._indexed: object = None

    @override
    def get_all(self, name: str | bytes) -> list[str]:
        """All values of a name."""
        if self._indexed is not self.fields:
            self._index = {}
            for key, value in self.fields:
                self._index.setdefault(key.lower(), []).append(value)
            self._indexed = self.fields
        wanted = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
        found = self._index.get(wanted.lower())
        return [value.decode("utf-8", "surrogateescape") for value in found] if found else []

    @override
    def get(self, key: str, default: Any = None) -> Any:
        """All values of a name in one, as mitmproxy folds them."""
        found = self.get_all(key)
        return ", ".join(found) if found else default

    @override
    def __contains__(self, key: object) -> bool:
        return isinstance(key, str | bytes) and bool(self.get_all(key))


class _RequestData(http.RequestData):
    @override
    def __post_init__(self) -> None:
        """No check of types: pyright has done it."""


class _ResponseData(http.ResponseData):
    @override
    def __post_init__(self) -> None:
        """No check of types: pyright has done it."""


def parse_request(lines: list[bytes]) -> http.Request:
    """Read a request's head, in origin-form, of which `addons.wire` has checked the first line.

    Raises:
        ValueError: a line is no header.
    """
    method, path, version = lines[0].split(b" ")
    return _request(method, path, version, _fields(lines))


def parse_response(lines: list[bytes]) -> http.Response:
    """Read an answer's head.

    Raises:
        ValueError: it is not the head of an HTTP answer.
    """
    match = _STATUS_LINE.match(lines[0])
    if match is None:
        raise ValueError("status line")
    version, status, reason = match.groups(b"")
    return _response(int(status), reason, _fields(lines), None, version=version)


def _fields(lines: list[bytes]) -> Headers:
    """The header fields after the first line."""
    fields: Headers = []
    for line in lines[1:]:
        if line[:1] in (b" ", b"\t"):
            if not fields:
                raise ValueError("header line")
            # Folded (RFC 9112 section 5.2); who must not see it refuses it by its CR.
            name, value = fields[-1]
            fields[-1] = (name, value + b"\r\n " + line.strip())
            continue
        name, colon, value = line.partition(b":")
        if not name or not colon:
            raise ValueError("header line")
        fields.append((name, value.strip()))
    return fields


def request_head(exchange: Exchange, key_headers: Headers, body_bytes: int) -> http.Request:
    """The head as the provider gets it: the only object that ever holds the key.

    Nothing but the provider's connection refers to it.
    """
    headers = [*exchange.upstream_headers, *key_headers]
    if exchange.method != "GET" or body_bytes:
        headers.append((b"content-length", b"%d" % body_bytes))
    path = exchange.upstream_path.encode()
    return _request(exchange.method.encode(), path, b"HTTP/1.1", headers)


def _request(method: bytes, path: bytes, version: bytes, headers: Headers) -> http.Request:
    made = http.Request.__new__(http.Request)  # its __init__ would make data of the checked kind
    made.data = _RequestData(
        host="",
        port=0,
        method=method,
        scheme=b"",
        authority=b"",
        path=path,
        http_version=version,
        headers=IndexedHeaders(headers),
        content=None,
        trailers=None,
        timestamp_start=0,
        timestamp_end=None,
    )
    return made


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


def _response(
    status: int,
    reason: bytes,
    headers: Headers,
    content: bytes | None,
    *,
    version: bytes = b"HTTP/1.1",
) -> http.Response:
    made = http.Response.__new__(http.Response)  # as above
    made.data = _ResponseData(
        http_version=version,
        status_code=status,
        reason=reason,
        headers=IndexedHeaders(headers),
        content=content,
        trailers=None,
        timestamp_start=0,
        timestamp_end=None,
    )
    return made
