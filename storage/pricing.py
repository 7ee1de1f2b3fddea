"""What a request cost, in USD: list prices from the genai-prices package, or the operator's own.

Prices are looked up in the recorder's thread, never on a request's way. Not priced, because the
catalogue has no price or the answer no count for it: file and web searches other than Anthropic's,
cached content kept by the hour (Gemini), Anthropic's regional surcharge (`inference_geo`) and
the tokens of its advisor model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import genai_prices
from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

from storage.custom_prices import CustomPrices
from storage.rates import NO_USAGE, Rates, TokenUsage, cost

__all__ = ["NO_USAGE", "Price", "PriceBook", "TokenUsage"]

_CATALOGUE_NAMES = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "google",
    "mistral": "mistral",
    "grok": "x-ai",
}
_USUAL_TIERS = {"auto", "default", "standard", "on_demand"}
_MAX_MODEL_NAME = 200
_REMEMBERED_MODELS = 4096


@dataclass(frozen=True, slots=True)
class Price:
    """What a request cost.

    Attributes:
        cost_usd: US dollars, to 12 digits.
        source: where the price is from and of when, such as `genai-prices 0.2.3`.
    """

    cost_usd: Decimal
    source: str


@dataclass(frozen=True, slots=True)
class _PriceList:
    """One model's rates on one day.

    The highest step whose start the input exceeds holds for all of the request's tokens: that is
    how providers sell long contexts.
    """

    steps: tuple[tuple[int, Rates], ...]  # descending by start; the last starts below zero
    source: str

    def rates_for(self, input_tokens: int) -> Rates:
        lowest = self.steps[-1][1]
        return next((rates for start, rates in self.steps if input_tokens > start), lowest)


class PriceBook:
    """Prices of all providers; safe to use from several threads.

    A model is looked up once per day and service tier and then remembered (at most 4,096 of them).
    """

    def __init__(self, prices_file: Path | None = None) -> None:
        """Read the operator's own prices, if there are any.

        Raises:
            SettingsError: the file is wrong; the message says how to mend it.
        """
        self._custom = CustomPrices.load(prices_file) if prices_file else None
        self._source = f"genai-prices {genai_prices.__version__}"
        # Per instance, not per class: the operator's prices belong to this one.
        self._find: Callable[[str, str, str, date], _PriceList | None] = lru_cache(
            _REMEMBERED_MODELS
        )(self._look_up)

    def warm(self) -> None:
        """Load the catalogue, which takes half a second the first time."""
        get_snapshot()

    def price(
        self, provider: str, model: str | None, usage: TokenUsage, at: datetime
    ) -> Price | None:
        """Return what `usage` cost; None if that is not known.

        Args:
            provider: Metrion's name of the provider, such as `grok`.
            model: as the provider returned it (a dated snapshot finds its model).
            usage: what was used.
            at: when; prices change by the day (UTC). Without time zone: UTC.
        """
        if usage.is_nothing:
            return Price(Decimal(0), "nothing used")
        if model is None or len(model) > _MAX_MODEL_NAME or usage.input_tokens is None:
            return None
        day = (at.astimezone(UTC) if at.tzinfo else at).date()
        tier = (usage.service_tier or "").lower()
        price_list = self._find(provider, model, tier, day)
        if price_list is None:
            return None
        rates = price_list.rates_for(usage.input_tokens)
        if usage.extras and provider == "openai" and _has_unpriced_audio(rates, usage):
            return None
        amount = cost(rates, usage)
        return None if amount is None else Price(amount, price_list.source)

    def _look_up(self, provider: str, model: str, tier: str, day: date) -> _PriceList | None:
        name = model.removeprefix("models/")  # Gemini's resource names
        snapshot = get_snapshot()
        catalogue = _catalogue_of(snapshot, provider)
        listed = catalogue.find_model(name, all_providers=snapshot.providers) if catalogue else None
        if self._custom:
            names = (name, listed.id) if listed else (name,)
            own = self._custom.find(provider, names, day)
            if own is not None:
                return _PriceList(((-1, own),), self._custom.source)
        if catalogue is None or listed is None:
            return None
        return self._from_catalogue(catalogue, listed, tier, day)

    def _from_catalogue(
        self, catalogue: Provider, model: ModelInfo, tier: str, day: date
    ) -> _PriceList | None:
        # No provider of ours has prices that depend on the time of day; a test watches that.
        moment = datetime.combine(day, time(12), UTC)
        context: dict[str, str] = {}
        source = self._source
        if tier and tier not in _USUAL_TIERS:
            if _lists_tier(catalogue, model, tier, moment):
                context = _tier_context(tier)
            else:
                source = f"{source} ({tier} tier not listed: standard price)"
        prices = model.get_prices(moment, context)
        steps = _steps(prices)
        return _PriceList(steps, source) if steps else None


def _catalogue_of(snapshot: DataSnapshot, provider: str) -> Provider | None:
    wanted = _CATALOGUE_NAMES.get(provider)
    return next((p for p in snapshot.providers if p.id == wanted), None)


def _tier_context(tier: str) -> dict[str, str]:
    """The catalogue files tiers under three headings, with no name under two of them."""
    return {"service_tier": tier, "speed": tier, "processing": tier}


def _lists_tier(catalogue: Provider, model: ModelInfo, tier: str, moment: datetime) -> bool:
    # A model borrowed from another provider's list has that provider's tiers, not this one's.
    if not any(model is own for own in catalogue.models):
        return False
    context = _tier_context(tier)
    return any(
        (variant.constraint is None or variant.constraint.active(moment))
        and all(context.get(key) == value for key, value in variant.when.items())
        for variant in model.price_variants or ()
    )


def _steps(prices: ModelPrice) -> tuple[tuple[int, Rates], ...]:
    """Spell a model's tiered prices out: one set of plain rates per range of input tokens."""
    # The attributes of a ModelPrice are its prices by name; it offers no other way to list them.
    named: dict[str, Decimal | TieredPrices] = {
        name: price for name, price in vars(prices).items() if price is not None
    }
    if "input_mtok" not in named:
        return ()  # sold by the minute, the page or the character
    starts = {
        tier.start
        for price in named.values()
        if isinstance(price, TieredPrices)
        for tier in price.tiers
    }
    return tuple(
        (start, {name: _rate_above(price, start) for name, price in named.items()})
        for start in sorted({-1, *starts}, reverse=True)
    )


def _rate_above(price: Decimal | TieredPrices, start: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    reached = [tier for tier in price.tiers if tier.start <= start]
    return max(reached, key=lambda tier: tier.start).price if reached else price.base


def _has_unpriced_audio(rates: Rates, usage: TokenUsage) -> bool:
    """OpenAI's audio costs a multiple of its text; Google lists audio only where it differs."""
    return any(
        usage.extras.get(f"{way}_audio_tokens") and f"{way}_audio_mtok" not in rates
        for way in ("input", "output")
    )
