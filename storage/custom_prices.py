"""An operator's own prices, from the TOML file that METRION_PRICES_FILE names.

    date = 2026-01-01            # when these prices were agreed; written beside every cost

    [[price]]
    provider = "openai"          # openai, anthropic, gemini, mistral or grok
    model = "ft:gpt-4o:acme:*"   # as the provider returns it; may end in *
    input = 3.75                 # USD per million tokens, like all prices here
    output = 15.00
    cache_read = 1.875           # these three: as input, if left out
    cache_write = 3.75
    cache_write_1h = 3.75        # as cache_write, if left out
    since = 2026-03-01           # optional: not before this day (UTC)

An entry is meant for a model whatever its snapshot: `gpt-4o` also prices `gpt-4o-2024-08-06`.
"""

import tomllib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.errors import SettingsError
from storage.rates import Rates

_MAX_FILE_BYTES = 4 * 1024 * 1024
_SHOWN_MISTAKES = 5

Usd = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class _Entry(BaseModel):
    """One `[[price]]`; see the module's docstring."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Literal["openai", "anthropic", "gemini", "mistral", "grok"]
    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: Usd
    output: Usd = Decimal(0)
    cache_read: Usd | None = None
    cache_write: Usd | None = None
    cache_write_1h: Usd | None = None
    since: date = date.min

    def rates(self) -> Rates:
        """Return the prices by the names that `storage.rates` knows."""
        named = {
            "input_mtok": self.input,
            "output_mtok": self.output,
            "cache_read_mtok": self.cache_read,
            "cache_write_mtok": self.cache_write,
            "cache_write_1h_mtok": self.cache_write_1h,
        }
        if self.cache_write is None and self.cache_write_1h is not None:
            named["cache_write_mtok"] = self.input
        return {name: price for name, price in named.items() if price is not None}


class _PricesFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    date: date
    price: list[_Entry]


@dataclass(frozen=True, slots=True)
class CustomPrices:
    """The operator's prices.

    Attributes:
        source: what a row says about where its price is from, such as
            `custom prices.toml 2026-01-01`.
    """

    source: str
    _entries: tuple[_Entry, ...]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and check the file.

        Raises:
            SettingsError: it cannot be read, or something in it is wrong; says what and where.
        """
        parsed = _parse(path)
        seen: set[tuple[str, str, date]] = set()
        for entry in parsed.price:
            key = (entry.provider, entry.model.lower(), entry.since)
            if key in seen:
                raise SettingsError(
                    f"METRION_PRICES_FILE {path}: {entry.provider} {entry.model} is priced twice"
                    " for the same day: remove one, or give the newer one a `since`"
                )
            seen.add(key)
        return cls(f"custom {path.name} {parsed.date}", tuple(parsed.price))

    def find(self, provider: str, names: tuple[str, ...], day: date) -> Rates | None:
        """Return the rates of the first of a model's names that has an entry on this day.

        The exact name goes before a `*`, the longer beginning before the shorter, the later
        `since` before the earlier.
        """
        known = [e for e in self._entries if e.provider == provider and e.since <= day]
        for name in names:
            fitting = [entry for entry in known if _fits(entry.model, name)]
            if fitting:
                best = max(
                    fitting, key=lambda e: (not e.model.endswith("*"), len(e.model), e.since)
                )
                return best.rates()
        return None


def _fits(pattern: str, name: str) -> bool:
    pattern, name = pattern.lower(), name.lower()
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern


def _parse(path: Path) -> _PricesFile:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(
            f"METRION_PRICES_FILE {path} cannot be read: {error.strerror}"
        ) from error
    if len(text) > _MAX_FILE_BYTES:
        raise SettingsError(f"METRION_PRICES_FILE {path} is larger than {_MAX_FILE_BYTES} bytes")
    try:
        raw = tomllib.loads(text.decode(), parse_float=Decimal)
    except ValueError as error:
        raise SettingsError(f"METRION_PRICES_FILE {path} is not TOML: {error}") from error
    try:
        return _PricesFile.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(f"METRION_PRICES_FILE {path}: {_mistakes(error)}") from error


def _mistakes(error: ValidationError) -> str:
    """Say what to mend: which entry (counted from 1), which field, what is wrong."""
    lines: list[str] = []
    for mistake in error.errors(include_url=False):
        place = [str(part + 1) if isinstance(part, int) else str(part) for part in mistake["loc"]]
        hint = mistake["msg"]
        if mistake["type"] == "extra_forbidden":
            hint = f"unknown name; known are {', '.join(_Entry.model_fields)}"
        lines.append(f"{' '.join(place) or 'file'}: {hint}")
    more = len(lines) - _SHOWN_MISTAKES
    shown = lines[:_SHOWN_MISTAKES] + ([f"and {more} more"] if more > 0 else [])
    return "; ".join(shown)
