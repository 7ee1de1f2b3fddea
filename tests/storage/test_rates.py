import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.rates import NO_USAGE, PriceList, TokenUsage, cost

RATES = {
    "input_mtok": Decimal(3),
    "cache_read_mtok": Decimal("0.3"),
    "cache_write_mtok": Decimal("3.75"),
    "cache_write_1h_mtok": Decimal(6),
    "output_mtok": Decimal(15),
    "web_searches_kcount": Decimal(10),
}


def million(*parts: tuple[int, str]) -> Decimal:
    return sum((count * Decimal(price) for count, price in parts), Decimal(0)) / 1_000_000


def test_overlapping_counts_are_cut_into_disjoint_classes():
    usage = TokenUsage(1000, 200, 300, 50, 40, extras={"cache_write_1h_tokens": 100})
    assert cost(RATES, usage) == million(
        (500, "3"), (200, "0.3"), (200, "3.75"), (100, "6"), (50, "15")
    )


def test_a_class_without_a_rate_is_charged_as_the_class_it_is_part_of():
    rates = {"input_mtok": Decimal(2), "output_mtok": Decimal(6)}
    usage = TokenUsage(1000, 200, 300, 50, extras={"input_audio_tokens": 10, "web_searches": 2})
    assert cost(rates, usage) == million((1000, "2"), (50, "6"))
    no_hour = {**RATES}
    del no_hour["cache_write_1h_mtok"]
    kept = TokenUsage(300, 0, 300, 0, extras={"cache_write_1h_tokens": 100})
    assert cost(no_hour, kept) == million((300, "3.75"))


def test_modalities_with_cached_parts():
    rates = {
        **RATES,
        "input_audio_mtok": Decimal(10),
        "cache_audio_read_mtok": Decimal(1),
        "output_image_mtok": Decimal(30),
    }
    extras = {
        "input_audio_tokens": 400,
        "cache_audio_read_tokens": 150,
        "output_image_tokens": 20,
        "input_image_tokens": 7,  # no rate: an input token like any other
    }
    usage = TokenUsage(1000, 200, 0, 50, extras=extras)
    assert cost(rates, usage) == million(
        (550, "3"), (50, "0.3"), (250, "10"), (150, "1"), (30, "15"), (20, "30")
    )
    without_cache = {"input_mtok": Decimal(3), "input_audio_mtok": Decimal(10)}
    heard = TokenUsage(1000, 200, 0, 0, extras={**extras, "output_image_tokens": 0})
    assert cost(without_cache, heard) == million((600, "3"), (400, "10"))


def test_things_beside_tokens():
    usage = TokenUsage(0, 0, 0, 0, extras={"web_searches": 3, "input_audio_seconds": 90})
    assert cost(RATES, usage) == Decimal("0.03")
    voxtral = {"input_mtok": Decimal("0.1"), "input_audio_hours": Decimal("0.24")}
    assert cost(voxtral, usage) == Decimal("0.24") * 90 / 3600


@pytest.mark.parametrize(
    "usage",
    [
        TokenUsage(),
        TokenUsage(input_tokens=5),
        TokenUsage(output_tokens=5),
        TokenUsage(100, 101, 0, 5),
        TokenUsage(100, 60, 60, 5),
        TokenUsage(100, 0, 10, 5, extras={"cache_write_1h_tokens": 11}),
    ],
)
def test_what_is_not_reported_or_contradicts_itself_has_no_cost(usage):
    assert cost(RATES, usage) is None


def test_output_of_a_model_that_is_sold_by_input_only_has_no_cost():
    rates = {"input_mtok": Decimal("0.02")}
    assert cost(rates, TokenUsage(8, None, None, 0)) == million((8, "0.02"))
    assert cost(rates, TokenUsage(8, None, None, 1)) is None


@pytest.mark.parametrize("modality", ["audio", "image", "video"])
def test_every_modality_has_rates_of_its_own(modality):
    rates = {
        **RATES,
        f"input_{modality}_mtok": Decimal(10),
        f"cache_{modality}_read_mtok": Decimal(1),
        f"output_{modality}_mtok": Decimal(30),
    }
    extras = {
        f"input_{modality}_tokens": 400,
        f"cache_{modality}_read_tokens": 150,
        f"output_{modality}_tokens": 20,
    }
    assert cost(rates, TokenUsage(1000, 200, 0, 50, extras=extras)) == million(
        (550, "3"), (50, "0.3"), (250, "10"), (150, "1"), (30, "15"), (20, "30")
    )


def test_absurd_counts_have_no_cost():
    assert cost(RATES, TokenUsage(2**40, 0, 0, 0)) == million((2**40, "3"))
    assert cost(RATES, TokenUsage(2**40 + 1, 0, 0, 0)) is None
    assert cost(RATES, TokenUsage(1, 0, 0, 0, extras={"web_searches": 2**40 + 1})) is None
    assert cost(RATES, TokenUsage(1, 0, 0, 0, extras={"web_searches": -1})) is None
    assert cost(RATES, TokenUsage(-1, 0, 0, 0)) is None


def test_contradictions_are_seen_also_where_a_class_has_no_rate():
    rates = {name: rate for name, rate in RATES.items() if name != "cache_write_mtok"}
    kept = TokenUsage(10, 0, 1, 0, extras={"cache_write_1h_tokens": 1})
    assert cost(rates, kept) is None


def test_what_was_not_counted_is_none_of_it():
    rates = {
        **RATES,
        "input_audio_mtok": Decimal(10),
        "cache_audio_read_mtok": Decimal(1),
        "input_audio_hours": Decimal(1),
    }
    usage = TokenUsage(1000, 200, 0, 50, extras={"cache_write_1h_tokens": 0})
    assert cost(rates, usage) == million((800, "3"), (200, "0.3"), (50, "15"))


def test_a_class_without_tokens_costs_nothing_and_the_others_what_they_do():
    assert cost(RATES, TokenUsage(0, 0, 0, 5)) == million((5, "15"))
    assert cost({"output_mtok": Decimal(15)}, TokenUsage(0, 0, 0, 5)) == million((5, "15"))


def test_costs_are_exact_to_twelve_digits():
    assert cost({"input_mtok": Decimal("0.000001")}, TokenUsage(1, 0, 0, 0)) == Decimal("1e-12")
    assert str(cost(RATES, TokenUsage(1000, 0, 0, 0))) == "0.003000000000"


def test_nothing_zero_and_not_reported_are_three_things():
    assert NO_USAGE.is_nothing
    assert NO_USAGE.to_json() == dict.fromkeys(
        (
            *("input_tokens", "cache_read_tokens", "cache_write_tokens"),
            *("output_tokens", "reasoning_tokens"),
        ),
        0,
    )
    assert NO_USAGE.total_tokens == 0
    assert not TokenUsage().is_nothing
    for usage in (TokenUsage(), TokenUsage(5), TokenUsage(output_tokens=5)):
        assert usage.total_tokens is None
    assert not TokenUsage(0, 0, 0, 0, 0, extras={"web_searches": 1}).is_nothing
    assert TokenUsage(1, None, None, 2).total_tokens == 3


def test_the_highest_step_that_the_input_exceeds_holds():
    low, middle, high = ({"input_mtok": Decimal(price)} for price in (1, 2, 3))
    prices = PriceList(((200, high), (100, middle), (-1, low)), "somewhere")
    found = [prices.rates_for(count) for count in (-5, 0, 100, 101, 200, 201, 10**9)]
    assert found == [low, low, low, middle, middle, high, high]


counts = st.none() | st.integers(0, 10**6)


@given(
    st.builds(
        TokenUsage,
        *[counts] * 5,
        st.none() | st.text(),
        st.dictionaries(st.text(), st.integers(0, 10**6)),
    )
)
def test_a_journal_record_holds_all_of_it(usage):
    assert TokenUsage.from_json(json.loads(json.dumps(usage.to_json()))) == usage


def test_a_record_of_a_newer_version_is_refused():
    with pytest.raises(TypeError):
        TokenUsage.from_json({"input_tokens": 1, "thought_about": 2})
