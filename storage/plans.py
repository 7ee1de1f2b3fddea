"""What Free and Pro give: the one place where the plans differ.

Whoever decides something by plan asks here: the proxy for the monthly cap, the API for what it
shows and refuses, the command for which plans there are. The database has the retention a second
time, in `metrion.retention_days`, because its policies need it; a test proves that both agree.

What Free lacks, and why only that. A plan never breaks traffic or takes data hostage: every
endpoint of the gateway, the response cache, exports and every page are in both plans, and daily
records stay as long as the account. Free is for trying it out: a monthly cap, a short log, and as
many alert rules as one project needs (a budget is watched on every plan: nobody should overspend
because they do not pay). So the gateway itself refuses nothing with `plan_required` today, the
API does.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from storage.errors import InvalidValue, PlanRequired
from storage.settings import Settings

type PlanName = Literal["free", "pro"]


class Feature(StrEnum):
    """What a plan may lack."""

    MORE_ALERT_RULES = "alerts.more_than_3"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an account gets."""

    name: PlanName
    title: str
    is_capped: bool
    """Whether a month has only `Settings.monthly_requests_free` requests."""
    retention_days: int
    """How long log rows can be seen."""
    alert_rules: int
    """How many an account may have at once."""
    features: frozenset[Feature]

    def monthly_limit(self, settings: Settings) -> int | None:
        """Return how many requests a calendar month (UTC) may have; None: any number."""
        return settings.monthly_requests_free if self.is_capped else None


_FREE = Plan(
    name="free",
    title="Free",
    is_capped=True,
    retention_days=7,
    alert_rules=3,
    features=frozenset(),
)
_PRO = Plan(
    name="pro",
    title="Pro",
    is_capped=False,
    retention_days=90,
    alert_rules=100,
    features=frozenset(Feature),
)
PLANS: Final[dict[str, Plan]] = {plan.name: plan for plan in (_FREE, _PRO)}
"""By name, the smallest first."""

_NAMES: Final = {Feature.MORE_ALERT_RULES: f"more than {_FREE.alert_rules} alert rules"}


def get_plan(name: str) -> Plan:
    """Return a plan by its name.

    Raises:
        InvalidValue: there is none of this name.
    """
    try:
        return PLANS[name]
    except KeyError:
        raise InvalidValue(f"a plan is one of: {', '.join(PLANS)}") from None


def is_capped(name: str) -> bool:
    """Say whether a plan has a monthly limit; one that this program does not know has."""
    plan = PLANS.get(name)
    return plan is None or plan.is_capped


def require(name: str, feature: Feature | str) -> None:
    """Let an account on this plan use a feature.

    Raises:
        PlanRequired: its plan does not have it; the message names the plan that does.
        InvalidValue: there is no such plan.
    """
    feature = Feature(feature)
    plan = get_plan(name)
    if feature not in plan.features:
        larger = next(each for each in PLANS.values() if feature in each.features)
        raise PlanRequired(
            f"the {plan.title} plan does not include {_NAMES[feature]}; {larger.title} does. "
            "Switch on Settings, Plan",
            larger.name,
        )
