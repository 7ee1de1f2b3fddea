"""Alert rules of an account, by their owner: made, edited, paused, deleted, tested."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

from sqlalchemy import case, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.alert_judgement import may_test
from storage.alert_readings import PerUsd, read, spent_today
from storage.alert_rows import MailLevel, Notice, Write, columns_of, mail, rule_of, spent_as_json
from storage.alert_rules import Definition, Rule
from storage.errors import InvalidValue, NotFound, TooSoon
from storage.identifiers import uuid7
from storage.models import accounts, alert_mails, alert_rules, outbox, this_account
from storage.plans import Feature, get_plan, require

MAILS_SHOWN: Final = 5
"""Of each rule, the last ones."""

type MailState = Literal["waiting", "sent", "failed"]

_MOST_RULES = 1000


@dataclass(frozen=True, slots=True)
class AlertMail:
    """A mail about a rule, as its owner sees it.

    Attributes:
        value: what the rule came to; None: it could not be judged (a test).
        at_least: whether the true value may have been more.
    """

    level: MailLevel
    value: Decimal | None
    at_least: bool
    threshold: Decimal
    unit: str
    created_at: datetime
    state: MailState


async def list_rules(connection: AsyncConnection) -> list[Rule]:
    """Return the account's rules, the oldest first."""
    query = (
        select(alert_rules)
        .where(alert_rules.c.account_id == this_account)
        .order_by(alert_rules.c.created_at, alert_rules.c.id)
        .limit(_MOST_RULES)
    )
    return [rule_of(row) for row in (await connection.execute(query)).mappings()]


async def create_rule(
    connection: AsyncConnection,
    account_id: uuid.UUID,
    definition: Definition,
    *,
    paused: bool = False,
    now: datetime | None = None,
) -> Rule:
    """Make a rule of the transaction's account; it is looked at within seconds.

    Raises:
        InvalidValue: it cannot be watched, or the account has as many as it may have.
        PlanRequired: the plan has fewer.
    """
    definition = definition.checked()
    # one at a time, or two of them would both be the last that is allowed
    of_account = select(accounts.c.plan).where(accounts.c.id == this_account)
    plan = (await connection.execute(of_account.with_for_update(key_share=True))).scalar_one()
    count = select(func.count()).where(alert_rules.c.account_id == this_account)
    if (await connection.execute(count)).scalar_one() >= (most := get_plan(plan).alert_rules):
        require(plan, Feature.MORE_ALERT_RULES)
        raise InvalidValue(f"an account has {most} alert rules at most")
    now = now or datetime.now(UTC)
    rule = Rule(uuid7(), definition, now, paused, await spent_today(connection, now))
    await connection.execute(
        insert(alert_rules).values(
            id=rule.id,
            account_id=account_id,
            created_at=now,
            paused=paused,
            spent_before=spent_as_json(rule.spent_before),
            **columns_of(definition),
        )
    )
    return rule


async def get_rule(
    connection: AsyncConnection, rule_id: uuid.UUID, *, for_update: bool = False
) -> Rule:
    """Return a rule of the account.

    Raises:
        NotFound: it has no such rule.
    """
    query = select(alert_rules).where(
        alert_rules.c.account_id == this_account, alert_rules.c.id == rule_id
    )
    if for_update:
        query = query.with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such alert rule")
    return rule_of(row)


async def change_rule(
    connection: AsyncConnection,
    rule_id: uuid.UUID,
    definition: Definition,
    *,
    paused: bool,
    now: datetime | None = None,
) -> Rule:
    """Say anew what a rule watches, or pause it; it is looked at within seconds.

    What it reached is forgotten, so it may be reached anew; when it was mailed is not: each level
    stays at one mail in 24 hours. A name is only a name.

    `now`: the database's clock, by which it is looked for, unless told.

    Raises:
        NotFound: the account has no such rule.
        InvalidValue: it cannot be watched.
    """
    definition = definition.checked()
    before = await get_rule(connection, rule_id, for_update=True)
    anew = before.paused != paused or _watched(before.definition) != _watched(definition)
    forgotten: dict[str, Any] = (
        {"level": "none", "waiting": "none", "look_at": now or func.now()} if anew else {}
    )
    await connection.execute(
        update(alert_rules)
        .where(alert_rules.c.account_id == this_account, alert_rules.c.id == rule_id)
        .values(paused=paused, **columns_of(definition), **forgotten)
    )
    return await get_rule(connection, rule_id)


async def delete_rule(connection: AsyncConnection, rule_id: uuid.UUID) -> None:
    """Delete a rule of the account; a mail that is on its way still arrives.

    Raises:
        NotFound: it has no such rule.
    """
    done = await connection.execute(
        delete(alert_rules).where(
            alert_rules.c.account_id == this_account, alert_rules.c.id == rule_id
        )
    )
    if done.rowcount == 0:
        raise NotFound("there is no such alert rule")


async def list_mails(connection: AsyncConnection) -> dict[uuid.UUID, list[AlertMail]]:
    """Return the last mails about each of the account's rules, the newest first."""
    columns = alert_mails.c
    is_waiting = exists(select(outbox.c.id).where(outbox.c.id == columns.id))
    state = case((columns.sent_at.is_not(None), "sent"), (is_waiting, "waiting"), else_="failed")
    place = func.row_number().over(
        partition_by=columns.rule_id, order_by=(columns.created_at.desc(), columns.id.desc())
    )
    mails = (
        select(alert_mails, state.label("state"), place.label("place"))
        .where(columns.account_id == this_account)
        .subquery()
    )
    query = select(mails).where(mails.c.place <= MAILS_SHOWN).order_by(mails.c.place)
    found: dict[uuid.UUID, list[AlertMail]] = {}
    for row in (await connection.execute(query)).mappings():
        values = {name: row[name] for name in AlertMail.__slots__}
        found.setdefault(row["rule_id"], []).append(AlertMail(**values))
    return found


async def send_test(
    connection: AsyncConnection,
    account_id: uuid.UUID,
    rule_id: uuid.UUID,
    *,
    rates: PerUsd,
    write: Write,
    now: datetime | None = None,
) -> Rule:
    """Put a mail about what the rule comes to now into the outbox.

    Raises:
        NotFound: the account has no such rule.
        TooSoon: its last test is less than 12 hours ago.
    """
    rule = await get_rule(connection, rule_id, for_update=True)
    now = now or datetime.now(UTC)
    if (free_at := may_test(rule, now)) is not None:
        raise TooSoon(
            "a rule is tested once in 12 hours", max(1, round((free_at - now).total_seconds()))
        )
    reading = (await read(connection, [rule], rates, now))[rule_id]
    await mail(connection, account_id, Notice(rule, "test", reading, now), write)
    await connection.execute(
        update(alert_rules)
        .where(alert_rules.c.account_id == this_account, alert_rules.c.id == rule_id)
        .values(test_sent_at=now)
    )
    return await get_rule(connection, rule_id)


def _watched(definition: Definition) -> tuple[Any, ...]:
    """Return what a definition says beside its name."""
    values = columns_of(definition)
    del values["name"]
    return tuple(values.values())
