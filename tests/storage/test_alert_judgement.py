"""Rules with a clock that is told the time."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.alert_judgement import (
    COOLDOWN,
    TEST_COOLDOWN,
    Reading,
    judge,
    level_of,
    may_test,
    read_budget,
    read_count,
    read_errors,
    read_latency,
)
from storage.alert_rules import Definition, Period, Rule, Spent
from storage.identifiers import uuid7

START = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MONTH = Period("month")
ROLLING = Period("rolling", hours=24)


def rule(period: Period = MONTH, threshold: int = 100) -> Rule:
    if period.kind == "month":
        definition = Definition("budget", "usd", Decimal(threshold), period)
    else:
        definition = Definition("request_volume", "count", Decimal(threshold), period)
    return Rule(uuid7(), definition, START)


class Watched:
    """A rule, and what became of it look by look."""

    def __init__(self, each: Rule) -> None:
        self.rule = each
        self.mails: list[tuple[datetime, str]] = []
        self.levels: list[str | None] = []

    def look(self, at: datetime, value: object) -> str | None:
        """Look at the rule; returns the level that is mailed."""
        reading = (
            Reading(None, reason="no_data") if value is None else Reading(Decimal(str(value)), 1)
        )
        verdict = judge(self.rule, reading, at)
        self.rule = replace(self.rule, memory=verdict.memory)
        self.levels.append(verdict.level)
        if verdict.mail is not None:
            self.mails.append((at, verdict.mail))
        return verdict.mail

    def looks(self, steps: Iterable[tuple[float, object]]) -> list[str | None]:
        """Look at some hours after the start."""
        return [self.look(START + hours * HOUR, value) for hours, value in steps]


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (0, "none"),
        ("89.999999", "none"),
        (90, "warning"),
        ("99.999999", "warning"),
        (100, "alert"),
        (10**9, "alert"),
    ],
)
def test_levels_are_reached_at_90_and_100_percent(value, level):
    assert level_of(rule(), Reading(Decimal(str(value)))) == level


def test_crossing_both_levels_one_after_the_other_is_two_mails():
    looked = Watched(rule()).looks([(0, 10), (1, 90), (2, 95), (3, 100), (4, 200), (5, 201)])
    assert looked == [None, "warning", None, "alert", None, None]


def test_who_jumps_over_both_gets_one_mail_and_none_on_the_way_down():
    looked = Watched(rule(ROLLING)).looks([(0, 10), (1, 150), (2, 95), (3, 80)])
    assert looked == [None, "alert", None, None]


def test_what_lasts_is_mailed_again_after_a_day():
    looked = Watched(rule()).looks([(0, 150), (23.99, 160), (24, 160), (47.99, 170), (49, 170)])
    assert looked == ["alert", None, "alert", None, "alert"]
    looked = Watched(rule(ROLLING)).looks([(0, 150), (1, 95), (24, 95), (25, 95), (48, 96)])
    assert looked == ["alert", None, "warning", None, "warning"]


def test_what_is_reached_anew_too_soon_waits_and_is_not_lost():
    watched = Watched(rule(ROLLING))
    assert watched.looks([(0, 150), (1, 10), (2, 120)]) == ["alert", None, None]
    assert watched.rule.memory.look_at == START + COOLDOWN
    assert watched.look(START + COOLDOWN, 120) == "alert"
    assert watched.rule.memory.look_at is None


def test_what_waits_and_no_longer_holds_is_not_mailed():
    watched = Watched(rule(ROLLING))
    assert watched.looks([(0, 150), (1, 10), (2, 120), (3, 10)]) == ["alert", None, None, None]
    assert watched.rule.memory.look_at is None
    watched = Watched(rule(ROLLING))
    looked = watched.looks([(0, 150), (1, 10), (2, 120), (3, 95)])
    assert looked == ["alert", None, None, "warning"], "of what waited, this still holds"


def test_a_new_month_is_reached_anew():
    watched = Watched(rule())
    end = datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC)
    assert watched.look(end - 30 * HOUR, 150) == "alert"
    assert watched.look(end - 2 * HOUR, 160) == "alert"
    assert watched.look(end, 161) is None
    begin = datetime(2026, 4, 1, tzinfo=UTC)
    assert watched.look(begin, 120) is None, "the last mail is two hours ago"
    assert watched.rule.memory.level_of == date(2026, 4, 1)
    assert watched.rule.memory.look_at == end + 22 * HOUR
    assert watched.look(end + 22 * HOUR, 120) == "alert"


def test_a_month_begins_in_utc_wherever_the_clock_stands():
    evening = datetime(2026, 3, 31, 20, tzinfo=UTC).astimezone(
        tz=datetime.strptime("+0900", "%z").tzinfo
    )
    assert evening.month == 4
    assert MONTH.month(evening) == date(2026, 3, 1)
    assert MONTH.window(evening, START).start == datetime(2026, 3, 1, tzinfo=UTC)


def test_what_cannot_be_judged_changes_nothing_but_ends_a_level():
    watched = Watched(rule(ROLLING))
    assert watched.looks([(0, None), (1, 150), (2, None), (3, 150)]) == [None, "alert", None, None]
    assert watched.levels == [None, "alert", None, "alert"]
    assert watched.rule.memory.look_at == START + HOUR + COOLDOWN
    ended = Reading(Decimal(1000), 1, reason="ended")
    assert judge(watched.rule, ended, START + 5 * HOUR).level is None


def test_after_an_edit_a_level_is_reached_anew_and_still_mailed_once_a_day():
    watched = Watched(rule())
    assert watched.look(START, 150) == "alert"
    memory = replace(watched.rule.memory, level="none", waiting="none")  # as an edit leaves it
    definition = replace(watched.rule.definition, threshold=Decimal(200))
    watched.rule = replace(watched.rule, definition=definition, memory=memory)
    assert watched.looks([(1, 180), (2, 250), (24, 250)]) == ["warning", None, "alert"]


def test_money_of_which_a_part_is_not_known_is_at_least_that_much():
    reading = read_budget(Spent(Decimal(5), unknown=2, requests=9), Decimal("0.8"))
    assert (reading.value, reading.is_at_least, reading.unknown) == (Decimal("4.0"), True, 2)
    nothing_known = read_budget(Spent(Decimal(0), unknown=2, requests=2), Decimal(1))
    assert (nothing_known.value, nothing_known.reason) == (None, "unknown_prices")
    free = read_budget(Spent(Decimal(0), unknown=0, requests=2), Decimal(1))
    assert (free.value, free.reason, free.is_at_least) == (0, None, False)


def test_no_data_is_not_zero():
    for reading in (
        read_budget(Spent(), Decimal(1)),
        read_errors(0, 0, as_percent=True),
        read_errors(0, 0, as_percent=False),
        read_count(0),
        read_latency(None, 0),
    ):
        assert (reading.value, reading.reason) == (None, "no_data")
        assert level_of(rule(), reading) is None
    assert read_errors(0, 5, as_percent=False).value == 0
    assert read_errors(1, 8, as_percent=True).value == Decimal("12.5")
    assert read_latency(250.0, 3).value == 250


def test_a_rule_is_tested_once_in_12_hours():
    each = replace(rule(), test_sent_at=START)
    assert may_test(rule(), START) is None
    assert may_test(each, START) == START + TEST_COOLDOWN
    assert may_test(each, START + TEST_COOLDOWN - timedelta(seconds=1)) is not None
    assert may_test(each, START + TEST_COOLDOWN) is None


# ---------------------------------------------------------------------------- any sequence

VALUES = st.one_of(st.none(), st.integers(0, 200), st.sampled_from([89, 90, 99, 100]))
STEPS = st.lists(
    st.tuples(st.sampled_from([1, 59, 60, 61, 600, 1439, 1440, 1441, 4000]), VALUES), max_size=60
)
SPENDING = st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 60)), max_size=60)


def check(watched: Watched) -> None:
    """Never two mails of a level within its 24 hours."""
    for level in ("warning", "alert"):
        times = [at for at, mailed in watched.mails if mailed == level]
        assert all(later - earlier >= COOLDOWN for earlier, later in pairwise(times))


def look_when_due(watched: Watched, until: datetime, value: Callable[[datetime], object]) -> None:
    """Look whenever the rule asked for it, as the jobs process does."""
    for _ in range(3):
        due = watched.rule.memory.look_at
        if due is None or due >= until:
            return
        watched.look(due, value(due))


@given(STEPS, st.sampled_from([MONTH, ROLLING]))
def test_never_two_mails_of_a_level_in_a_day_and_never_none_after_a_crossing(steps, period):
    watched = Watched(rule(period))
    at, value, crossed = START, None, dict[str, datetime]()
    for minutes, new in [*steps, (3000, 200), (3000, 200)]:
        look_when_due(watched, at + timedelta(minutes=minutes), lambda _, held=value: held)
        at, before = at + timedelta(minutes=minutes), watched.rule.memory.level
        watched.look(at, new)
        value, level = new, watched.levels[-1]
        if level in ("alert", "warning") and level != before:
            crossed[level] = at
        # a level that holds was mailed, or by the higher one, within the last 24 hours
        if level == "alert":
            assert any(at - sent < COOLDOWN and of == "alert" for sent, of in watched.mails)
        if level == "warning":
            assert any(at - sent < COOLDOWN for sent, _ in watched.mails)
    check(watched)
    assert watched.mails, "the last looks were over the threshold"


@given(SPENDING, st.integers(1, 300))
def test_a_budget_is_mailed_in_every_month_that_breaks_it(requests, threshold):
    """Costs of requests, one after the other: what the month has come to is looked at after each."""
    watched = Watched(rule(MONTH, threshold))
    at, spent, month = START, 0, MONTH.month(START)
    reached: dict[date | None, datetime] = {}
    for minutes, cost in requests:
        look_when_due(
            watched,
            at + timedelta(minutes=minutes),
            lambda due, of=month, so_far=spent: so_far if MONTH.month(due) == of else None,
        )
        at += timedelta(minutes=minutes)
        if MONTH.month(at) != month:
            month, spent = MONTH.month(at), 0
        spent += cost
        watched.look(at, spent)
        if spent >= threshold:
            reached.setdefault(month, at)
            assert any(at - sent < COOLDOWN and of == "alert" for sent, of in watched.mails)
    check(watched)
    assert len({MONTH.month(sent) for sent, of in watched.mails if of == "alert"}) <= len(reached)
