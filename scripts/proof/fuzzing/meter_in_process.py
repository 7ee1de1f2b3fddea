"""A mass of answers for the meter alone: what it says was said by the provider, or it says nothing.

However the bytes are cut, it says the same. Every count is a number of the answer, or the sum of a
few: what was broken may be unknown, but is never made up. A valid answer that is only shorter says
what the whole one says, or less.
"""

import itertools
import logging
import re
from collections.abc import Sequence
from random import Random

from addons.meter import Meter
from addons.usage_chunk import UsageChunkFilter
from scripts.proof.fuzzing.answer_grammar import BODIES, Said, said_input, valid
from scripts.proof.fuzzing.error_log import ErrorLog
from scripts.proof.fuzzing.mangling import cut
from scripts.proof.fuzzing.tally import Tally
from storage.pricing import TokenUsage

_MOST_PIECES = 6
_MOST_ADDED = 3
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?")
_COUNTS = (
    *("input_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("output_tokens", "reasoning_tokens"),
)


def try_meter(tally: Tally, pid: int) -> None:
    """Measure as many answers as were planned."""
    log = ErrorLog()
    logger = logging.getLogger("addons.meter")
    before = logger.level
    logger.addHandler(log)
    logger.setLevel(logging.ERROR)  # what cannot be metered is a warning, and expected here
    wholes = {flavour: _measured_whole(flavour) for flavour in BODIES}
    try:
        for number in range(tally.planned):
            said, random = said_input(tally.seed, number)
            judge_answer(tally, number, said, random, wholes)
            for line in log.lines:
                tally.fail("crash", line, number, said.data)
            log.lines.clear()
            tally.inputs += 1
            tally.looks(pid)
    finally:
        logger.removeHandler(log)
        logger.setLevel(before)


def judge_answer(
    tally: Tally, number: int, said: Said, random: Random, wholes: dict[str, TokenUsage | None]
) -> None:
    """Look at what the meter makes of one answer."""
    pieces = cut(random, said.data, _MOST_PIECES)
    try:
        usage, whole = measured(said, pieces), measured(said, [said.data])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        tally.fail("crash", repr(error), number, said.data)
        return
    if usage is not None:
        tally.forwarded += 1
    if usage != whole and not said.content_encoding:
        tally.fail("wrong", f"cut it says {usage}, whole {whole}", number, said.data)
    if usage is not None and not said.content_encoding and (why := made_up(usage, said.data)):
        tally.fail("wrong", why, number, said.data)
    expected = wholes[said.flavour]
    if said.is_cut and usage is not None and (why := more_than(usage, expected)):
        tally.fail("wrong", why, number, said.data)
    if why := passes_differently(said.data, pieces):
        tally.fail("wrong", why, number, said.data)


def measured(said: Said, pieces: Sequence[bytes]) -> TokenUsage | None:
    """What the meter makes of pieces."""
    meter = Meter(said.flavour, said.content_type, said.content_encoding)
    for piece in pieces:
        meter.feed(piece)
    meter.finish()
    return meter.usage


def _measured_whole(flavour: str) -> TokenUsage | None:
    data = valid(Random(0), flavour, streamed=False)  # noqa: S311
    return measured(Said(flavour, "application/json", "", data, is_cut=False), [data])


def made_up(usage: TokenUsage, data: bytes) -> str | None:
    """The count that no numbers of the answer add up to; None if all are there."""
    said = {0}
    for text in _NUMBER.findall(data):
        number = float(text)
        if number.is_integer():
            said.add(int(number))
    for name in _COUNTS:
        count: int | None = getattr(usage, name)
        if count is not None and count not in said and not _is_sum(count, said):
            return f"{name} is {count}, which the answer does not say"
    return None


def _is_sum(count: int, said: set[int]) -> bool:
    """A count is what is left of one of the numbers without two others, or a sum of a few."""
    if any(count + one + other in said for one in said for other in said):
        return True
    return any(
        sum(numbers) == count
        for size in range(2, _MOST_ADDED + 1)
        for numbers in itertools.combinations_with_replacement(said, size)
    )


def more_than(usage: TokenUsage, whole: TokenUsage | None) -> str | None:
    """The count of an answer that was cut off which is larger than that of the whole one."""
    for name in _COUNTS:
        count, most = getattr(usage, name), getattr(whole, name, None)
        if count is not None and count > (most or 0):
            return f"cut off, {name} is {count} and not {most}"
    return None


def passes_differently(data: bytes, pieces: Sequence[bytes]) -> str | None:
    """What the filter of usage chunks does to a stream depends on nothing but its bytes."""
    in_pieces, at_once = UsageChunkFilter(), UsageChunkFilter()
    passed = b"".join([in_pieces.feed(piece) for piece in pieces]) + in_pieces.finish()
    if passed != at_once.feed(data) + at_once.finish():
        return "the filter of usage chunks depends on how the bytes are cut"
    left = iter(data)
    if b'"usage"' not in data and passed != data:
        return "the filter changed what has no usage"
    return None if all(byte in left for byte in passed) else "the filter adds bytes"
