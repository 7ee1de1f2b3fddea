"""What a rule makes of the numbers: pure, and told the time.

A rule that is looked at has a *reading*: a value, or why there is none. It reaches *warning* at
90 % of the threshold and *alert* at 100 %. When is a mail sent?

- The higher level speaks for the lower: who jumps over both gets one mail, of the alert.
- Each level is mailed at most once in 24 hours and rule, whatever is edited meanwhile.
- A level that was reached anew within its 24 hours waits: the rule is looked at again when they are
  over, and mailed if the level still holds. So no crossing goes without a mail.
- While requests keep coming and the level still holds, it is mailed again after 24 hours.
- A new month (UTC) is reached anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

from storage.alert_rules import Level, Memory, Rule, Spent

type Reason = Literal["no_data", "unknown_prices", "not_begun", "ended"]

WARNING_SHARE: Final = Decimal("0.9")
COOLDOWN: Final = timedelta(hours=24)
TEST_COOLDOWN: Final = timedelta(hours=12)
_RANK: Final[Mapping[Level, int]] = {"none": 0, "warning": 1, "alert": 2}
_PERCENT = 100


@dataclass(frozen=True, slots=True)
class Reading:
    """What a rule's requests come to.

    Attributes:
        value: in the rule's unit; None: there is none, see `reason`.
        requests: how many there were in the period.
        unknown: of how many of them the cost is not known: the value is at least that much.
        reason: why it cannot be judged; None: it can be.
    """

    value: Decimal | None
    requests: int = 0
    unknown: int = 0
    reason: Reason | None = None

    @property
    def is_at_least(self) -> bool:
        """Whether the true value may be more."""
        return self.value is not None and self.unknown > 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a look at a rule.

    Attributes:
        level: reached now; None: it cannot be judged.
        mail: the level to send a mail of, if any.
        memory: what to remember.
    """

    level: Level | None
    mail: Literal["warning", "alert"] | None
    memory: Memory


def read_budget(spent: Spent, per_usd: Decimal) -> Reading:
    """Return the reading of a budget, in the currency of which a US dollar buys `per_usd`."""
    if not spent.requests:
        return Reading(None, reason="no_data")
    if spent.unknown and not spent.usd:
        return Reading(None, spent.requests, spent.unknown, "unknown_prices")
    return Reading(spent.usd * per_usd, spent.requests, spent.unknown)


def read_errors(errors: int, requests: int, *, as_percent: bool) -> Reading:
    """Return the reading of an error rate."""
    if not requests:
        return Reading(None, reason="no_data")
    value = Decimal(errors * _PERCENT) / requests if as_percent else Decimal(errors)
    return Reading(value, requests)


def read_count(requests: int) -> Reading:
    """Return the reading of a request volume."""
    return Reading(Decimal(requests), requests) if requests else Reading(None, reason="no_data")


def read_latency(p95_ms: float | None, requests: int) -> Reading:
    """Return the reading of a latency; None: nothing was timed."""
    if p95_ms is None:
        return Reading(None, requests, reason="no_data")
    return Reading(Decimal(p95_ms), requests)


def level_of(rule: Rule, reading: Reading) -> Level | None:
    """Return what a reading reaches; None: it cannot be judged."""
    if reading.value is None or reading.reason is not None:
        return None
    threshold = rule.definition.threshold
    if reading.value >= threshold:
        return "alert"
    return "warning" if reading.value >= WARNING_SHARE * threshold else "none"


def judge(rule: Rule, reading: Reading, now: datetime) -> Verdict:
    """Say what follows from a look at a rule that is not paused, at this moment."""
    memory = replace(rule.memory, look_at=None)
    month = rule.definition.period.month(now)
    if memory.level_of != month:
        memory = replace(memory, level="none", level_of=month, waiting="none")
    level = level_of(rule, reading)
    if level is None:
        return Verdict(None, None, replace(memory, level="none", waiting="none"))
    waiting = min(_higher(memory.waiting, _newly(memory.level, level)), level, key=_rank)
    memory = replace(memory, level=level, waiting=waiting)
    if level == "none":
        return Verdict(level, None, memory)
    if level == "alert" and _is_over(memory.alert_sent_at, now):
        return Verdict(level, "alert", replace(memory, alert_sent_at=now, waiting="none"))
    if level == "warning" and _is_over(memory.warning_sent_at, now):
        # coming down from an alert is no news; that it has lasted for a day is
        if waiting == "warning" or _is_over(memory.alert_sent_at, now):
            return Verdict(level, "warning", replace(memory, warning_sent_at=now, waiting="none"))
        return Verdict(level, None, memory)
    return Verdict(level, None, replace(memory, look_at=_next_look(memory)))


def may_test(rule: Rule, now: datetime) -> datetime | None:
    """Return when a test mail may be sent; None: now."""
    if rule.test_sent_at is None or now - rule.test_sent_at >= TEST_COOLDOWN:
        return None
    return rule.test_sent_at + TEST_COOLDOWN


def _rank(level: Level) -> int:
    return _RANK[level]


def _higher(one: Level, other: Level) -> Level:
    return max(one, other, key=_rank)


def _newly(before: Level, level: Level) -> Level:
    """Return the level if it was reached just now."""
    return level if _rank(level) > _rank(before) else "none"


def _is_over(sent_at: datetime | None, now: datetime) -> bool:
    return sent_at is None or now - sent_at >= COOLDOWN


def _next_look(memory: Memory) -> datetime | None:
    """Return when what waits may be mailed."""
    if memory.waiting == "none":
        return None
    sent_at = memory.alert_sent_at if memory.waiting == "alert" else memory.warning_sent_at
    return None if sent_at is None else sent_at + COOLDOWN
