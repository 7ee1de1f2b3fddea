from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import ValidationError

from api.alert_models import NewRule, RuleChange, RulePeriod, RuleView
from storage.alert_judgement import Reading
from storage.alert_readings import Course
from storage.alert_rules import Definition, Memory, Period, Rule
from storage.filters import Window
from storage.identifiers import uuid7

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
BUDGET = Definition("budget", "chf", Decimal("0.1"), Period("since", date(2026, 1, 1)), "Ours")
COURSE = Course(Window(NOW, NOW + timedelta(hours=1), "hour"), [None])


def view(reading: Reading, *, paused: bool = False, **memory) -> RuleView:
    rule = Rule(uuid7(), BUDGET, NOW, paused, memory=Memory(**memory))
    return RuleView.of(rule, reading, COURSE, [], NOW)


def test_thresholds_are_exact():
    for written in (0.1, 1e-6, 19.99, 123456789.123456):
        new = NewRule(type="budget", threshold=written)
        assert str(new.definition().threshold) == str(Decimal(repr(written)))


def test_what_a_change_leaves_out_stays():
    assert RuleChange().definition(BUDGET) == BUDGET
    changed = RuleChange.model_validate(
        {"name": "", "providers": ["openai"], "period": {"kind": "month"}}
    ).definition(BUDGET)
    assert changed == Definition("budget", "chf", Decimal("0.1"), Period("month"), "", ("openai",))


def test_another_type_brings_its_usual_unit_and_period():
    changed = RuleChange(type="latency_p95", threshold=250).definition(BUDGET)
    assert (changed.unit, changed.period) == ("ms", Period("rolling", hours=24))
    assert RuleChange(type="budget").definition(BUDGET) == BUDGET


def test_a_period_is_written_with_from_and_to():
    period = Period("dates", date(2026, 1, 1), date(2026, 1, 2))
    shown = RulePeriod.of(period)
    assert shown.model_dump(by_alias=True)["from"] == date(2026, 1, 1)
    assert shown.kept() == period
    with pytest.raises(ValidationError):
        RulePeriod.model_validate({"kind": "month", "other": 1})


def test_how_long_a_level_stays_quiet():
    over = Reading(Decimal(1), 1)
    assert view(over).quiet_until is None
    sent_at = NOW - timedelta(hours=4)
    assert view(over, alert_sent_at=sent_at).quiet_until == NOW + timedelta(hours=20)
    assert view(over, warning_sent_at=sent_at).quiet_until is None
    assert view(over, alert_sent_at=NOW - timedelta(hours=24)).quiet_until is None
    assert view(Reading(Decimal(0), 1), alert_sent_at=sent_at).quiet_until is None


def test_a_state_is_a_word():
    assert view(Reading(Decimal("0.05"), 1)).present.state == "ok"
    assert view(Reading(None, 0, reason="not_begun")).present.state == "not_begun"
    assert view(Reading(Decimal(5), 1, reason="ended")).present.value == 5
    assert view(Reading(Decimal(5), 1), paused=True).present.state == "paused"
