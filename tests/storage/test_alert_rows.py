from datetime import UTC, date, datetime
from decimal import Decimal

from sqlalchemy import insert, select

from storage.alert_rows import columns_of, rule_of, spent_as_json
from storage.alert_rules import Definition, Memory, Period, Rule, Spent
from storage.identifiers import uuid7
from storage.models import alert_rules

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


async def test_a_rule_comes_back_as_it_was_kept(api, new_account, administrator):
    account = await new_account()
    definition = Definition(
        "error_rate",
        "percent",
        Decimal("12.345678"),
        Period("dates", date(2026, 1, 1), date(2026, 2, 1)),
        "Errors",
        ("gemini", "openai"),
    )
    before = {"openai": Spent(Decimal("0.000000000001"), 2, 3), "": Spent()}
    rule = Rule(uuid7(), definition, NOW, paused=True, spent_before=before)
    async with api.account(account.id) as connection:
        await connection.execute(
            insert(alert_rules).values(
                id=rule.id,
                account_id=account.id,
                created_at=NOW,
                paused=True,
                spent_before=spent_as_json(before),
                **columns_of(definition),
            )
        )
    administrator.execute(
        "UPDATE metrion.alert_rules SET level = 'warning', level_of = '2026-03-01',"
        " waiting = 'alert', warning_sent_at = %(now)s, alert_sent_at = %(now)s,"
        " test_sent_at = %(now)s, look_at = %(now)s",
        {"now": NOW},
    )
    async with api.account(account.id) as connection:
        row = (await connection.execute(select(alert_rules))).mappings().one()
    memory = Memory("warning", date(2026, 3, 1), "alert", NOW, NOW, NOW)
    assert rule_of(row) == Rule(
        rule.id, definition, NOW, paused=True, spent_before=before, memory=memory, test_sent_at=NOW
    )
