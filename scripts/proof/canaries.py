"""Canaries: secrets that are made, or caught, to be found again wherever they have leaked to.

All that are made have one mark in them, so that a gigabyte is searched for thousands of them at
once. What Metrion makes by itself (tokens, cookies, codes) is caught where it is given out.
"""

import base64
import random
import re
import string
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from addons.providers.base import Provider

_ALPHABET: Final = string.ascii_lowercase + string.digits
_MARK_CHARACTERS: Final = 12
_NUMBER_DIGITS: Final = 6
# What keys look like, as far as that is known. Mistral's have no form that tells them from a word:
# whatever knows keys by their look does not know these.
_KEY_BEGINNINGS: Final = {
    "openai": "sk-proj-",
    "anthropic": "sk-ant-api03-",
    "gemini": "AIza",
    "mistral": "",
    "grok": "xai-",
}
_KEY_FILLER: Final = 16


class Kind(StrEnum):
    """What a canary is."""

    STORED_KEY = "stored provider key"
    OWN_KEY = "own provider key"
    TOKEN = "Metrion token"  # noqa: S105 - a kind, not a token
    CODE = "e-mail code"
    COOKIE = "session cookie"
    PROMPT = "prompt"
    ANSWER = "answer"
    DEPLOYMENT = "password or master key"


@dataclass(frozen=True, slots=True)
class Canary:
    """One secret; `value` is what must not be found."""

    kind: Kind
    name: str
    value: bytes = field(repr=False)


class Flock:
    """All canaries of a hunt.

    Args:
        seed: of the mark and of all that is made.

    Attributes:
        mark: what each that was made has in it.
        caught: those that Metrion made.
    """

    def __init__(self, seed: int) -> None:
        # so that a run can be had again; nothing here guards anything
        self._random = random.Random(seed)  # noqa: S311
        self.mark = f"cnry{self._text(_MARK_CHARACTERS - 4)}".encode()
        self.caught: dict[bytes, Canary] = {}
        self._made: list[Canary] = []

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._made) + len(self.caught)

    def provider_key(self, provider: Provider, kind: Kind = Kind.STORED_KEY) -> str:
        """Make a key of the form that the provider's keys have."""
        beginning = _KEY_BEGINNINGS[provider.name]
        key = f"{beginning}{self._next()}{self._text(_KEY_FILLER)}"
        return self._add(kind, f"{provider.name} key", key)

    def prompt(self) -> str:
        """Make words with all that is written in another way in JSON, URLs and headers."""
        return self._add(Kind.PROMPT, "prompt", f'{self._next()} "Grüße" \\ %2F\tend')

    def answer(self) -> str:
        """Make words that a provider is to say; they can stand in a header."""
        return self._add(Kind.ANSWER, "answer", f"{self._next()} said")

    def catch(self, kind: Kind, name: str, value: str) -> str:
        """Take in what Metrion has made; returns it."""
        self.caught[value.encode()] = Canary(kind, name, value.encode())
        return value

    def made_at(self, data: bytes, place: int) -> Canary | None:
        """Return the canary whose mark stands at this place; None: it is cut off."""
        begin = place + len(self.mark)
        digits = data[begin : begin + _NUMBER_DIGITS]
        number = int(digits) if re.fullmatch(rb"[0-9]{6}", digits) else len(self._made)
        return self._made[number] if number < len(self._made) else None

    def _next(self) -> str:
        return f"{self.mark.decode()}{len(self._made):0{_NUMBER_DIGITS}}"

    def _add(self, kind: Kind, name: str, value: str) -> str:
        self._made.append(Canary(kind, name, value.encode()))
        return value

    def _text(self, length: int) -> str:
        return "".join(self._random.choices(_ALPHABET, k=length))


def forms(value: bytes) -> dict[bytes, str]:
    """Return what `value` may have become on its way into a file or a log, and what that is called.

    What is only quoted (JSON, URL, SQL, `repr`) still has a mark or token in it as it was. Packed
    bytes are unpacked by the search.
    """
    text = value.decode("latin-1")
    found = {
        "plain": value,
        "upper case": value.upper(),
        "hex": value.hex().encode(),
        "HEX": value.hex().upper().encode(),
        "UTF-16": text.encode("utf-16-le"),
        "%xx": "".join(f"%{byte:02x}" for byte in value).encode(),
        "%XX": "".join(f"%{byte:02X}" for byte in value).encode(),
        "\\u": "".join(f"\\u{ord(character):04x}" for character in text).encode(),
        "reversed": value[::-1],
    }
    for shift in range(3):
        found[f"base64 ({shift})"] = _in_base64(value, shift)
        found[f"base64url ({shift})"] = _in_base64(value, shift, b"-_")
    # of a value without letters, or without what the two alphabets write differently, some are one
    return {form: name for name, form in reversed(found.items())}


def _in_base64(value: bytes, shift: int, last_two: bytes = b"+/") -> bytes:
    """Return what a value looks like `shift` bytes after the beginning of something longer."""
    whole = base64.b64encode(bytes(shift) + value, last_two)
    # without the characters that depend on its neighbours too
    end = {0: 0, 1: 3, 2: 2}[(shift + len(value)) % 3]
    return whole[(0, 2, 3)[shift] : len(whole) - end]
