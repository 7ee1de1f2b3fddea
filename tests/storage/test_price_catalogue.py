"""That a book finds these prices, by any name of a model and tier: tests/storage/test_pricing.py."""

from datetime import UTC, datetime
from decimal import Decimal

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
    Usage,
)
from hypothesis import given
from hypothesis import strategies as st

from storage import price_catalogue
from storage.price_catalogue import ListedModel, find_model
from storage.rates import TokenUsage, cost

DAY = datetime(2026, 11, 2, 12, tzinfo=UTC)
OURS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "google",
    "mistral": "mistral",
    "grok": "x-ai",
}


def listed_models() -> list[tuple[str, ModelInfo]]:
    by_id = {provider.id: provider for provider in get_snapshot().providers}
    return [(ours, model) for ours, theirs in OURS.items() for model in by_id[theirs].models]


def test_no_price_of_ours_depends_on_the_time_of_day():
    # PriceBook remembers prices by the day
    for _, model in listed_models():
        conditions = model.prices if isinstance(model.prices, list) else []
        for part in (*conditions, *(model.price_variants or ())):
            assert not isinstance(part.constraint, TimeOfDateConstraint), model.id


def sold_by_tokens(model: ModelInfo) -> bool:
    return "input_mtok" in vars(model.get_prices(DAY))


@given(
    st.sampled_from([pair for pair in listed_models() if sold_by_tokens(pair[1])]),
    st.data(),
)
def test_every_model_costs_what_genai_prices_computes(pair, data):
    provider, model = pair
    prices = model.get_prices(DAY)
    draw = lambda most: data.draw(st.integers(0, most))  # noqa: E731
    heard = draw(300_000)
    heard_cached = draw(heard)
    read = heard_cached + draw(300_000)
    written = draw(300_000)
    fresh = heard - heard_cached + draw(300_000)
    kept_long = draw(written)
    drawn = draw(5000)
    outputs = drawn + draw(50_000) if "output_mtok" in vars(prices) else 0
    drawn = min(drawn, outputs)
    counts = {
        "input_tokens": fresh + read + written,
        "output_tokens": outputs,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": kept_long,
        "input_audio_tokens": heard,
        "cache_audio_read_tokens": heard_cached,
        "output_image_tokens": drawn,
        "web_searches": draw(20),
    }
    usage = TokenUsage(
        counts["input_tokens"],
        read,
        written,
        outputs,
        extras={name: counts[name] for name in list(counts)[4:]},
    )
    ours = ListedModel(_provider(provider), model).price_list("", DAY.date())
    expected = prices.calc_price(Usage(**counts))["total_price"]
    rates = ours.rates_for(counts["input_tokens"])
    assert cost(rates, usage) == expected.quantize(Decimal("1e-12"))


def _provider(ours: str):
    return next(p for p in get_snapshot().providers if p.id == OURS[ours])


def test_conditional_prices_are_of_known_kinds():
    # what `price_list` relies on
    for _, model in listed_models():
        assert isinstance(model.prices, ModelPrice) or all(
            isinstance(part, ConditionalPrice) for part in model.prices
        )


def test_who_is_not_listed_is_not_found():
    assert find_model("nobody", "gpt-4o") is None
    assert find_model("openai", "no such model") is None
    assert find_model("openai", "gpt-4o").model.id == "gpt-4o"


def test_a_borrowed_model_has_no_tiers():
    # Google sells Anthropic's models, too, but not faster
    for provider, is_listed in (("anthropic", True), ("gemini", False)):
        found = find_model(provider, "claude-mythos-5-2")
        assert ("not listed" not in found.price_list("fast", DAY.date()).source) == is_listed


def made_up(prices: ModelPrice, *variants: PriceVariant) -> ListedModel:
    model = ModelInfo("m", ClauseEquals("m"), prices=prices, price_variants=list(variants))
    return ListedModel(Provider("p", "P", "p", models=[model]), model)


def test_each_price_has_steps_of_its_own():
    prices = ModelPrice(
        input_mtok=TieredPrices(Decimal(1), [Tier(100, Decimal(2)), Tier(200, Decimal(3))]),
        output_mtok=TieredPrices(Decimal(10), [Tier(150, Decimal(20))]),
        cache_read_mtok=None,
    )
    found = made_up(prices).price_list("", DAY.date())
    rates = [found.rates_for(count) for count in (0, 100, 101, 151, 201)]
    assert [(int(each["input_mtok"]), int(each["output_mtok"])) for each in rates] == [
        *((1, 10), (1, 10)),
        *((2, 10), (2, 20), (3, 20)),
    ]
    assert set(rates[0]) == {"input_mtok", "output_mtok"}


def test_a_tier_sold_under_further_conditions_is_another():
    prices = ModelPrice(input_mtok=Decimal(1))
    for when, is_listed in (
        ({"service_tier": "flex"}, True),
        ({"service_tier": "flex", "region": "eu"}, False),
    ):
        model = made_up(prices, PriceVariant(when, ModelPrice(input_mtok=Decimal(5))))
        source = model.price_list("flex", DAY.date()).source
        assert ("not listed" not in source) == is_listed


def test_what_is_loaded_is_the_catalogue(monkeypatch):
    loaded = []
    monkeypatch.setattr(price_catalogue, "get_snapshot", lambda: loaded.append(True))
    price_catalogue.load()
    assert loaded
