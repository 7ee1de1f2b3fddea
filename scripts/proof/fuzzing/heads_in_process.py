"""A mass of requests for the two readers alone: what one sees as a request, the other does too."""

from collections.abc import Sequence
from random import Random

from addons.body_reader import BodyReader, MalformedBodyError
from addons.framing import MalformedHeadError, ReceiveBuffer, read_request_head
from scripts.proof.fuzzing.callers import Callers
from scripts.proof.fuzzing.http1_grammar import KINDS
from scripts.proof.fuzzing.mangling import cut, mangle, numbered
from scripts.proof.fuzzing.requests_in_process import strictly_read
from scripts.proof.fuzzing.tally import Tally

_OF_EACH_KIND = 60
_MOST_PIECES = 3

type Read = tuple[str, str, bytes]


def corpus(seed: int, callers: Callers) -> list[bytes]:
    """Requests of all kinds, to be mangled."""
    random = numbered(seed, "corpus", 0)
    made = [make(random, callers) for make in KINDS.values() for _ in range(_OF_EACH_KIND)]
    return [data for data in made if len(data) < 4096]  # noqa: PLR2004 - the mass is of short ones


def try_heads(tally: Tally, callers: Callers, pid: int) -> None:
    """Read as many inputs as were planned, each in pieces."""
    known = corpus(tally.seed, callers)
    for number in range(tally.planned):
        random = numbered(tally.seed, "heads", number)
        data = mangle(random, random.choice(known), known)
        judge_reading(tally, number, data, random)
        tally.inputs += 1
        tally.looks(pid)


def judge_reading(tally: Tally, number: int, data: bytes, random: Random) -> None:
    """Look at how one input is read: whole, in pieces, and by somebody else."""
    try:
        ours = read(cut(random, data, _MOST_PIECES))
        whole = read([data])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        tally.fail("crash", repr(error), number, data)
        return
    if ours != whole:
        tally.fail("wrong", "it depends on how the bytes are cut", number, data)
    theirs = strictly_read(data)
    if theirs is None:
        return
    tally.forwarded += len(ours)
    left = iter((request.method, request.target, request.body) for request in theirs)
    for request in ours:
        if not request[0].isupper() or "#" in request[1]:
            return  # the strict reader stops here; in the gateway no route has it
        if request not in left:
            tally.fail("not admitted", f"{request[:2]} is none for a strict reader", number, data)
            return


def read(pieces: Sequence[bytes]) -> list[Read]:
    """Whole requests, as the gateway reads them; after the first error nothing is read."""
    buffer, found = ReceiveBuffer(), list[Read]()
    body: BodyReader | None = None
    head, data = None, b""
    for piece in pieces:
        buffer += piece
        while True:
            try:
                if body is None:
                    head = read_request_head(buffer)
                    if head is None:
                        break
                    body, data = BodyReader(head.body_bytes, of_request=True), b""
                more, ended = body.read(buffer)
            except (MalformedHeadError, MalformedBodyError):
                return found
            data += more
            if not ended:
                break
            if head is not None:
                found.append((head.method.decode(), head.target.decode("latin-1"), data))
            body = None
    return found
