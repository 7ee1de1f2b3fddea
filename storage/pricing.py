"""What a request cost, in USD: list prices from the genai-prices package, or the operator's own.

Prices are looked up in the recorder's thread, never on a request's way. Not priced, because the
catalogue has no price or the answer no count for it: file and web searches other than Anthropic's,
cached content kept by the hour (Gemini), Anthropic's regional surcharge (`inference_geo`) and
the tokens of its advisor model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from storage.custom_prices import CustomPrices
from storage.rates import NO_USAGE, PriceList, Rates, TokenUsage, cost

__all__ = ["NO_USAGE", "Price", "PriceBook", "TokenUsage"]

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
        # Per instance, not per class: the operator's prices belong to this one.
        self._find: Callable[[str, str, str, date], PriceList | None] = lru_cache(
            _REMEMBERED_MODELS
        )(self._look_up)

    def warm(self) -> None:
        """Load the catalogue, which takes half a second the first time."""
        from storage import price_catalogue  # noqa: PLC0415 - see its docstring

        price_catalogue.load()

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

    def _look_up(self, provider: str, model: str, tier: str, day: date) -> PriceList | None:
        from storage import price_catalogue  # noqa: PLC0415 - see its docstring

        name = model.removeprefix("models/")  # Gemini's resource names
        listed = price_catalogue.find_model(provider, name)
        if self._custom:
            names = (name, listed.model.id) if listed else (name,)
            own = self._custom.find(provider, names, day)
            if own is not None:
                return PriceList(((-1, own),), self._custom.source)
        return None if listed is None else listed.price_list(tier, day)


def _has_unpriced_audio(rates: Rates, usage: TokenUsage) -> bool:
    """OpenAI's audio costs a multiple of its text; Google lists audio only where it differs."""
    return any(
        usage.extras.get(f"{way}_audio_tokens") and f"{way}_audio_mtok" not in rates
        for way in ("input", "output")
    )
