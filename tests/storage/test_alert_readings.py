from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from storage.alert_readings import MOST_MOMENTS, per_usd, read, read_courses, spent_today
from storage.alert_rules import Definition, Period, Rule, Spent
from storage.identifiers import uuid7
from storage.settings import Settings

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
RATES = {"usd": Decimal(1), "eur": Decimal("0.8"), "chf": Decimal("0.5")}
MONTH = Period("month")
DAY = timedelta(days=1)


def rule(type_, unit, period, providers=(), **values) -> Rule:
    definition = Definition(type_, unit, Decimal(100), period, providers=providers)
    return Rule(uuid7(), definition, values.pop("created_at", NOW), **values)


@pytest.fixture
async def account(new_account, writer, log_row):
    """Requests of three providers in February and March."""
    account = await new_account("pro")
    values = (
        (NOW - 15 * DAY, {"cost_usd": "7"}),
        (NOW - 9 * DAY, {"cost_usd": "1"}),
        (NOW - 3 * DAY, {"cost_usd": "2", "latency_ms": 1000.0}),
        (NOW - timedelta(hours=3), {"cost_usd": "4", "provider": "anthropic", "status": 500}),
        (NOW, {"cost_usd": None, "provider": "gemini"}),
    )
    writer.write([log_row(account.id, at, **changes) for at, changes in values])
    return account


async def readings(database, account, *rules, now=NOW):
    async with database.account(account.id) as connection:
        found = await read(connection, rules, RATES, now)
    return [found[each.id] for each in rules]


async def test_a_budget_is_what_its_days_and_providers_cost_at_the_fixed_rate(api, account):
    rules = [
        rule("budget", "usd", MONTH),
        rule("budget", "eur", MONTH),
        rule("budget", "chf", MONTH, ("openai", "anthropic")),
        rule("budget", "usd", Period("since", date(2026, 2, 20))),
        rule("budget", "usd", MONTH, ("gemini",)),
        rule("budget", "usd", MONTH, ("mistral",)),
        rule("budget", "usd", Period("since", date(2026, 4, 1))),
    ]
    found = await readings(api, account, *rules)
    assert [(each.value, each.is_at_least, each.reason) for each in found] == [
        (Decimal(7), True, None),
        (Decimal("5.6"), True, None),
        (Decimal("3.5"), False, None),
        (Decimal(14), True, None),
        (None, False, "unknown_prices"),
        (None, False, "no_data"),
        (None, False, "not_begun"),
    ]
    assert found[0].unknown == 1
    assert found[0].requests == 4


async def test_since_it_was_made_leaves_out_what_the_day_had_cost_before(
    api, account, writer, log_row
):
    async with api.account(account.id) as connection:
        before = await spent_today(connection, NOW)
    assert before == {
        "anthropic": Spent(Decimal(4), 0, 1),
        "gemini": Spent(Decimal(0), 1, 1),
    }
    made_now = [
        rule("budget", "usd", Period("created"), providers, spent_before=before)
        for providers in ((), ("anthropic",), ("gemini",))
    ]
    found = await readings(api, account, *made_now)
    assert [each.reason for each in found] == ["no_data"] * 3
    writer.write([log_row(account.id, NOW, cost_usd="3", provider="anthropic")])
    writer.write([log_row(account.id, NOW + DAY, cost_usd="5")])
    found = await readings(api, account, *made_now, now=NOW + DAY)
    assert [each.value for each in found] == [Decimal(8), Decimal(3), None]
    assert not found[0].is_at_least


async def test_the_other_types_count_requests(api, account):
    whole_month = Period("dates", date(2026, 3, 1), date(2026, 3, 31))
    rules = [
        rule("error_rate", "percent", whole_month),
        rule("error_rate", "count", whole_month),
        rule("error_rate", "count", whole_month, ("openai",)),
        rule("request_volume", "count", whole_month),
        rule("request_volume", "count", Period("rolling", hours=1)),
        rule("request_volume", "count", Period("rolling", hours=6)),
        rule("request_volume", "count", Period("rolling", hours=168)),
    ]
    found = await readings(api, account, *rules)
    assert [each.value for each in found] == [25, 1, 0, 4, 1, 2, 3]


async def test_latency_comes_from_the_histograms(api, account):
    rules = [
        rule("latency_p95", "ms", Period("rolling", hours=168)),
        rule("latency_p95", "ms", Period("rolling", hours=168), ("anthropic",)),
        rule("latency_p95", "ms", Period("rolling", hours=6)),
        rule("latency_p95", "ms", Period("rolling", hours=6), ("mistral",)),
    ]
    all_week, one_provider, hours, none = await readings(api, account, *rules)
    assert float(all_week.value) == pytest.approx(1000, rel=0.2)
    assert all_week.requests == 3
    assert float(one_provider.value) == pytest.approx(250.5, rel=0.2)
    assert float(hours.value) == pytest.approx(250.5, rel=0.2)
    assert hours.requests == 2
    assert none.reason == "no_data"


async def test_what_has_ended_has_a_value_and_is_not_judged(api, account):
    past = Period("dates", date(2026, 3, 1), date(2026, 3, 7))
    (found,) = await readings(api, account, rule("request_volume", "count", past))
    assert (found.value, found.reason) == (2, "ended")


async def test_the_course_of_a_budget_rises_and_others_are_moment_by_moment(api, account):
    rules = [
        rule("budget", "eur", MONTH),
        rule("request_volume", "count", Period("rolling", hours=6)),
        rule("error_rate", "percent", Period("dates", date(2026, 3, 7), date(2026, 3, 10))),
        rule("latency_p95", "ms", Period("rolling", hours=168)),
        rule("budget", "usd", Period("since", date(2025, 6, 1))),
    ]
    async with api.account(account.id) as connection:
        found = await read_courses(connection, rules, RATES, NOW)
    budget, volume, errors, latency, long = [found[each.id] for each in rules]
    assert list(budget.values) == pytest.approx([0.8] * 6 + [2.4] * 3 + [5.6])
    assert list(volume.values) == [0, 0, 1, 0, 0, 1]
    assert list(errors.values) == [0, None, None, 50]
    assert [value is None for value in latency.values] == [True] * 3 + [False] + [True] * 2 + [
        False
    ]
    assert len(long.values) == len(long.window.moments) == MOST_MOMENTS
    assert long.values[-1] == 14


def test_the_rates_are_those_of_the_settings():
    settings = Settings(eur_per_usd=Decimal("0.9"), chf_per_usd=Decimal("0.7"))
    assert per_usd(settings) == {"usd": 1, "eur": Decimal("0.9"), "chf": Decimal("0.7")}
