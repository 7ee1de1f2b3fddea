"""A mass of answers through the closed room: a client sees the provider's bytes, or a clean break.

What the provider said is read a second time by h11, as a client that is there without a gateway
would read it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import h11

from scripts.fake_provider.wire import Request
from scripts.proof.fuzzing.answer_grammar import EVENTS, answer_input
from scripts.proof.fuzzing.callers import Callers
from scripts.proof.fuzzing.closed_room import ClosedRoom, Happened
from scripts.proof.fuzzing.mangling import cut, numbered
from scripts.proof.fuzzing.tally import Tally
from scripts.proof.fuzzing.valid_requests import ROUTES, Parts, Route, valid_body

_MOST_PIECES = 5
_OWN_ANSWER = b"x-metrion-error"
_OWN_STATUSES = (502, 504)
_FIRST_ERROR = 400
# Its row is written when a stream says by itself that it is over.
_LAST_WORDS = (b"[DONE]", b"message_stop", b"response.completed")
# Up to this size of a head both readers agree; beyond it each has a limit of its own.
_MOST_HEAD_BYTES = 1024 * 1024


class Seen(NamedTuple):
    """An answer as a client sees it.

    Attributes:
        is_whole: it has an end; else the connection broke before.
    """

    status: int
    names: frozenset[bytes]
    body: bytes
    is_whole: bool


_ASKED = tuple(
    route
    for route in ROUTES
    if route.endpoint.flavour in EVENTS and b"models/" not in route.path
    if route.path.endswith((b"/v1/chat/completions", b"/v1/responses", b"/v1/messages"))
)
_NATIVE = tuple(route for route in ROUTES if b":generateContent" in route.path)


async def try_answers(tally: Tally, callers: Callers, pid: int) -> None:
    """Let the provider say as much as was planned."""
    room = ClosedRoom(callers)
    with room.open():
        for number in range(tally.planned):
            route, streamed, said = answer_to(tally.seed, number)
            random = numbered(tally.seed, "answers cut", number)
            pieces = [*cut(random, said, _MOST_PIECES), b""]
            room.answer = _Teller(pieces)
            request = request_of(route, callers.admitted[0].token, [], streamed=streamed)
            happened = await room.offer([request])
            judge_answer(tally, (number, said), happened)
            tally.inputs += 1
            tally.looks(pid)
    if room.open_requests:
        tally.fail("hang", f"{room.open_requests} requests never ended")


def answer_to(seed: int, number: int) -> tuple[Route, bool, bytes]:
    """Which route is asked, whether for a stream, and what the provider says."""
    chosen = numbered(seed, "route", number)
    route = chosen.choice((*_ASKED, *_NATIVE))
    streamed = chosen.random() < 0.6  # noqa: PLR2004 - most are
    said, _ = answer_input(seed, number, route.endpoint.flavour, streamed=streamed)
    return route, streamed, said


def request_of(route: Route, token: str, more: Sequence[bytes], *, streamed: bool) -> bytes:
    """A request that is as it should be, and says itself what it wants to know of usage."""
    body = valid_body(numbered(0, "asked", 0), route.endpoint)
    if streamed:
        body = body[:-1] + b', "stream": true, "stream_options": {"include_usage": true}}'
    lines = [b"Host: metrion", b"Authorization: Bearer " + token.encode(), *more]
    return Parts(b"POST", route.path, b"HTTP/1.1", lines, body).joined()


class _Teller:
    """Says the same to the one request that comes."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    def __call__(self, request: Request) -> Sequence[bytes]:
        return self._pieces


def judge_answer(tally: Tally, made: tuple[int, bytes], happened: Happened) -> None:
    """Look at what the client saw of one answer, and at its row."""
    for crash in happened.crashes:
        tally.fail("crash", crash, *made)
    if happened.hung:
        tally.fail("hang", "it is still under way", *made)
    tally.forwarded += len(happened.forwarded)
    if len(happened.forwarded) != 1 or len(happened.rows) != 1:
        tally.fail("wrong", f"{len(happened.forwarded)} requests, {len(happened.rows)} rows", *made)
        return
    seen = as_client(happened.said)
    why = unlike_bytes(happened.said, made[1])
    if why is None and seen is not None:
        why = _row_unlike(happened.rows[0]["outcome"], seen)
        if not seen.is_whole and not happened.closed:
            why = "it broke off, and the connection stays"
    if why:
        tally.fail("wrong", f"{why}; client: {happened.said[:300]!r}", *made)


def unlike_bytes(heard: bytes, told: bytes) -> str | None:
    """As `unlike`, of what a client heard and a provider told."""
    seen, said = as_client(heard), as_client(_forgiven(told))
    if seen is None:  # a head that this client reads from nobody
        return "the client cannot read what it got" if said is not None else None
    return unlike(seen, said)


def unlike(seen: Seen, said: Seen | None) -> str | None:
    """In what the client saw something else than the provider said."""
    if _OWN_ANSWER in seen.names:
        is_own = seen.status in _OWN_STATUSES and seen.is_whole
        return None if is_own else f"Metrion answers {seen.status}"
    if said is None:
        return None if not seen.is_whole else "it is whole, and the provider's was no answer"
    if seen.status != said.status:
        return f"the status is {seen.status}, and was {said.status}"
    if seen.is_whole and not (said.is_whole and seen.body == said.body):
        return "it is whole, and not what the provider said"
    return None if said.body.startswith(seen.body) else "the bytes are others"


def _row_unlike(outcome: str, seen: Seen) -> str | None:
    if not seen.is_whole and any(word in seen.body for word in _LAST_WORDS):
        return None  # what broke off was no part of the answer any more
    if _OWN_ANSWER in seen.names or not seen.is_whole:
        return "its row says ok" if outcome == "ok" else None
    expected = "provider_error" if seen.status >= _FIRST_ERROR else "ok"
    return None if outcome == expected else f"its row says {outcome}"


def _forgiven(said: bytes) -> bytes:
    """Tabs in the status line: to the gateway they are spaces."""
    first, end, rest = said.partition(b"\n")
    return first.replace(b"\t", b" ") + end + rest


def as_client(data: bytes) -> Seen | None:
    """An answer as h11 reads it; None if it reads none."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD_BYTES)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    status, names, body = 0, frozenset[bytes](), b""
    try:
        client.receive_data(data)
        client.receive_data(b"")
        while True:
            match client.next_event():
                case h11.InformationalResponse():
                    pass
                case h11.Response() as response:
                    status = response.status_code
                    names = frozenset(name for name, _ in response.headers)
                case h11.Data() as event:
                    body += bytes(event.data)
                case h11.EndOfMessage():
                    return Seen(status, names, body, is_whole=True)
                case _:
                    break
    except h11.RemoteProtocolError:
        pass
    return Seen(status, names, body, is_whole=False) if status else None
