"""What an alert's mail says: in plain text, and as HTML that a phone shows well.

The text is the whole mail; the HTML says the same, with nothing loaded from anywhere.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from storage.alert_judgement import Reading
from storage.alert_rows import Letter, MailLevel, Notice, Write
from storage.alert_rules import Definition, RuleType, Unit

_TEMPLATES: Final = Path(__file__).parent / "templates" / "mail"
_TYPES: Final[Mapping[RuleType, str]] = {
    "budget": "Budget",
    "error_rate": "Error rate",
    "latency_p95": "Latency p95",
    "request_volume": "Request volume",
}
_NOUNS: Final[Mapping[tuple[RuleType, Unit], str]] = {
    ("error_rate", "count"): "errors",
    ("request_volume", "count"): "requests",
}
_SUFFIXES: Final[Mapping[Unit, str]] = {
    "usd": " USD",
    "eur": " EUR",
    "chf": " CHF",
    "percent": " %",
    "ms": " ms",
    "count": "",
}
_LEVELS: Final[Mapping[MailLevel, str]] = {"warning": "Warning", "alert": "Alert", "test": "Test"}
_REASONS: Final[Mapping[str, str]] = {
    "no_data": "cannot be judged yet: nothing is recorded",
    "unknown_prices": "cannot be judged: no price is known of its requests",
    "not_begun": "cannot be judged yet: its period has not begun",
    "ended": "its period has ended",
}
_DAY_HOURS = 24
_CENT, _SMALL = Decimal("0.01"), Decimal("0.1")


def letters(alerts_url: str | None) -> Write:
    """Return what writes mails; `alerts_url` is where the rules are, None: nobody said."""

    def write(notice: Notice) -> Letter:
        facts = _facts(notice) | {"url": alerts_url}
        templates = _templates()
        return Letter(
            subject=_subject(notice),
            text=templates.get_template("alert.txt").render(facts),
            html=templates.get_template("alert.html").render(facts),
        )

    return write


def alerts_url(dashboard_url: str | None) -> str | None:
    """Return the address of the page with the rules, if the dashboard's is known."""
    return f"{dashboard_url}/alerts" if dashboard_url else None


def title(definition: Definition) -> str:
    """Return the rule's name, or what it watches."""
    return definition.name or f"{_TYPES[definition.type]}, {_period(definition)}"


def _subject(notice: Notice) -> str:
    name = title(notice.rule.definition)
    if notice.level == "test":
        return f"Test of your alert rule: {name}"
    return f"{_LEVELS[notice.level]}: {name} is at {_share(notice)} of its threshold"


def _facts(notice: Notice) -> dict[str, Any]:
    """Return what the templates show."""
    definition, reading = notice.rule.definition, notice.reading
    rows = [
        ("Value", _value(definition, reading)),
        ("Threshold", _amount(definition, definition.threshold)),
        ("What", f"{_TYPES[definition.type]}, {_period(definition)}"),
        ("Providers", ", ".join(definition.providers) or "all"),
        ("Looked at", _moment(notice.at)),
    ]
    return {
        "level": notice.level,
        "label": _LEVELS[notice.level],
        "name": title(definition),
        "sentence": _sentence(notice),
        "rows": rows,
        "share": None if reading.value is None else _share(notice),
        "notes": _notes(notice),
    }


def _sentence(notice: Notice) -> str:
    name, reading = title(notice.rule.definition), notice.reading
    if notice.level == "test":
        return f"This is how mails about “{name}” will look. Nothing has happened."
    reached = (
        "has reached its threshold" if notice.level == "alert" else "is close to its threshold"
    )
    or_more = " or more" if reading.is_at_least else ""
    return f"“{name}” {reached}: it is at {_share(notice)}{or_more}."


def _notes(notice: Notice) -> list[str]:
    reading, notes = notice.reading, list[str]()
    if reading.is_at_least:
        of = "1 request" if reading.unknown == 1 else f"{reading.unknown:,} requests"
        notes.append(f"The cost of {of} is not known, so the value is at least this much.")
    if notice.level == "test":
        notes.append("A rule can be tested once in 12 hours.")
    else:
        notes.append("Each level of a rule is mailed at most once in 24 hours.")
    return notes


def _value(definition: Definition, reading: Reading) -> str:
    if reading.value is None:
        return _REASONS[reading.reason or "no_data"]
    at_least = "at least " if reading.is_at_least else ""
    return f"{at_least}{_amount(definition, reading.value)}"


def _amount(definition: Definition, value: Decimal) -> str:
    noun = _NOUNS.get((definition.type, definition.unit))
    return f"{_number(definition.unit, value)}{_SUFFIXES[definition.unit]}{f' {noun}' * bool(noun)}"


def _number(unit: Unit, value: Decimal) -> str:
    """Write a number with the digits that it needs; never more than was reached."""
    if unit in ("usd", "eur", "chf"):
        if 0 < value < _CENT:
            return f"{value:.3g}" if value >= Decimal("0.0001") else f"{value:.6f}"
        return f"{value.quantize(_CENT, ROUND_HALF_UP):,}"
    if unit == "count":
        return f"{value.normalize():,f}"
    return f"{value.quantize(_SMALL, ROUND_HALF_UP).normalize():,f}"


def _share(notice: Notice) -> str:
    """Return the value's share of the threshold; rounded down: 99.96 % have not reached 100 %."""
    value = notice.reading.value or Decimal(0)
    share = 100 * value / notice.rule.definition.threshold
    return f"{int(share):,} %"


def _period(definition: Definition) -> str:
    period = definition.period
    if period.kind == "rolling":
        hours = period.hours or 1
        if hours == 1:
            return "this hour"
        days = hours // _DAY_HOURS
        return f"last {hours} hours" if days <= 1 else f"last {days} days"
    return {
        "month": "this month (UTC)",
        "created": "since the rule was made",
        "since": f"since {_day(period.from_day)}",
        "dates": f"{_day(period.from_day)} to {_day(period.to_day)}",
    }[period.kind]


def _day(day: date | None) -> str:
    return f"{day:%Y-%m-%d}" if day else ""


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
