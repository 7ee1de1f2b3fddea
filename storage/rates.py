"""What a request used, in tokens, and what that costs at given rates: pure arithmetic.

Token counts of providers overlap, each in its own way. `TokenUsage` is the one overlapping form
that all of Metrion uses (input holds the cached tokens, output holds the reasoning); `cost` cuts it
into disjoint classes, so that no token is paid for twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

_MODALITIES = ("audio", "image", "video")
_COST_DIGITS = Decimal("1e-12")
_SECONDS_PER_HOUR = 3600
_MAX_COUNT = 2**40  # the sum stays exact in 28 digits

Rates = Mapping[str, Decimal]
"""Prices by the names of genai-prices: `*_mtok` is USD per million tokens, `web_searches_kcount` is
USD per thousand searches, `input_audio_hours` is USD per hour. A class that is missing is charged
as the class it is a part of; `input_mtok` and `output_mtok` are parts of nothing."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """What one request used. None is *not reported*, which is not zero.

    Attributes:
        input_tokens: all of them, those read from and written to a cache included.
        cache_read_tokens: of the input, served from the provider's cache.
        cache_write_tokens: of the input, stored in the provider's cache.
        output_tokens: all of them, reasoning included.
        reasoning_tokens: of the output, spent on reasoning.
        service_tier: as the provider names the tier or speed that served the request.
        extras: further counts that have a price of their own, by genai-prices' unit name, each a
            part of the classes above or a thing beside them: `cache_write_1h_tokens`,
            `input_audio_tokens`, `cache_audio_read_tokens`, `output_image_tokens`,
            `web_searches`, `input_audio_seconds` …; only those above zero.
    """

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    service_tier: str | None = None
    extras: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def total_tokens(self) -> int | None:
        """Input and output; None when one of them was not reported."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    @property
    def is_nothing(self) -> bool:
        """Reported, and nothing was used: such a request is free whatever the model."""
        return self.total_tokens == 0 and not any(self.extras.values())

    def to_json(self) -> dict[str, Any]:
        """Return the attributes that say something, for a journal record."""
        said = {name: value for name in _SCALARS if (value := getattr(self, name)) is not None}
        if self.extras:
            said["extras"] = dict(self.extras)
        return said

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_json` made.

        Raises:
            TypeError: an attribute is unknown (a record of a newer version).
        """
        return cls(**data)


_SCALARS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "service_tier",
)

NO_USAGE = TokenUsage(0, 0, 0, 0, 0)
"""What a request used that no model worked on: a list of models, a count of tokens, a cache hit."""


@dataclass(frozen=True, slots=True)
class PriceList:
    """One model's rates on one day.

    The highest step whose start the input exceeds holds for all of the request's tokens: that is
    how providers sell long contexts.

    Attributes:
        steps: where each begins and its rates; descending by start, the last starts below zero.
        source: where the rates are from and of when.
    """

    steps: tuple[tuple[int, Rates], ...]
    source: str

    def rates_for(self, input_tokens: int) -> Rates:
        """Return the rates for a request with so many input tokens."""
        lowest = self.steps[-1][1]
        return next((rates for start, rates in self.steps if input_tokens > start), lowest)


def cost(rates: Rates, usage: TokenUsage) -> Decimal | None:
    """Return USD, to 12 digits; None when it cannot be known.

    That is: input or output not reported, parts that add up to more than their whole, absurd
    counts, or tokens of a class that has no rate at all (output of a model sold by input only).
    """
    counts = _disjoint_counts(rates, usage)
    if counts is None:
        return None
    numbers = (*counts.values(), *usage.extras.values())
    if min(numbers) < 0 or max(numbers) > _MAX_COUNT:
        return None
    total = Decimal(0)
    for name, count in counts.items():
        if not count:
            continue
        rate = rates.get(name)
        if rate is None:
            return None
        total += rate * count
    return (total.scaleb(-6) + _cost_beside_tokens(rates, usage)).quantize(_COST_DIGITS)


def _disjoint_counts(rates: Rates, usage: TokenUsage) -> dict[str, int] | None:
    """Cut the overlapping counts into one number per rate; negative where they contradict."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    counts = {"input_mtok": usage.input_tokens, "output_mtok": usage.output_tokens}

    def set_apart(part: str, whole: str, count: int | None) -> None:
        if count and part in rates:
            counts[part] = counts.get(part, 0) + count
            counts[whole] = counts.get(whole, 0) - count

    extras = usage.extras
    set_apart("cache_read_mtok", "input_mtok", usage.cache_read_tokens)
    set_apart("cache_write_mtok", "input_mtok", usage.cache_write_tokens)
    set_apart("cache_write_1h_mtok", "cache_write_mtok", extras.get("cache_write_1h_tokens"))
    if extras:
        for modality in _MODALITIES:
            heard = extras.get(f"input_{modality}_tokens", 0)
            cached = extras.get(f"cache_{modality}_read_tokens", 0)
            fresh = heard - cached if "cache_read_mtok" in rates else heard
            set_apart(f"input_{modality}_mtok", "input_mtok", fresh)
            set_apart(f"cache_{modality}_read_mtok", "cache_read_mtok", cached)
            made = extras.get(f"output_{modality}_tokens")
            set_apart(f"output_{modality}_mtok", "output_mtok", made)
    return counts


def _cost_beside_tokens(rates: Rates, usage: TokenUsage) -> Decimal:
    """Return USD for what is not counted in tokens and has a rate."""
    total = Decimal(0)
    if not usage.extras:
        return total
    searches = usage.extras.get("web_searches")
    if searches and "web_searches_kcount" in rates:
        total += (rates["web_searches_kcount"] * searches).scaleb(-3)
    seconds = usage.extras.get("input_audio_seconds")
    if seconds and "input_audio_hours" in rates:
        total += rates["input_audio_hours"] * seconds / _SECONDS_PER_HOUR
    return total
