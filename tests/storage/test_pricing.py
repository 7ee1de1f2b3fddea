from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import price_catalogue
from storage.pricing import NO_USAGE, Price, PriceBook, TokenUsage

DAY = datetime(2026, 11, 2, 12, tzinfo=UTC)
SOURCE = f"genai-prices {genai_prices.__version__}"


@pytest.fixture(scope="module")
def book() -> PriceBook:
    made = PriceBook()
    made.warm()
    return made


def million(*parts: tuple[int, str]) -> Decimal:
    return sum((count * Decimal(price) for count, price in parts), Decimal(0)) / 1_000_000


@pytest.mark.parametrize(
    ("provider", "model", "price_in", "price_out"),
    [
        ("openai", "gpt-4o", "2.5", "10"),
        ("openai", "gpt-4o-2024-08-06", "2.5", "10"),
        ("openai", "gpt-5-2025-08-07", "1.25", "10"),
        ("openai", "GPT-4o-mini-2024-07-18", "0.15", "0.6"),
        ("anthropic", "claude-sonnet-4-20250514", "3", "15"),
        ("anthropic", "claude-haiku-4-5-20251001", "1", "5"),
        ("anthropic", "claude-3-5-haiku-20241022", "0.8", "4"),
        ("gemini", "gemini-2.5-flash", "0.3", "2.5"),
        ("gemini", "models/gemini-2.5-flash", "0.3", "2.5"),
        ("mistral", "mistral-large-2411", "2", "6"),
        ("mistral", "mistral-small-2506", "0.1", "0.3"),
        ("grok", "grok-4-0709", "3", "15"),
        ("grok", "grok-4.20-0309-reasoning", "1.25", "2.5"),
    ],
)
def test_dated_snapshots_find_their_model(book, provider, model, price_in, price_out):
    price = book.price(provider, model, TokenUsage(1000, None, None, 200), DAY)
    assert price == Price(million((1000, price_in), (200, price_out)), SOURCE)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-of-the-future"),
        ("openai", "claude-sonnet-4-20250514"),
        ("openai", "tts-1"),  # sold by the character
        ("openai", ""),
        ("openai", "x" * 100_000),
        ("openai", None),
        ("nobody", "gpt-4o"),
    ],
)
def test_what_is_not_known_has_no_price(book, provider, model):
    assert book.price(provider, model, TokenUsage(1000, None, None, 200), DAY) is None


def test_usage_that_was_not_reported_has_no_price(book):
    for usage in (TokenUsage(), TokenUsage(1000), TokenUsage(output_tokens=5)):
        assert book.price("openai", "gpt-4o", usage, DAY) is None


def test_nothing_used_costs_nothing_whatever_the_model(book):
    for model in ("gpt-4o", "gpt-of-the-future", None):
        assert book.price("openai", model, NO_USAGE, DAY) == Price(Decimal(0), "nothing used")


def test_steps_for_long_contexts_hold_for_all_tokens(book):
    def cost(tokens):
        return book.price("gemini", "gemini-2.5-pro", TokenUsage(tokens, 0, None, 10), DAY).cost_usd

    assert cost(200_000) == million((200_000, "1.25"), (10, "10"))
    assert cost(200_001) == million((200_001, "2.5"), (10, "15"))


def test_the_price_of_the_day_counts(book):
    usage = TokenUsage(1000, 0, 0, 0)
    before = datetime(2025, 6, 9, 23, 59, 59, tzinfo=UTC)
    after = before + timedelta(seconds=1)
    assert book.price("openai", "o3-2025-04-16", usage, before).cost_usd == million((1000, "10"))
    assert book.price("openai", "o3-2025-04-16", usage, after).cost_usd == million((1000, "2"))
    # the same moments, written in another time zone, or without one
    tokyo = timezone(timedelta(hours=9))
    for moment in (before, after):
        price = book.price("openai", "o3-2025-04-16", usage, moment)
        assert book.price("openai", "o3-2025-04-16", usage, moment.astimezone(tokyo)) == price
        assert book.price("openai", "o3-2025-04-16", usage, moment.replace(tzinfo=None)) == price


def test_tiers_the_catalogue_lists_and_those_it_does_not(book):
    def price(tier):
        return book.price("openai", "gpt-5", TokenUsage(1000, 0, 0, 100, service_tier=tier), DAY)

    standard = Price(million((1000, "1.25"), (100, "10")), SOURCE)
    assert price(None) == price("default") == price("auto") == standard
    assert price("flex") == Price(million((1000, "0.625"), (100, "5")), SOURCE)
    assert price("Priority") == Price(million((1000, "2.5"), (100, "20")), SOURCE)
    assert price("scale") == Price(
        standard.cost_usd, f"{SOURCE} (scale tier not listed: standard price)"
    )


@pytest.mark.parametrize("tier", ["auto", "default", "standard", "on_demand", "Default"])
def test_the_usual_tier_need_not_be_listed(book, tier):
    # of this model only batches are
    price = book.price("openai", "gpt-4", TokenUsage(1000, 0, 0, 100, service_tier=tier), DAY)
    assert price.source == SOURCE


def test_a_tier_counts_from_the_day_on_which_it_is_listed(book):
    def price(provider, model, tier, at=DAY):
        return book.price(provider, model, TokenUsage(1000, 0, 0, 0, service_tier=tier), at)

    standard = price("anthropic", "claude-haiku-4-5", None)
    batch = price("anthropic", "claude-haiku-4-5", "batch")
    assert batch == Price(standard.cost_usd / 2, SOURCE)
    before = datetime(2026, 10, 13, tzinfo=UTC)
    assert price("anthropic", "claude-haiku-4-5", "batch", before) == Price(
        standard.cost_usd, f"{SOURCE} (batch tier not listed: standard price)"
    )
    # by Anthropic's name for it
    fast, usual = (price("anthropic", "claude-opus-5", tier) for tier in ("fast", None))
    assert fast.source == SOURCE
    assert fast.cost_usd > usual.cost_usd
    # a model without any
    assert "not listed" in price("openai", "gpt-audio", "scale").source


def test_audio_of_openai_without_a_rate_of_its_own_has_no_price(book):
    def price(provider, model, way):
        usage = TokenUsage(1000, 0, 0, 100, extras={f"{way}_audio_tokens": 5})
        return book.price(provider, model, usage, DAY)

    for way in ("input", "output"):
        assert price("openai", "gpt-4o", way) is None
        assert price("openai", "gpt-audio", way) is not None
        # of others it is text, unless the catalogue says more
        assert price("mistral", "mistral-large-2411", way) is not None
    usage = TokenUsage(1000, 0, 0, 100, extras={"web_searches": 1})
    assert book.price("openai", "gpt-4o", usage, DAY) is not None


def test_a_model_has_a_name_of_200_characters_at_most(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text(f"""
date = 2026-10-01
[[price]]
provider = "openai"
model = "{"x" * 200}"
input = 1
output = 1
""")
    book = PriceBook(path)
    usage = TokenUsage(1000, 0, 0, 0)
    assert book.price("openai", "x" * 200, usage, DAY) is not None
    assert book.price("openai", "x" * 201, usage, DAY) is None
    assert book._find.cache_info().currsize == 1  # a longer one is not even remembered


def test_it_remembers_4096_models(book):
    assert book._find.cache_info().maxsize == 4096


def test_a_warm_book_has_its_catalogue(monkeypatch):
    loaded = []
    monkeypatch.setattr(price_catalogue, "load", lambda: loaded.append(True))
    PriceBook().warm()
    assert loaded


def test_own_prices_go_before_the_catalogue(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text("""
date = 2026-10-01
[[price]]
provider = "openai"
model = "gpt-4o"
input = 2
output = 8
since = 2026-10-15
[[price]]
provider = "mistral"
model = "our-own-model"
input = 0.5
output = 0.5
""")
    book = PriceBook(path)
    usage = TokenUsage(1000, 400, None, 100)
    own = Price(million((1000, "2"), (100, "8")), "custom prices.toml 2026-10-01")
    assert book.price("openai", "gpt-4o", usage, DAY) == own
    assert book.price("openai", "gpt-4o-2024-08-06", usage, DAY) == own
    listed = million((600, "2.5"), (400, "1.25"), (100, "10"))
    assert (
        book.price("openai", "gpt-4o", usage, datetime(2026, 10, 1, tzinfo=UTC)).cost_usd == listed
    )
    assert book.price("openai", "gpt-4o-mini", usage, DAY).source == SOURCE
    assert book.price("mistral", "our-own-model", usage, DAY).cost_usd == million((1100, "0.5"))


@given(
    st.sampled_from(["openai", "gemini", "x"]),
    st.text() | st.sampled_from(["gpt-4o", "gemini-2.5-flash"]),
    st.builds(
        TokenUsage,
        *[st.none() | st.integers()] * 5,
        st.none() | st.text(),
        st.dictionaries(
            st.sampled_from(["input_audio_tokens", "web_searches", "cache_write_1h_tokens"]),
            st.integers(),
        ),
    ),
)
def test_odd_input_never_raises(book, provider, model, usage):
    book.price(provider, model, usage, DAY)
