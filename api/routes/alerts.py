"""`/api/v1/alerts`: rules, made, edited, paused, tested and deleted by the person signed in."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path

from api.alert_letter import alerts_url, letters
from api.alert_models import NewRule, RuleChange, RuleList, RuleView
from api.deps import SESSION_PROBLEMS, ServicesHere, SessionCaller
from api.errors import (
    InvalidRequestError,
    PlanRequiredError,
    ResourceNotFoundError,
    TooManyAttemptsError,
    documented,
)
from api.services import Services
from storage.accounts import get_account
from storage.alert_readings import per_usd, read, read_courses
from storage.alert_rules import Definition, Rule
from storage.alerts import (
    change_rule,
    create_rule,
    delete_rule,
    get_rule,
    list_mails,
    list_rules,
    send_test,
)
from storage.database import Transaction
from storage.plans import get_plan

router = APIRouter(prefix="/api/v1/alerts", tags=["Alerts"])

RuleId = Annotated[UUID, Path(description="As in the list of rules.")]


@router.get("", summary="List alert rules", responses=documented(*SESSION_PROBLEMS))
async def alert_rules(services: ServicesHere, caller: SessionCaller) -> RuleList:
    """Return every rule, what it comes to now, how that came about, and its last mails."""
    async with services.database.account(caller.account_id) as connection:
        account = await get_account(connection)
        rules = await list_rules(connection)
        items = await _views(services, connection, rules)
    return RuleList(items=items, most=get_plan(account.plan).alert_rules, email=account.email)


@router.post(
    "",
    status_code=201,
    summary="Make an alert rule",
    responses=documented(*SESSION_PROBLEMS, InvalidRequestError, PlanRequiredError),
)
async def make_alert_rule(services: ServicesHere, caller: SessionCaller, new: NewRule) -> RuleView:
    """Watch something from now on. If the threshold is reached already, a mail is sent at once."""
    definition = new.definition()
    _check_providers(services, definition)
    async with services.database.account(caller.account_id) as connection:
        rule = await create_rule(connection, caller.account_id, definition, paused=new.paused)
        return await _view(services, connection, rule)


@router.patch(
    "/{rule_id}",
    summary="Change or pause an alert rule",
    responses=documented(*SESSION_PROBLEMS, InvalidRequestError, ResourceNotFoundError),
)
async def change_alert_rule(
    services: ServicesHere, caller: SessionCaller, rule_id: RuleId, change: RuleChange
) -> RuleView:
    """Change what is named; it counts at once. A level stays at one mail in 24 hours."""
    async with services.database.account(caller.account_id) as connection:
        before = await get_rule(connection, rule_id, for_update=True)
        definition = change.definition(before.definition)
        _check_providers(services, definition)
        paused = before.paused if change.paused is None else change.paused
        rule = await change_rule(connection, rule_id, definition, paused=paused)
        return await _view(services, connection, rule)


@router.delete(
    "/{rule_id}",
    status_code=204,
    summary="Delete an alert rule",
    responses=documented(*SESSION_PROBLEMS, InvalidRequestError, ResourceNotFoundError),
)
async def delete_alert_rule(services: ServicesHere, caller: SessionCaller, rule_id: RuleId) -> None:
    """Delete a rule, and the list of its mails."""
    async with services.database.account(caller.account_id) as connection:
        await delete_rule(connection, rule_id)


@router.post(
    "/{rule_id}/test",
    status_code=202,
    summary="Send a test mail",
    responses=documented(
        *SESSION_PROBLEMS, InvalidRequestError, ResourceNotFoundError, TooManyAttemptsError
    ),
)
async def test_alert_rule(
    services: ServicesHere, caller: SessionCaller, rule_id: RuleId
) -> RuleView:
    """Send a real mail about what the rule comes to now; once in 12 hours and rule."""
    settings = services.settings
    async with services.database.account(caller.account_id) as connection:
        rule = await send_test(
            connection,
            caller.account_id,
            rule_id,
            rates=per_usd(settings),
            write=letters(alerts_url(settings.dashboard_url)),
        )
        return await _view(services, connection, rule)


def _check_providers(services: Services, definition: Definition) -> None:
    known = {provider.name for provider in services.providers}
    if not known.issuperset(definition.providers):
        raise InvalidRequestError(
            f"`providers` are some of: {', '.join(sorted(known))}; empty: all of them."
        )


async def _view(services: Services, connection: Transaction, rule: Rule) -> RuleView:
    (view,) = await _views(services, connection, [rule])
    return view


async def _views(
    services: Services, connection: Transaction, rules: Sequence[Rule]
) -> list[RuleView]:
    if not rules:
        return []
    now, rates = datetime.now(UTC), per_usd(services.settings)
    readings = await read(connection, rules, rates, now)
    courses = await read_courses(connection, rules, rates, now)
    mails = await list_mails(connection)
    return [
        RuleView.of(rule, readings[rule.id], courses[rule.id], mails.get(rule.id, ()), now)
        for rule in rules
    ]
