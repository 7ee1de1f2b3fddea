"""Alert rules and their mails as rows: what the rules' owners and the jobs process both need."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import insert, select
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.alert_judgement import Reading
from storage.alert_rules import Definition, Memory, Period, Rule, Spent
from storage.identifiers import uuid7
from storage.models import accounts, alert_mails, this_account
from storage.outbox import put_mail

type MailLevel = Literal["warning", "alert", "test"]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a mail is to say."""

    rule: Rule
    level: MailLevel
    reading: Reading
    at: datetime


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail, written."""

    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)


type Write = Callable[[Notice], Letter]


async def mail(
    connection: AsyncConnection, account_id: uuid.UUID, notice: Notice, write: Write
) -> None:
    """Put a mail into the outbox, and note it, as part of the transaction."""
    address = select(accounts.c.email).where(accounts.c.id == this_account)
    email = (await connection.execute(address)).scalar_one()
    letter, mail_id, rule = write(notice), uuid7(), notice.rule
    await connection.execute(
        insert(alert_mails).values(
            id=mail_id,
            account_id=account_id,
            rule_id=rule.id,
            level=notice.level,
            value=notice.reading.value,
            at_least=notice.reading.is_at_least,
            threshold=rule.definition.threshold,
            unit=rule.definition.unit,
            created_at=notice.at,
        )
    )
    await put_mail(
        connection,
        account_id=account_id,
        key=f"alert:{mail_id}",
        recipient=email,
        subject=letter.subject,
        text=letter.text,
        html=letter.html,
        mail_id=mail_id,
    )


def columns_of(definition: Definition) -> dict[str, Any]:
    """Return a definition as columns of `alert_rules`."""
    period = definition.period
    return {
        "name": definition.name,
        "type": definition.type,
        "unit": definition.unit,
        "threshold": definition.threshold,
        "providers": list(definition.providers),
        "period": period.kind,
        "from_day": period.from_day,
        "to_day": period.to_day,
        "hours": period.hours,
    }


def rule_of(row: RowMapping) -> Rule:
    """Return the rule of a row of `alert_rules`."""
    return Rule(
        id=row["id"],
        definition=Definition(
            type=row["type"],
            unit=row["unit"],
            threshold=row["threshold"],
            period=Period(row["period"], row["from_day"], row["to_day"], row["hours"]),
            name=row["name"],
            providers=tuple(row["providers"]),
        ),
        created_at=row["created_at"],
        paused=row["paused"],
        spent_before=_spent_of_json(row["spent_before"]),
        memory=Memory(**{name: row[name] for name in Memory.__slots__}),
        test_sent_at=row["test_sent_at"],
    )


def spent_as_json(spent: Mapping[str, Spent]) -> dict[str, list[Any]]:
    """Return the column `spent_before`."""
    return {name: [str(each.usd), each.unknown, each.requests] for name, each in spent.items()}


def _spent_of_json(spent: Mapping[str, Sequence[Any]]) -> dict[str, Spent]:
    return {
        name: Spent(Decimal(usd), unknown, requests)
        for name, (usd, unknown, requests) in spent.items()
    }
