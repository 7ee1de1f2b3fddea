from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from storage.custom_prices import CustomPrices
from storage.errors import SettingsError

GOOD = """
date = 2026-01-01

[[price]]
provider = "openai"
model = "ft:gpt-4o:acme:*"
input = 3.75
output = 15
cache_read = 1.875

[[price]]
provider = "openai"
model = "ft:gpt-4o:acme:search:*"
input = 1

[[price]]
provider = "openai"
model = "FT:gpt-4o:acme:search:9"
input = 2
cache_write_1h = 8

[[price]]
provider = "openai"
model = "ft:gpt-4o:acme:search:9"
input = 5
since = 2026-03-01
"""


def load(folder: Path, text: str) -> CustomPrices:
    path = folder / "prices.toml"
    path.write_text(text)
    return CustomPrices.load(path)


def input_price(prices: CustomPrices, name: str, day: date = date(2026, 2, 1)) -> Decimal | None:
    rates = prices.find("openai", (name,), day)
    return rates and rates["input_mtok"]


def test_the_exact_name_then_the_longest_beginning_then_the_latest_day(tmp_path):
    prices = load(tmp_path, GOOD)
    assert prices.source == "custom prices.toml 2026-01-01"
    assert input_price(prices, "ft:gpt-4o:acme:chat:1") == Decimal("3.75")
    assert input_price(prices, "ft:gpt-4o:acme:search:1") == 1
    assert input_price(prices, "ft:GPT-4o:acme:search:9") == 2
    assert input_price(prices, "ft:gpt-4o:acme:search:9", date(2026, 3, 1)) == 5
    assert input_price(prices, "ft:gpt-4o:other:1") is None
    assert prices.find("mistral", ("ft:gpt-4o:acme:chat:1",), date(2026, 2, 1)) is None


def test_the_first_name_that_is_known_counts(tmp_path):
    prices = load(tmp_path, GOOD)
    rates = prices.find("openai", ("unknown", "ft:gpt-4o:acme:search:9"), date(2026, 2, 1))
    assert rates == {
        "input_mtok": 2,
        "output_mtok": 0,
        "cache_write_mtok": 2,
        "cache_write_1h_mtok": 8,
    }


ENTRY = '[[price]]\nprovider = "openai"\nmodel = "m"\ninput = 1\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("date = 2026-01-01\n[[price]\n", r"is not TOML: .*line 2"),
        (ENTRY, r"date: Field required"),
        ("date = 2026-01-01\n", r"price: Field required"),
        (
            "date = 2026-01-01\n" + ENTRY + "inptu = 2\n",
            r"price 1 inptu: unknown name; known are .*cache_",
        ),
        (
            "date = 2026-01-01\n" + ENTRY + "output = -2\n",
            r"price 1 output: .*greater than or equal to 0",
        ),
        ("date = 2026-01-01\n" + ENTRY + "output = nan\n", r"price 1 output: .*finite"),
        ("date = 2026-01-01\n" + ENTRY + 'output = "much"\n', r"price 1 output: .*decimal"),
        (
            "date = 2026-01-01\n" + ENTRY + ENTRY.replace("openai", "azure"),
            r"price 2 provider: .*'openai', 'anthropic'",
        ),
        ("date = 2026-01-01\n" + ENTRY + ENTRY, r"openai m is priced twice.*`since`"),
        ("date = 2026-01-01\n" + ENTRY.replace("1", "-1") * 9, r"; and 4 more"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, text, says):
    with pytest.raises(SettingsError, match=f"METRION_PRICES_FILE .*prices.toml.*{says}"):
        load(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file"):
        CustomPrices.load(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        CustomPrices.load(tmp_path)
    (tmp_path / "p.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is not TOML"):
        CustomPrices.load(tmp_path / "p.toml")
    (tmp_path / "p.toml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(SettingsError, match="is larger than"):
        CustomPrices.load(tmp_path / "p.toml")
