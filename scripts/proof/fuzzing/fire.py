"""The same inputs over real sockets, to a proxy process as production has it.

Plain TCP is served by `addons.direct`, TLS by mitmproxy, with HTTP/1.1 or HTTP/2 as was agreed.
Between batches the fake provider's records are judged, and the proxy has to answer a probe.
"""

import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import batched

from addons.providers.base import ErrorShape
from scripts.fake_provider import FakeProvider, RecordedRequest
from scripts.proof.fuzzing import answers_in_process, bodies_in_process
from scripts.proof.fuzzing.arrivals import Arrivals
from scripts.proof.fuzzing.callers import Callers
from scripts.proof.fuzzing.http1_grammar import http1_input
from scripts.proof.fuzzing.http2_grammar import http2_input
from scripts.proof.fuzzing.json_grammar import Body, json_input
from scripts.proof.fuzzing.mangling import cut, numbered
from scripts.proof.fuzzing.tally import Tally
from scripts.proof.fuzzing.valid_requests import ROUTES, Parts
from scripts.proof.fuzzing.volley import FAREWELL, all_at_once, answers, shoot, shoot_frames

_BATCH = 400
_AT_ONCE = 64
_AT_ONCE_WITH_TLS = 8  # more only wait for each other's handshakes, and have a deadline for theirs
_MOST_PIECES = 4
_HANGS_UP = 0.12
_BAD_REQUEST = 400
_CLOSE = b"Connection: close"


@dataclass
class Range:
    """The proxy that is shot at, and who is behind it.

    Attributes:
        ids: of rows that clients were told of: all of them must be there in the end.
    """

    port: int
    pid: int
    provider: FakeProvider
    callers: Callers
    arrivals: Arrivals
    ids: set[str] = field(default_factory=set[str])

    async def fire(
        self,
        tally: Tally,
        work: Callable[[int], Awaitable[None]],
        *,
        at_once: int = _AT_ONCE,
        check: Callable[[list[RecordedRequest]], None] = lambda _: None,
    ) -> None:
        """Do the work of every number, in batches; `check` gets what arrived of each."""
        for numbers in batched(range(tally.planned), _BATCH, strict=False):
            await all_at_once(numbers, work, at_once)
            tally.inputs += len(numbers)
            check(self.look(tally))
            if not await answers(self.port):
                tally.fail("hang", "no answer to a probe", numbers[-1])
            tally.looks(self.pid)

    def look(self, tally: Tally) -> list[RecordedRequest]:
        """Judge what reached the provider since the last time."""
        arrived = self.provider.take_requests()
        tally.forwarded += len(arrived)
        for request in arrived:
            for complaint in self.arrivals.judge(request):
                tally.fail("not admitted", complaint, data=request.head)
        for violation in self.provider.violations:
            tally.fail("not admitted", violation.reason, data=violation.excerpt)
        self.provider.clear()
        return arrived

    def heard(self, tally: Tally, said: bytes, number: int, data: bytes) -> None:
        """What no client may ever hear."""
        if any(secret in said for secret in self.callers.secrets):
            tally.fail("wrong", "the answer has a secret in it", number, data)
        if b"x-metrion-error: internal_error" in said:
            tally.fail("crash", "Metrion failed", number, data)


async def fire_http1(range_: Range, tally: Tally, tls: ssl.SSLContext | None = None) -> None:
    """Requests of HTTP/1.1, cut anywhere; some clients hang up."""

    async def one(number: int) -> None:
        _, data, random = http1_input(tally.seed, number, range_.callers)
        pieces = [*cut(random, data, _MOST_PIECES), FAREWELL]
        hangs_up = random.random() < _HANGS_UP
        shot = await shoot(range_.port, pieces, tls=tls, hangs_up=hangs_up)
        if not shot.ended:
            tally.fail("hang", "neither an answer nor a close", number, data)
        if shot.said and not shot.said.startswith(b"HTTP/1.1 "):
            tally.fail("wrong", f"no answer: {shot.said[:200]!r}", number, data)
        range_.heard(tally, shot.said, number, data)
        range_.ids.update(shot.forwarded_ids)

    await range_.fire(tally, one, at_once=_AT_ONCE_WITH_TLS if tls else _AT_ONCE)


async def fire_http2(range_: Range, tally: Tally, tls: ssl.SSLContext) -> None:
    """Frames of HTTP/2. Who has sent nothing that is whole may wait as long as any client."""

    async def one(number: int) -> None:
        made = http2_input(tally.seed, number, range_.callers)
        if made.comes_to_an_end:
            shot = await shoot_frames(range_.port, made.pieces, tls)
        else:
            shot = await shoot(range_.port, made.pieces, tls=tls, hangs_up=True)
        if not shot.ended:
            tally.fail("hang", "neither an answer nor a close", number, b"".join(made.pieces))
        range_.heard(tally, shot.said, number, b"".join(made.pieces))

    await range_.fire(tally, one, at_once=_AT_ONCE_WITH_TLS)


async def fire_bodies(range_: Range, tally: Tally) -> None:
    """JSON bodies: refused with a 400 in the provider's shape, or forwarded as they are."""
    expected: dict[str, tuple[int, bytes, bool]] = {}
    account = range_.callers.admitted[0]

    async def one(number: int) -> None:
        body = json_input(tally.seed, number)
        shot = await shoot(range_.port, [_post(body, account.token, number)])
        head, _, said = shot.said.partition(b"\r\n\r\n")
        refused = b"x-metrion-error: " in head
        if not shot.ended or not head:
            tally.fail("hang", "no answer", number, body.data)
        elif refused and not is_refusal(head, said, body.provider.error_shape):
            tally.fail("wrong", f"{shot.said[:300]!r}", number, body.data)
        expected[str(number)] = number, body.data, refused
        range_.heard(tally, shot.said, number, body.data)
        range_.ids.update(shot.forwarded_ids)

    def check(arrived: list[RecordedRequest]) -> None:
        check_bodies(tally, arrived, expected)
        expected.clear()

    await range_.fire(tally, one, check=check)


def check_bodies(
    tally: Tally, arrived: list[RecordedRequest], expected: dict[str, tuple[int, bytes, bool]]
) -> None:
    """Compare what arrived with what was sent, and with what the client was told."""
    for request in arrived:
        number, data, refused = expected.pop(request.header("x-fuzz") or "", (-1, b"", True))
        if refused:
            tally.fail("not admitted", "it was refused, or came twice", number, request.body)
        elif not bodies_in_process.is_spliced(data, request.body):
            tally.fail("wrong", f"forwarded as {request.body!r}", number, data)
    for number, data, refused in expected.values():
        if not refused:
            tally.fail("wrong", "it was answered, and not forwarded", number, data)


def is_refusal(head: bytes, said: bytes, shape: ErrorShape) -> bool:
    """It is a 400 in the shape of the provider's errors."""
    try:
        error = json.loads(said)["error"]
        code = error["code"] if shape != "anthropic" else error["type"]
    except (ValueError, KeyError, TypeError):
        return False
    expected = {"openai": "invalid_request", "anthropic": "invalid_request_error"}
    return head.startswith(b"HTTP/1.1 400 ") and code == expected.get(shape, _BAD_REQUEST)


def _post(body: Body, token: str, number: int) -> bytes:
    paths = [r.path for r in ROUTES if (r.provider, r.endpoint) == (body.provider, body.endpoint)]
    lines = [b"Host: a", b"Authorization: Bearer " + token.encode(), b"X-Fuzz: %d" % number, _CLOSE]
    return Parts(b"POST", paths[number % len(paths)], b"HTTP/1.1", lines, body.data).joined()


async def fire_answers(range_: Range, tally: Tally, tls: ssl.SSLContext | None = None) -> None:
    """What a provider says: a client gets it as it is, a refusal of Metrion's, or a clean break."""
    account = range_.callers.admitted[0]

    async def one(number: int) -> None:
        route, streamed, said = answers_in_process.answer_to(tally.seed, number)
        name = b"%d" % number
        pieces = cut(numbered(tally.seed, "answers cut", number), said, _MOST_PIECES)
        range_.provider.scripts[name] = pieces
        lines = [b"X-Fake-Script: " + name, _CLOSE]
        request = answers_in_process.request_of(route, account.token, lines, streamed=streamed)
        shot = await shoot(range_.port, [request], tls=tls)
        del range_.provider.scripts[name]
        if not shot.ended:
            tally.fail("hang", "neither an answer nor a close", number, said)
        elif why := answers_in_process.unlike_bytes(shot.said, said):
            tally.fail("wrong", f"{why}; client: {shot.said[:300]!r}", number, said)
        range_.heard(tally, shot.said, number, said)
        range_.ids.update(shot.forwarded_ids)

    await range_.fire(tally, one, at_once=_AT_ONCE_WITH_TLS if tls else _AT_ONCE)
