"""mitmproxy's heads of requests and answers, made from our own.

They are mitmproxy's classes in all that matters to it, without two things that cost a quarter of a
request: a check of every field's type with `typing`'s means, and look-ups of headers that convert
every name each time (there are twenty look-ups to a request, most of them in vain).
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Iterable
from typing import Any, override

from mitmproxy import http

from addons.answers import Answer, reason_of
from addons.exchange import Exchange, Headers
from addons.framing import RequestHead, ResponseHead


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


def to_request(head: RequestHead) -> http.Request:
    """A request's head that `addons.framing` has read."""
    return _request(head.method, head.target, head.version, head.fields)


def to_provider_response(head: ResponseHead) -> http.Response:
    """The head of a provider's answer that `addons.framing` has read."""
    response = _response(head.status, head.reason, head.fields, None)
    if not head.keeps_alive:
        response.data.http_version = b"HTTP/1.0"  # mitmproxy's sign that the connection ends
    return response


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


def response_head(status: int, reason: bytes, headers: Headers) -> http.Response:
    """The head of an answer as the client gets it."""
    return _response(status, reason or reason_of(status), headers, None)


def to_response(answer: Answer) -> http.Response:
    """An own answer."""
    return _response(answer.status, reason_of(answer.status), answer.headers, answer.body)


def _response(status: int, reason: bytes, headers: Headers, content: bytes | None) -> http.Response:
    made = http.Response.__new__(http.Response)  # as above
    made.data = _ResponseData(
        http_version=b"HTTP/1.1",
        status_code=status,
        reason=reason,
        headers=IndexedHeaders(headers),
        content=content,
        trailers=None,
        timestamp_start=0,
        timestamp_end=None,
    )
    return made
