"""The list prices of the genai-prices package.

Apart from `storage.pricing`, which imports this when the first price is wanted: package and prices
take half a second, which no process spends that prices nothing.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal

import genai_prices
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

from storage.rates import PriceList, Rates

_NAMES = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "google",
    "mistral": "mistral",
    "grok": "x-ai",
}
_USUAL_TIERS = {"auto", "default", "standard", "on_demand"}
_SOURCE = f"genai-prices {genai_prices.__version__}"


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that has a price.

    Attributes:
        catalogue: the provider's, in which it was looked for.
        model: found there, or borrowed from another provider's.
    """

    catalogue: Provider
    model: ModelInfo

    def price_list(self, tier: str, day: date) -> PriceList | None:
        """Return its rates; None if it is not sold by tokens.

        Args:
            tier: the service tier in lower case, or nothing.
            day: of the request.
        """
        # No provider of ours has prices that depend on the time of day; a test watches that.
        moment = datetime.combine(day, time(12), UTC)
        context: dict[str, str] = {}
        source = _SOURCE
        if tier and tier not in _USUAL_TIERS:
            if _lists_tier(self.catalogue, self.model, tier, moment):
                context = _tier_context(tier)
            else:
                source = f"{source} ({tier} tier not listed: standard price)"
        steps = _steps(self.model.get_prices(moment, context))
        return PriceList(steps, source) if steps else None


def load() -> None:
    """Read the prices, which takes a quarter of a second the first time."""
    get_snapshot()


def find_model(provider: str, name: str) -> ListedModel | None:
    """Return what is listed under Metrion's name of a provider and any name of a model."""
    snapshot = get_snapshot()
    wanted = _NAMES.get(provider)
    catalogue = next((each for each in snapshot.providers if each.id == wanted), None)
    if catalogue is None:
        return None
    model = catalogue.find_model(name, all_providers=snapshot.providers)
    return None if model is None else ListedModel(catalogue, model)


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
