"""What `/api/v1/alerts` takes and answers."""

from collections.abc import Sequence
from datetime import date as Date  # noqa: N812 - as in api.usage_models
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonValue

from api.fields import PlainText
from storage.alert_judgement import COOLDOWN, Reading, level_of, may_test
from storage.alert_readings import Course
from storage.alert_rules import LONGEST_NAME, UNITS, Definition, Period, PeriodKind, Rule
from storage.alerts import AlertMail

type RuleTypeName = Literal["budget", "error_rate", "latency_p95", "request_volume"]
type UnitName = Literal["usd", "eur", "chf", "percent", "count", "ms"]
type StateName = Literal[
    "ok", "warning", "alert", "paused", "no_data", "unknown_prices", "not_begun", "ended"
]

_PERIOD: dict[str, JsonValue] = {"kind": "rolling", "from": None, "to": None, "hours": 24}
_RULE: dict[str, JsonValue] = {
    "name": "Errors of checkout",
    "type": "error_rate",
    "unit": "percent",
    "threshold": 5,
    "providers": ["openai"],
    "period": _PERIOD,
    "paused": False,
}
_MAIL: dict[str, JsonValue] = {
    "level": "warning",
    "value": 4.6,
    "at_least": False,
    "threshold": 5,
    "unit": "percent",
    "created_at": "2026-01-15T09:30:00Z",
    "state": "sent",
}
_VIEW: dict[str, JsonValue] = {
    "id": "01994f3b-7c2e-7d10-9f60-2b1c33a0f7aa",
    **_RULE,
    "created_at": "2026-01-14T09:30:00Z",
    "present": {
        "state": "warning",
        "value": 4.6,
        "share": 0.92,
        "at_least": False,
        "requests": 1000,
        "unknown": 0,
    },
    "series": {
        "step": "hour",
        "timestamps": [1768435200, 1768438800],
        "values": [None, 4.6],
    },
    "mails": [_MAIL],
    "quiet_until": "2026-01-16T09:30:00Z",
    "test_possible_at": None,
}

Name = Annotated[PlainText, Field(max_length=LONGEST_NAME, description="For people; may be empty.")]
TypeOf = Annotated[RuleTypeName, Field(description="What is watched.")]
UnitOf = Annotated[
    UnitName,
    Field(
        description="What the threshold is in: `usd`, `eur`, `chf` of a budget, `percent` or "
        "`count` of an error rate, `ms` of a latency, `count` of a request volume."
    ),
]
Threshold = Annotated[
    float,
    Field(
        gt=0,
        le=1e11,
        allow_inf_nan=False,
        description="A *warning* is mailed at 90 % of it, an *alert* at 100 %.",
    ),
]
Providers = Annotated[
    list[PlainText],
    Field(max_length=32, description="Whose requests count; empty: those of all providers."),
]
Paused = Annotated[bool, Field(description="A paused rule is not looked at.")]


class RulePeriod(BaseModel):
    """Which requests count, in time: whole days or hours (UTC)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PERIOD]}, extra="forbid")

    kind: PeriodKind = Field(
        description="Of a budget: `month` (this one), `created` (since the rule was made), `since` "
        "(a day). Of the others: `dates` (two days and all between), `rolling` (the last hours)."
    )
    start: Date | None = Field(
        default=None, alias="from", description="The first day, with `since` and `dates`."
    )
    end: Date | None = Field(default=None, alias="to", description="The last day, with `dates`.")
    hours: int | None = Field(
        default=None,
        description="With `rolling`: 1, 6, 24, 168 or 720, the present hour among them; from 168 "
        "on whole days, the present day among them.",
    )

    def kept(self) -> Period:
        """Return it as a rule keeps it."""
        return Period(self.kind, self.start, self.end, self.hours)

    @classmethod
    def of(cls, period: Period) -> Self:
        """Show a period."""
        days = {"from": period.from_day, "to": period.to_day}
        return cls.model_validate({"kind": period.kind, "hours": period.hours, **days})


class NewRule(BaseModel):
    """A rule to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RULE]}, extra="forbid")

    name: Name = ""
    type: TypeOf
    unit: UnitOf | None = Field(
        default=None, description="`usd`, `percent`, `ms` or `count`, by type, unless it is said."
    )
    threshold: Threshold
    providers: Providers = []
    period: RulePeriod | None = Field(
        default=None, description="A budget's is this month, others' the last 24 hours."
    )
    paused: Paused = False

    def definition(self) -> Definition:
        """Return what it says, with what it leaves to us."""
        return Definition(
            type=self.type,
            unit=self.unit or UNITS[self.type][0],
            threshold=_exact(self.threshold),
            period=self.period.kept() if self.period else _usual_period(self.type),
            name=self.name,
            providers=tuple(self.providers),
        )


class RuleChange(BaseModel):
    """What to change of a rule; what is left out stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"threshold": 10, "paused": True}]}, extra="forbid"
    )

    name: Name | None = Field(default=None, description="For people; may be empty.")
    type: TypeOf | None = Field(default=None, description="What is watched.")
    unit: UnitOf | None = Field(default=None, description="What the threshold is in.")
    threshold: Threshold | None = Field(default=None, description="In `unit`.")
    providers: Providers | None = Field(
        default=None, description="Whose requests count; empty: those of all providers."
    )
    period: RulePeriod | None = Field(default=None, description="The whole of it.")
    paused: Paused | None = Field(default=None, description="A paused rule is not looked at.")

    def definition(self, before: Definition) -> Definition:
        """Return the changed definition; with another type come its usual unit and period."""
        kind = self.type or before.type
        is_other = kind != before.type
        unit = self.unit or (UNITS[kind][0] if is_other else before.unit)
        usual = _usual_period(kind) if is_other else before.period
        return Definition(
            type=kind,
            unit=unit,
            threshold=before.threshold if self.threshold is None else _exact(self.threshold),
            period=usual if self.period is None else self.period.kept(),
            name=before.name if self.name is None else self.name,
            providers=before.providers if self.providers is None else tuple(self.providers),
        )


class Present(BaseModel):
    """What a rule comes to now."""

    state: StateName = Field(
        description="`no_data` and `unknown_prices`: it cannot be judged, which is not 0."
    )
    value: float | None = Field(description="In the rule's unit; null: there is none.")
    share: float | None = Field(description="The value's share of the threshold.")
    at_least: bool = Field(description="The cost of some requests is not known: it may be more.")
    requests: int = Field(description="How many requests the value is of.")
    unknown: int = Field(description="Of how many of them the cost is not known.")


class CourseView(BaseModel):
    """How the value came about."""

    step: Literal["hour", "day"] = Field(description="What each of `timestamps` stands for.")
    timestamps: list[int] = Field(description="Seconds since 1970.")
    values: list[float | None] = Field(
        description="One for each; of a budget the sum up to then. null: nothing to measure."
    )


class MailView(BaseModel):
    """A mail about the rule."""

    level: Literal["warning", "alert", "test"] = Field(description="Why it was sent.")
    value: float | None = Field(description="What the rule came to; null: it was a test of none.")
    at_least: bool = Field(description="It may have been more.")
    threshold: float = Field(description="As it was then.")
    unit: UnitName = Field(description="Of both.")
    created_at: datetime = Field(description="When it was decided.")
    state: Literal["waiting", "sent", "failed"] = Field(
        description="`waiting`: it is tried again until the mail server takes it; `failed`: given "
        "up after days."
    )

    @classmethod
    def of(cls, mail: AlertMail) -> Self:
        """Show a mail."""
        return cls.model_validate(mail, from_attributes=True)


class RuleView(BaseModel):
    """A rule, and how it stands."""

    model_config = ConfigDict(json_schema_extra={"examples": [_VIEW]})

    id: UUID = Field(description="Never changes.")
    name: str = Field(description="For people; may be empty.")
    type: TypeOf
    unit: UnitOf
    threshold: float = Field(description="In `unit`.")
    providers: Providers
    period: RulePeriod = Field(description="Which requests count, in time.")
    paused: Paused
    created_at: datetime = Field(description="When it was made.")
    present: Present = Field(description="What it comes to now.")
    series: CourseView = Field(description="For a small chart; 92 moments at most.")
    mails: list[MailView] = Field(description="The last 5, the newest first.")
    quiet_until: datetime | None = Field(
        description="Until then no mail of the level that is reached is sent; null: one may be."
    )
    test_possible_at: datetime | None = Field(
        description="When the next test mail may be sent; null: now."
    )

    @classmethod
    def of(
        cls, rule: Rule, reading: Reading, course: Course, mails: Sequence[AlertMail], now: datetime
    ) -> Self:
        """Show a rule."""
        definition = rule.definition
        return cls(
            id=rule.id,
            name=definition.name,
            type=definition.type,
            unit=definition.unit,
            threshold=float(definition.threshold),
            providers=list(definition.providers),
            period=RulePeriod.of(definition.period),
            paused=rule.paused,
            created_at=rule.created_at,
            present=_present(rule, reading),
            series=CourseView(
                step=course.window.step,
                timestamps=[int(moment.timestamp()) for moment in course.window.moments],
                values=list(course.values),
            ),
            mails=[MailView.of(mail) for mail in mails],
            quiet_until=_quiet_until(rule, reading, now),
            test_possible_at=may_test(rule, now),
        )


class RuleList(BaseModel):
    """The account's rules."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_VIEW], "most": 3, "email": "ada@example.com"}]}
    )

    items: list[RuleView] = Field(description="All of them, the oldest first.")
    most: int = Field(description="How many the account's plan has.")
    email: str = Field(description="Where mails go.")


def _exact(threshold: float) -> Decimal:
    return Decimal(repr(threshold))


def _usual_period(of: RuleTypeName) -> Period:
    return Period("month") if of == "budget" else Period("rolling", hours=24)


def _present(rule: Rule, reading: Reading) -> Present:
    level = level_of(rule, reading)
    state: StateName
    if rule.paused:
        state = "paused"
    elif level is None:
        state = reading.reason or "no_data"
    else:
        state = "ok" if level == "none" else level
    value = reading.value
    return Present(
        state=state,
        value=None if value is None else float(value),
        share=None if value is None else float(value / rule.definition.threshold),
        at_least=reading.is_at_least,
        requests=reading.requests,
        unknown=reading.unknown,
    )


def _quiet_until(rule: Rule, reading: Reading, now: datetime) -> datetime | None:
    level, memory = level_of(rule, reading), rule.memory
    sent_at = memory.alert_sent_at if level == "alert" else memory.warning_sent_at
    if level not in ("warning", "alert") or sent_at is None or now - sent_at >= COOLDOWN:
        return None
    return sent_at + COOLDOWN
