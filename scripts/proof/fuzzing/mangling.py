"""Bytes made wrong: what a bad line, a bad peer and a bad mind do to them.

Every input of a fuzz run is made of a seed, a kind and a number alone, so that one that failed is
made again without those before it.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

_SPICE = (
    *(b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b":", b",", b";", b"=", b"\r\n\r\n", b"\n\n"),
    *(b"\x80", b"\xff", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\x7f", b"\x0b", b"\x1b[31m", b'"'),
    *(b"0", b"-1", b"+1", b"0x10", b"1e3", b"00", b"99999999999999999999", b"\\u0000", b"\\ud800"),
    *(b"%00", b"%2e", b"%0d%0a", b"..", b"/", b"\\", b"#", b"?", b"@", b"{", b"}", b"[", b"]"),
)
_HOW_MANY = (1, 1, 1, 1, 2, 2, 3, 5)
_MOST_REPEATED_BYTES = 64
_MOST_REPEATS = 40

type Change = Callable[[Random, bytearray, Sequence[bytes]], None]


def numbered(seed: int, kind: str, number: int) -> Random:
    """The chance behind one input of a run."""
    return Random(f"{seed} {kind} {number}")  # noqa: S311 - made again from what is printed


def mangle(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Change some bytes: one to five changes of all kinds.

    Args:
        random: what chooses.
        data: what is changed.
        others: what pieces of may get into it.
    """
    changed = bytearray(data)
    for _ in range(random.choice(_HOW_MANY)):
        random.choice(_CHANGES)(random, changed, others)
    return bytes(changed)


def cut(random: Random, data: bytes, most: int) -> list[bytes]:
    """Cut data at any bytes, into at most so many pieces; no piece is empty."""
    if len(data) < 2 or most < 2:  # noqa: PLR2004 - nothing to cut
        return [data] if data else []
    count = random.randint(0, min(most, len(data)) - 1)
    edges = [0, *sorted(random.sample(range(1, len(data)), count)), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


def _place(random: Random, data: bytearray) -> int:
    return random.randint(0, len(data))


def _span(random: Random, data: bytearray) -> tuple[int, int]:
    begin = _place(random, data)
    return begin, min(len(data), begin + random.randint(1, _MOST_REPEATED_BYTES))


def _flip_bit(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set_byte(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _delete(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    begin, end = _span(random, data)
    del data[begin:end]


def _repeat(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    begin, end = _span(random, data)
    data[end:end] = data[begin:end] * random.randint(1, _MOST_REPEATS)


def _spice(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    place = _place(random, data)
    data[place:place] = random.choice(_SPICE)


def _splice(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = random.choice(others) if others else bytes(data)
    begin = random.randint(0, len(other))
    piece = other[begin : begin + random.randint(1, len(other) + 1)]
    place = _place(random, data)
    if random.random() < 0.5:  # noqa: PLR2004 - a coin
        data[place:] = piece
    else:
        data[place:place] = piece


def _swap(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    begin, end = _span(random, data)
    piece = data[begin:end]
    del data[begin:end]
    place = _place(random, data)
    data[place:place] = piece


def _truncate(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    del data[_place(random, data) :]


_CHANGES: tuple[Change, ...] = (
    *(_flip_bit, _flip_bit, _set_byte, _delete, _repeat, _spice, _spice),
    *(_splice, _swap, _truncate),
)
