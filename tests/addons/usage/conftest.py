"""Meters a recorded answer, and prices what was found at the catalogue's prices of one day."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from addons.meter import Meter
from storage.pricing import PriceBook

METERED_ON = datetime(2026, 11, 2, 12, tzinfo=UTC)
EVENT_STREAM = "text/event-stream; charset=utf-8"

Metered = Callable[..., Meter]
CostOf = Callable[[str, Meter], Decimal | None]


@pytest.fixture(scope="session")
def metered() -> Metered:
    def meter_answer(flavour: str, body: bytes, content_type: str = "application/json") -> Meter:
        meter = Meter(flavour, content_type, "")
        meter.feed(body)
        meter.finish()
        return meter

    return meter_answer


@pytest.fixture(scope="session")
def streamed(metered: Metered) -> Metered:
    return lambda flavour, body: metered(flavour, body, EVENT_STREAM)


@pytest.fixture(scope="session")
def cost_of() -> CostOf:
    book = PriceBook()

    def cost(provider: str, meter: Meter) -> Decimal | None:
        assert meter.usage is not None
        price = book.price(provider, meter.model, meter.usage, METERED_ON)
        return price and price.cost_usd

    return cost


@pytest.fixture(scope="session")
def usd() -> Callable[..., Decimal]:
    """Hand-computed cost: pairs of a count and the price in USD per million of it."""

    def total(*parts: tuple[int, str]) -> Decimal:
        return (
            sum((Decimal(count) * Decimal(price) for count, price in parts), Decimal(0)) / 1_000_000
        )

    return total
