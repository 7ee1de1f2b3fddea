"""A mass of requests through the closed room, each judged by all that came of it."""

import re
from collections.abc import Sequence

from scripts.fake_provider.records import RecordedRequest
from scripts.fake_provider.wire import ProtocolViolation, Request, RequestReader
from scripts.proof.fuzzing.arrivals import Arrivals
from scripts.proof.fuzzing.callers import Callers
from scripts.proof.fuzzing.closed_room import HOST, ClosedRoom, Happened
from scripts.proof.fuzzing.http1_grammar import http1_input
from scripts.proof.fuzzing.mangling import cut
from scripts.proof.fuzzing.tally import Tally

_MOST_PIECES = 4
_WISH = b'"include_usage":true'
# What the strict reader refuses although nobody can read it in two ways once it is through the
# gateway: credentials are taken off, and a chunk's extension is dropped.
_OVERDONE = (
    "more than one authorization",
    "more than one x-api-key",
    "a chunk line does not end",
)
# What the gateway answers with an error and then reads on: methods in small letters (405), and
# fragments (400, or gone with the key that they are in). A method's last letters will do: without
# a bound, a field of 70,000 letters is looked through from each of them to its end.
_ODD_LINE = re.compile(rb"(?:[a-z][A-Za-z]{0,30} /[!-~]*| /[!-~]*#[!-~]*) HTTP/1\.[01]\r\n")


async def try_requests(
    tally: Tally, callers: Callers, pid: int, room: ClosedRoom | None = None
) -> None:
    """Offer as many inputs as were planned."""
    room = room or ClosedRoom(callers)
    arrivals = Arrivals(callers, HOST)
    with room.open():
        for number in range(tally.planned):
            _, data, random = http1_input(tally.seed, number, callers)
            happened = await room.offer(cut(random, data, _MOST_PIECES))
            judge(tally, arrivals, callers, (number, data), happened)
            tally.inputs += 1
            tally.looks(pid)
    if room.open_requests:
        tally.fail("hang", f"{room.open_requests} requests never ended")


def judge(
    tally: Tally,
    arrivals: Arrivals,
    callers: Callers,
    made: tuple[int, bytes],
    happened: Happened,
) -> None:
    """Look at all that came of one input."""
    _, data = made
    for crash in happened.crashes:
        tally.fail("crash", crash, *made)
    if happened.hung:
        tally.fail("hang", "it is still under way", *made)
    for violation in happened.violations:
        tally.fail("not admitted", violation, *made)
    for request in happened.forwarded:
        tally.forwarded += 1
        for complaint in arrivals.judge(recorded(request)):
            tally.fail("not admitted", complaint, *made)
    rows = sum(row["overhead_ms"] is not None for row in happened.rows)
    if rows != len(happened.forwarded):
        tally.fail("not admitted", f"{len(happened.forwarded)} forwarded, {rows} rows", *made)
    if why := read_differently(data, happened.forwarded):
        tally.fail("not admitted", why, *made)
    if happened.said and not happened.said.startswith(b"HTTP/1.1 "):
        tally.fail("wrong", "the answer is none", *made)
    if any(secret in happened.said for secret in callers.secrets):
        tally.fail("wrong", "the answer has a secret in it", *made)


def recorded(request: Request) -> RecordedRequest:
    """A request as the fake provider remembers it."""
    return RecordedRequest(request.method, request.target, request.head, request.body, 0, 0.0)


def strictly_read(data: bytes) -> list[Request] | None:
    """What a strict reader sees in a client's bytes; None where it is stricter than it need be."""
    reader = RequestReader(skips_empty_lines=True)
    reader.feed(data)
    there: list[Request] = []
    try:
        while (request := reader.next_request()) is not None:
            there.append(request)
    except ProtocolViolation as violation:
        if str(violation) in _OVERDONE or _ODD_LINE.search(data):
            return None
    return there


def read_differently(data: bytes, forwarded: Sequence[Request]) -> str | None:
    """Why what was forwarded is not what a strict reader sees in the client's bytes."""
    there = strictly_read(data)
    if there is None:
        return None
    left = iter(there)
    for sent in forwarded:
        if not any(_is_same(sent, seen) for seen in left):
            return f"a strict reader sees {len(there)} requests, and not {sent.body[:200]!r}"
    return None


def _is_same(sent: Request, seen: Request) -> bool:
    """The same method and body, but for the wish that is spliced in."""
    return sent.method == seen.method and (
        sent.body == seen.body or (_WISH in sent.body and _WISH not in seen.body)
    )
