"""Requests with canaries in them: every route, every place of a credential, every way to fail.

What is asked for is made from the route table, so that a new route is asked for by itself.
"""

import itertools
import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote

from addons.providers.base import Endpoint, Provider
from scripts.proof.canaries import Flock

PLACES: Final = ("authorization", "x-api-key", "x-goog-api-key", "api-key", "?key=")
"""Where SDKs put a credential (SPEC section 3)."""
STATUSES: Final = (
    *(200, 201, 204, 301, 307, 400, 401, 402, 403, 404, 408, 409, 413, 418, 422, 429),
    *(500, 501, 502, 503, 504, 529),
)
ENCODINGS: Final = ("gzip", "deflate", "br", "zstd")
FAULTS: Final[dict[str, dict[str, str]]] = {
    **{f"garbage: {kind}": {"garbage": kind} for kind in (
        "text", "binary", "two-lengths", "length-and-chunked", "fold", "endless-head", "bad-chunk"
    )},
    **{f"closed at {place} ({end})": {"close": place, "close-with": end} for place, end in
       itertools.product(("head", "body", "1", "100b"), ("fin", "rst"))},
    **{f"{encoding}, with the key": {"encoding": encoding, "echo": "1"} for encoding in ENCODINGS},
    **{f"{encoding} in pieces": {"encoding": encoding, "echo": "1", "chunk": "9"}
       for encoding in ENCODINGS},
    **{f"the key in the {place}": {"echo-in": place, "informational": "100,103"}
       for place in ("reason", "header", "header-name", "interim")},
    "the key in the trailer": {"echo-in": "trailer", "framing": "chunked"},
    "the key in pieces": {"echo": "1", "chunk": "7"},
    "the key in a redirect": {"redirect": "http://elsewhere.invalid/", "echo-in": "header"},
    "until it closes": {"echo": "1", "framing": "close"},
    "an error event": {"error-at": "1"},
    "large": {"big": "60000", "events": "20", "echo": "1"},
    "no usage": {"usage": "none"},
}  # fmt: skip
STALLS: Final[dict[str, dict[str, str]]] = {
    "silent": {"stall": "head"},
    "silent after its head": {"stall": "body"},
    "silent in the middle": {"stall": "1"},
}
"""These take as long as the deployment's time-out."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to the proxy.

    Attributes:
        what: for whoever reads of it.
        path: with its query.
        leaves: the client hangs up as soon as the answer begins.
    """

    what: str
    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    leaves: bool = False


@dataclass(frozen=True)
class Caller:
    """Whose requests they are.

    Attributes:
        token: the account's Metrion Key.
        own_keys: provider → the key that is sent in pass-through mode; empty: stored mode.
        cookie: a session's, which no proxy needs and some browser may send.
    """

    token: str = field(repr=False)
    own_keys: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    cookie: str = field(default="none", repr=False)

    def key(self, provider: Provider) -> str:
        """What stands where the provider's key would."""
        return self.own_keys.get(provider.name, self.token)


class Questions:
    """Makes requests with a new prompt in each, and a new answer that the provider is to give."""

    def __init__(self, flock: Flock, providers: Iterable[Provider]) -> None:
        self._flock = flock
        self._providers = list(providers)

    def every_route(self, caller: Caller, places: Iterable[str]) -> Generator[Ask]:
        """Ask at every path of every provider, with the credential in each of `places` by turns."""
        turns = itertools.cycle([*places])
        for provider in self._providers:
            for prefix, endpoint in itertools.product(provider.prefixes, provider.endpoints):
                for path in endpoint.client_paths:
                    yield self.ask(caller, provider, endpoint, prefix + path, next(turns))

    def ask(
        self,
        caller: Caller,
        provider: Provider,
        endpoint: Endpoint,
        path: str,
        place: str = "authorization",
        *,
        streamed: bool = False,
    ) -> Ask:
        """Make a request to one path; the provider says again all that it gets."""
        path = path.replace("{model}", "gemini-2.5-flash")
        headers = {"x-fake-echo": "1", "x-canary": self._flock.answer(), "x-metrion-user": "anna"}
        headers["cookie"] = f"metrion_session={caller.cookie}"
        if caller.own_keys:
            headers["x-metrion-token"] = caller.token
        key = caller.key(provider)
        if place == "?key=":
            path += f"?key={quote(key)}"
        else:
            headers[place] = f"Bearer {key}" if place == "authorization" else key
        body = b""
        if endpoint.method == "POST":
            body = json.dumps(self._body(endpoint, streamed=streamed)).encode()
            headers["content-type"] = "application/json"
        return Ask(
            f"{provider.name} {path.partition('?')[0]}", endpoint.method, path, headers, body
        )

    def _body(self, endpoint: Endpoint, *, streamed: bool) -> dict[str, Any]:
        words = self._flock.prompt()
        content = {"parts": [{"text": words}], "role": "user"}
        body: dict[str, Any] = {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": words}],
            "input": words,
            "max_tokens": 20,
            "contents": [content],
            "content": content,
            "requests": [{"model": "models/x", "content": content}],
        }
        needed = {name: body[name] for name in endpoint.required}
        return needed | {"model": body["model"]} | ({"stream": True} if streamed else {})

    def one_of_each(self, caller: Caller, *, streamed: bool = False) -> Generator[Ask]:
        """Ask each provider once, for what it is mostly asked for."""
        for provider in self._providers:
            endpoint, path = main_route(provider, streamed=streamed)
            yield self.ask(caller, provider, endpoint, path, streamed=streamed)

    def failing(self, caller: Caller, faults: dict[str, dict[str, str]]) -> Generator[Ask]:
        """Ask each provider by turns, streamed and not, for an answer that goes wrong."""
        asked: list[Ask] = []
        for what, knobs in faults.items():
            if len(asked) < 2:  # noqa: PLR2004 - one for each form of the answer
                asked += [
                    *self.one_of_each(caller),
                    *self.one_of_each(caller, streamed=True),
                ]
            for ask in (asked.pop(0), asked.pop()):
                yield spoilt(ask, what, knobs)


def main_route(provider: Provider, *, streamed: bool) -> tuple[Endpoint, str]:
    """Return the endpoint that a provider's users mostly use, and a client's path to it."""
    endpoint = next(
        endpoint
        for endpoint in provider.endpoints
        if {"messages", "contents"} & {*endpoint.required}
        and (endpoint.streams == streamed or not endpoint.flavour.startswith("gemini."))
        and not endpoint.flavour.endswith("count_tokens")
    )
    return endpoint, provider.prefixes[0] + endpoint.client_paths[0]


def spoilt(ask: Ask, what: str, knobs: dict[str, str]) -> Ask:
    """Return the request with an answer that goes wrong.

    Without an answer to give where that would be an error's message: those are kept, as the README
    says.
    """
    dropped = {"x-fake-echo", *(("x-canary",) if "status" in knobs else ())}
    kept = {name: value for name, value in ask.headers.items() if name not in dropped}
    headers = kept | {f"x-fake-{name}": value for name, value in knobs.items()}
    return replace(ask, what=f"{ask.what}: {what}", headers=headers)


def statuses(asks: Iterable[Ask]) -> Generator[Ask]:
    """Return each request once for each status that a provider may answer, with the key in it."""
    for ask in asks:
        for status in STATUSES:
            yield spoilt(
                ask, str(status), {"status": str(status), "echo": "1", "echo-in": "reason"}
            )


def hung_up(asks: Iterable[Ask]) -> Generator[Ask]:
    """Return requests whose client hangs up in the middle of a slow stream."""
    slow = {"events": "6", "interval": "0.05", "echo": "1"}
    for ask in asks:
        yield replace(spoilt(ask, "hung up", slow), leaves=True)


def refused(ask: Ask, flock: Flock) -> Generator[Ask]:
    """Return requests that Metrion itself answers, with canaries wherever something can stand."""
    secret = ask.headers["authorization"].removeprefix("Bearer ")
    words = flock.prompt()
    document = json.loads(ask.body)

    def odd(what: str, headers: dict[str, str] | None = None, body: bytes = ask.body) -> Ask:
        return replace(ask, what=what, headers=ask.headers | (headers or {}), body=body)

    yield odd("not JSON", body=f"{words} {secret}".encode())
    yield odd("no object", body=json.dumps([words, secret]).encode())
    yield odd("a repeated key", body=json.dumps(document)[:-1].encode() + b',"model":"x"}')
    yield odd("a field is missing", body=json.dumps({secret: words}).encode())
    yield odd("wrong types", body=json.dumps({name: [words] for name in document}).encode())
    yield odd("two credentials", {"x-api-key": f"{secret}0"})
    yield odd("another scheme", {"authorization": f"Basic {secret}"})
    yield odd("a malformed token", {"authorization": f"Bearer sk-metrion-{secret}"})
    yield odd("a control character", {"x-other": f"{secret}\x01"})
    yield odd("an unlisted origin", {"origin": f"https://{secret}.example"})
    yield odd("too long", {"content-length": str(2**40)})
    yield replace(ask, what="no route", path=f"/api/proxy/{secret}")
    yield replace(ask, what="an encoded path", path=f"/api/proxy/openai/%2e/{secret}")
    yield replace(ask, what="wrong method", method="PUT")
    yield replace(ask, what="odd method", method=f"GET{secret}"[:40])


def misplaced(caller: Caller, ask: Ask, key: str) -> Generator[Ask]:
    """Return requests that are good but for a secret in a field that is kept or shown."""
    document = json.loads(ask.body)
    named = json.dumps(document | {"model": key, "user": key, "metadata": {"user_id": key}})
    yield replace(ask, what="as the model", body=named.encode())
    for secret in (key, caller.token):
        headers = {"x-metrion-user": secret, "x-request-id": secret, "user-agent": secret}
        yield replace(ask, what="in labels", headers=ask.headers | headers)
        joint = "&" if "?" in ask.path else "?"
        yield replace(ask, what="in the query", path=f"{ask.path}{joint}a={secret}&token={secret}")
