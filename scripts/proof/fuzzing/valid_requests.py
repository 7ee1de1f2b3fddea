"""Requests that are as they should be: of every route, in either mode, whole and in parts."""

import json
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

from addons.providers.base import Endpoint, Provider
from scripts.proof.fuzzing.callers import OWN_KEY, PROVIDERS, Callers

END = b"\r\n"
_MODEL = "gpt-4o-mini"
_FIELDS: dict[str, Any] = {
    "model": _MODEL,
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Hi \u017c\u00f3\u0142\u0107 \U0001f389"}],
    "input": "Hi",
    "contents": [{"parts": [{"text": "Hi"}]}],
    "content": {"parts": [{"text": "Hi"}]},
    "requests": [{"model": f"models/{_MODEL}", "content": {"parts": [{"text": "Hi"}]}}],
}
_KEY_HEADERS = (b"x-api-key", b"x-goog-api-key", b"api-key", b"Authorization")
_EXTRA = (
    *(b"User-Agent: fuzz", b"Accept: */*", b"Accept-Encoding: gzip, br", b"Idempotency-Key: 1"),
    *(
        b"anthropic-version: 2023-06-01",
        b"Connection: keep-alive",
        b"Cookie: a=b; c=d",
        b"TE: gzip",
    ),
    *(
        b"X-Forwarded-For: 10.0.0.1",
        b"Forwarded: for=10.0.0.1",
        b"Via: 1.1 a",
        b"X-Metrion-User: anna",
    ),
    *(b"Connection: close, x-kept", b"Connection: content-length", b"Keep-Alive: timeout=5"),
    *(b"Expect: 100-continue", b"X-Kept: \xc5\xbc\xff", b"X-Empty:", b"Cache-Control: max-age=5"),
    *(b"Proxy-Authorization: Basic eDp5", b"x-fake-echo: 1", b"x-fake-status: 429", b"Trailer: x"),
    *(b"x-metrion-request-id: 1", b"Accept: text/event-stream", b"x-fake-chunk: 3"),
)


class Route(NamedTuple):
    """An entry of the route table, as a client calls it."""

    provider: Provider
    endpoint: Endpoint
    path: bytes


ROUTES = tuple(
    Route(provider, endpoint, (prefix + path).replace("{model}", _MODEL).encode())
    for provider in PROVIDERS.values()
    for endpoint in provider.endpoints
    for prefix in provider.prefixes
    for path in endpoint.client_paths
)


class Parts(NamedTuple):
    """A request before it is put together."""

    method: bytes
    target: bytes
    version: bytes
    lines: list[bytes]
    body: bytes

    def joined(self) -> bytes:
        """The request, with its length if it has a body."""
        lines = list(self.lines)
        if self.body or self.method == b"POST":
            lines.append(b"Content-Length: %d" % len(self.body))
        return self.framed(lines, self.body)

    def framed(self, lines: Sequence[bytes], body: bytes) -> bytes:
        """The request with other lines, and what comes after its head."""
        first = b" ".join((self.method, self.target, self.version))
        return END.join((first, *lines, b"", b"")) + body


def valid_fields(random: Random, endpoint: Endpoint) -> dict[str, Any]:
    """The members of a body that an endpoint takes."""
    fields = {"model": _MODEL} | {name: _FIELDS[name] for name in endpoint.required}
    if endpoint.name == "countTokens":
        fields["contents"] = _FIELDS["contents"]
    if endpoint.name in ("chat/completions", "messages", "responses") and random.random() < 0.3:  # noqa: PLR2004
        fields["stream"] = True
    return fields


def valid_body(random: Random, endpoint: Endpoint) -> bytes:
    """A body that an endpoint takes."""
    ascii_only = random.random() < 0.5  # noqa: PLR2004 - a coin
    return json.dumps(valid_fields(random, endpoint), ensure_ascii=ascii_only).encode()


def valid_parts(random: Random, callers: Callers) -> Parts:
    """A request that is as it should be, of any route and either mode."""
    route = random.choice(ROUTES)
    token = callers.token(random)
    lines = [b"Host: metrion"]
    if random.random() < 0.7:  # noqa: PLR2004 - stored mode
        credential = token
    else:
        credential = OWN_KEY.encode()
        lines.append(b"X-Metrion-Token: " + token)
    target = route.path
    match random.randrange(8):
        case 0:
            target += b"?key=" + credential
        case 1:
            lines.append(random.choice(_KEY_HEADERS[:3]) + b": " + credential)
        case _:
            lines.append(b"Authorization: Bearer " + credential)
    lines += random.sample(_EXTRA, random.choice((0, 0, 1, 2, 3)))
    random.shuffle(lines)
    body = valid_body(random, route.endpoint) if route.endpoint.method == "POST" else b""
    return Parts(route.endpoint.method.encode(), target, b"HTTP/1.1", lines, body)
