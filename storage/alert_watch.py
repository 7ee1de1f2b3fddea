"""Looks at alert rules, by the jobs process: what follows from them is done exactly once.

A look that would change or mail anything is repeated with the rules' rows locked, on what is
recorded and remembered by then; what is remembered, the note of the mail and the mail itself are
committed together. So it does not matter how many processes look, or when one of them dies.
"""

import uuid
from datetime import datetime

from sqlalchemy import DateTime, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.alert_judgement import Verdict, judge
from storage.alert_readings import PerUsd, read
from storage.alert_rows import Notice, Write, mail, rule_of
from storage.alert_rules import Memory, Rule
from storage.database import Database
from storage.models import alert_rules, this_account

_TO_JUDGE = text("SELECT account_id, number FROM metrion.accounts_to_judge(:after)")
_JUDGED = text("SELECT metrion.judged_up_to(:number)")
_CLOCK = select(func.clock_timestamp(type_=DateTime(timezone=True)))


async def accounts_to_judge(database: Database, after: int) -> list[tuple[uuid.UUID, int]]:
    """Return the accounts whose rules have to be looked at, the last changed first.

    As `metrion_jobs`. Each comes with the number of its last change, all of them above `after`; or
    with 0, where a rule's time has come.

    Raises:
        DatabaseUnavailable: the next try may work.
    """
    async with database.system() as connection:
        rows = await connection.execute(_TO_JUDGE, {"after": after})
        return [(row.account_id, row.number) for row in rows]


async def judged_up_to(database: Database, number: int = 0) -> int:
    """Note that all changes up to this number were looked at; return up to which they were.

    As `metrion_jobs`. Without a number it only returns it: where a process that starts goes on.

    Raises:
        DatabaseUnavailable: the next try may work.
    """
    async with database.system() as connection:
        return (await connection.execute(_JUDGED, {"number": number})).scalar_one()


async def judge_account(
    database: Database,
    account_id: uuid.UUID,
    *,
    rates: PerUsd,
    write: Write,
    now: datetime | None = None,
) -> int:
    """Look at the account's rules, put mails into the outbox; return how many (`metrion_jobs`).

    `now`: the database's clock, which is the same for all processes, unless told.

    Raises:
        DatabaseUnavailable: nothing was done; the next try may work.
    """
    async with database.account(account_id) as connection:
        verdicts = await _look(connection, rates, now, for_update=False)
        if not any(_changes(notice.rule, verdict) for notice, verdict in verdicts):
            return 0
    async with database.account(account_id) as connection:
        verdicts = await _look(connection, rates, now, for_update=True)
        mails = 0
        for notice, verdict in verdicts:
            if _changes(notice.rule, verdict):
                await _remember(connection, notice.rule, verdict.memory)
            if verdict.mail is not None:
                await mail(connection, account_id, notice, write)
                mails += 1
        return mails


async def _look(
    connection: AsyncConnection, rates: PerUsd, now: datetime | None, *, for_update: bool
) -> list[tuple[Notice, Verdict]]:
    """Judge all rules that are not paused, without doing anything about it."""
    query = (
        select(alert_rules)
        .where(alert_rules.c.account_id == this_account, ~alert_rules.c.paused)
        .order_by(alert_rules.c.id)  # the order of the locks, too
    )
    if for_update:
        query = query.with_for_update()
    rules = [rule_of(row) for row in (await connection.execute(query)).mappings()]
    if not rules:
        return []
    # after the lock, so that it is not before what another process has just remembered
    now = now or (await connection.execute(_CLOCK)).scalar_one()
    readings = await read(connection, rules, rates, now)
    looks: list[tuple[Notice, Verdict]] = []
    for rule in rules:
        verdict = judge(rule, readings[rule.id], now)
        looks.append((Notice(rule, verdict.mail or "test", readings[rule.id], now), verdict))
    return looks


def _changes(rule: Rule, verdict: Verdict) -> bool:
    return verdict.mail is not None or verdict.memory != rule.memory


async def _remember(connection: AsyncConnection, rule: Rule, memory: Memory) -> None:
    await connection.execute(
        update(alert_rules)
        .where(alert_rules.c.account_id == this_account, alert_rules.c.id == rule.id)
        .values({name: getattr(memory, name) for name in Memory.__slots__})
    )
