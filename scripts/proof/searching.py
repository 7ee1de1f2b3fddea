"""Finds canaries in bytes of anything, in whatever form, also where they are packed."""

import re
import zlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zstandard

from scripts.proof.canaries import Canary, Flock, Kind, forms

CHUNK_BYTES: Final = 8 * 1024 * 1024
_OVERLAP_BYTES: Final = 1024
"""Longer than any canary in any form."""
_MOST_UNPACKED_BYTES: Final = 16 * 1024 * 1024
_DEEPEST: Final = 3
_PLAIN: Final = "plain"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZLIB: Final = (b"\x1f\x8b\x08", b"x\x01", b"x\x9c", b"x\xda")
# Base64 and quoted-printable in a mail, and headers that are folded, go on in the next line.
_LINE_BREAKS: Final = re.compile(rb"=?\r?\n[ \t]?")
_LONGEST_FOLDED: Final = 1024 * 1024
_EMPTY_PAGE: Final = bytes(8192)
# Six digits are found in any log. A code stands alone, and not as the fraction of a second.
_NOT_BEFORE_A_CODE: Final = re.compile(rb"[0-9A-Za-z.+-]")
_NOT_AFTER_A_CODE: Final = re.compile(rb"[0-9A-Za-z-]")


@dataclass(frozen=True, slots=True)
class Find:
    """A canary that is somewhere.

    Attributes:
        kind: what it is; None: one of those that were made, in part or in another form.
        name: which one.
        form: how it is written.
    """

    kind: Kind | None
    name: str
    form: str


@dataclass(slots=True)
class Searched:
    """What was in some bytes.

    Attributes:
        bytes_read: how many there were.
        finds: each canary and form once.
    """

    bytes_read: int = 0
    finds: set[Find] = field(default_factory=set[Find])

    def add(self, other: "Searched") -> None:
        """Put another result to this one."""
        self.bytes_read += other.bytes_read
        self.finds |= other.finds


class Searcher:
    """Looks for all canaries of a flock, as many as there are when it is made."""

    def __init__(self, flock: Flock) -> None:
        self._flock = flock
        self._mark_forms = forms(flock.mark)
        self._needles: dict[bytes, tuple[Canary, str]] = {}
        self._codes: dict[bytes, Canary] = {}
        for value, canary in flock.caught.items():
            if canary.kind is Kind.CODE:
                self._codes[value] = canary
            else:
                self._needles |= {form: (canary, name) for form, name in forms(value).items()}

    def search(self, data: bytes) -> set[Find]:
        """Return what is in `data`, unpacked as well."""
        return self._search(data, 0)

    def search_pieces(self, pieces: Iterable[bytes]) -> Searched:
        """Search bytes that come piece by piece; a canary may lie across a border."""
        result, before = Searched(), b""
        for piece in pieces:
            result.bytes_read += len(piece)
            # most of PostgreSQL's files is empty
            data = before + piece.replace(_EMPTY_PAGE, b"")
            result.finds |= self._search(data, 0)
            before = data[-_OVERLAP_BYTES:]
        return result

    def search_file(self, path: Path) -> Searched:
        """Search a file, however large; one that is gone meanwhile has nothing in it.

        Raises:
            OSError: it cannot be read.
        """
        try:
            with path.open("rb") as file:
                return self.search_pieces(iter(lambda: file.read(CHUNK_BYTES), b""))
        except FileNotFoundError:
            return Searched()

    def _search(self, data: bytes, depth: int) -> set[Find]:
        finds = self._search_flat(data)
        if len(data) <= _LONGEST_FOLDED and b"\n" in data:
            finds |= self._search_flat(_LINE_BREAKS.sub(b"", data))
        if depth < _DEEPEST:
            for unpacked in _unpacked(data):
                finds |= {
                    Find(find.kind, find.name, f"packed {find.form}".removesuffix(f" {_PLAIN}"))
                    for find in self._search(unpacked, depth + 1)
                }
        return finds

    def _search_flat(self, data: bytes) -> set[Find]:
        finds: set[Find] = set()
        for form, name in self._mark_forms.items():
            for place in _places(data, form):
                canary = self._flock.made_at(data, place) if name == _PLAIN else None
                if canary is None:
                    finds.add(Find(None, "part of one", name))
                else:
                    finds.add(Find(canary.kind, canary.value.decode(), name))
        for form, (canary, name) in self._needles.items():
            if data.find(form) >= 0:  # `in` takes several times as long (CPython 3.13)
                finds.add(Find(canary.kind, canary.name, name))
        for code, canary in self._codes.items():
            if any(_stands_alone(data, place, len(code)) for place in _places(data, code)):
                finds.add(Find(canary.kind, canary.name, _PLAIN))
        return finds


def _places(data: bytes, needle: bytes) -> Generator[int]:
    place = data.find(needle)
    while place >= 0:
        yield place
        place = data.find(needle, place + 1)


def _stands_alone(data: bytes, place: int, length: int) -> bool:
    return not (
        _NOT_BEFORE_A_CODE.fullmatch(data[max(place - 1, 0) : place])
        or _NOT_AFTER_A_CODE.fullmatch(data[place + length : place + length + 1])
    )


def _unpacked(data: bytes) -> Generator[bytes]:
    """Return what begins as gzip, zlib or zstd somewhere in `data`, unpacked as far as it goes."""
    view = memoryview(data)
    for beginning in (*_ZLIB, _ZSTD):
        for place in _places(data, beginning):
            try:
                if beginning == _ZSTD:
                    unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(view[place:])
                else:
                    unpacker = zlib.decompressobj(47)
                    unpacked = unpacker.decompress(view[place:], _MOST_UNPACKED_BYTES)
            except (zlib.error, zstandard.ZstdError):
                continue
            if unpacked:
                yield unpacked
