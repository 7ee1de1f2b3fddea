import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from unittest.mock import Mock

import pytest

from storage import alerts
from storage.alert_rows import Letter, Notice
from storage.alert_rules import Definition, Period
from storage.alerts import (
    change_rule,
    create_rule,
    delete_rule,
    get_rule,
    list_mails,
    list_rules,
    send_test,
)
from storage.errors import InvalidValue, NotFound, PlanRequired, TooSoon
from storage.plans import PLANS

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
RATES = {"usd": Decimal(1), "eur": Decimal("0.8"), "chf": Decimal("0.5")}
BUDGET = Definition("budget", "eur", Decimal("10.5"), Period("month"), "Ours", ("openai",))
VOLUME = Definition("request_volume", "count", Decimal(5), Period("rolling", hours=24))


def write(notice: Notice) -> Letter:
    return Letter(f"{notice.level} {notice.reading.value}", "text", "<p>html</p>")


async def create(api, account, definition=BUDGET, **values):
    async with api.account(account.id) as connection:
        return await create_rule(connection, account.id, definition, now=NOW, **values)


async def rules_of(api, account):
    async with api.account(account.id) as connection:
        return await list_rules(connection)


async def test_rules_are_kept_as_they_were_said(api, new_account):
    ada, eve = await new_account(), await new_account()
    made = [await create(api, ada, BUDGET), await create(api, ada, VOLUME, paused=True)]
    found = await rules_of(api, ada)
    assert [(each.id, each.definition, each.paused, each.created_at) for each in found] == [
        (each.id, each.definition, each.paused, NOW) for each in made
    ]
    assert await rules_of(api, eve) == []


async def test_nobody_sees_or_touches_anothers_rules(api, new_account):
    ada, eve = await new_account(), await new_account()
    rule = await create(api, ada)
    async with api.account(eve.id) as connection:
        with pytest.raises(NotFound):
            await get_rule(connection, rule.id)
        with pytest.raises(NotFound):
            await change_rule(connection, rule.id, VOLUME, paused=True)
        with pytest.raises(NotFound):
            await delete_rule(connection, rule.id)
        with pytest.raises(NotFound):
            await send_test(connection, eve.id, rule.id, rates=RATES, write=write)
    assert len(await rules_of(api, ada)) == 1


async def test_a_plan_has_so_many_rules_also_when_made_at_once(api, new_account, monkeypatch):
    account = await new_account()
    done = await asyncio.gather(*(create(api, account) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(each, PlanRequired) for each in done) == 2
    assert len(await rules_of(api, account)) == 3
    pro = await new_account("pro")
    monkeypatch.setitem(PLANS, "pro", replace(PLANS["pro"], alert_rules=4))
    for _ in range(4):
        await create(api, pro)
    with pytest.raises(InvalidValue, match="4 alert rules at most"):
        await create(api, pro)


async def test_an_edit_is_looked_at_anew_and_a_name_is_only_a_name(api, new_account, administrator):
    account = await new_account()
    rule = await create(api, account)
    administrator.execute(
        "UPDATE metrion.alert_rules SET level = 'alert', waiting = 'warning', look_at = NULL,"
        " alert_sent_at = %(now)s, warning_sent_at = %(now)s",
        {"now": NOW},
    )

    async def change(definition, *, paused=False):
        async with api.account(account.id) as connection:
            return await change_rule(connection, rule.id, definition, paused=paused, now=NOW)

    renamed = await change(replace(BUDGET, name="New name"))
    assert renamed.definition.name == "New name"
    assert (renamed.memory.level, renamed.memory.waiting) == ("alert", "warning")
    changed = await change(replace(BUDGET, threshold=Decimal(20)))
    assert changed.definition.threshold == 20
    memory = changed.memory
    assert (memory.level, memory.waiting, memory.look_at) == ("none", "none", NOW)
    assert memory.alert_sent_at == memory.warning_sent_at == NOW, "a day stays a day"
    with pytest.raises(InvalidValue):
        await change(replace(BUDGET, threshold=Decimal(0)))
    assert (await change(BUDGET, paused=True)).paused


async def test_an_edit_is_looked_at_within_seconds_whatever_the_apis_clock_says(
    api, new_account, administrator, jobs, monkeypatch
):
    account = await new_account()
    rule = await create(api, account)
    administrator.execute("UPDATE metrion.alert_rules SET look_at = NULL")
    in_a_minute = datetime.now(UTC) + timedelta(minutes=1)
    monkeypatch.setattr(alerts, "datetime", Mock(now=lambda _: in_a_minute))
    async with api.account(account.id) as connection:
        await change_rule(connection, rule.id, replace(BUDGET, threshold=Decimal(20)), paused=False)
    due = jobs.execute("SELECT account_id FROM metrion.accounts_to_judge(0)").fetchall()
    assert due == [(account.id,)]


async def test_a_test_is_mailed_once_in_12_hours(api, new_account, writer, log_row):
    account = await new_account()
    rule = await create(api, account, VOLUME)
    writer.write([log_row(account.id, NOW)])

    async def test(at: datetime):
        async with api.account(account.id) as connection:
            return await send_test(
                connection, account.id, rule.id, rates=RATES, write=write, now=at
            )

    done = await asyncio.gather(*(test(NOW) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(each, TooSoon) for each in done) == 3
    with pytest.raises(TooSoon) as caught:
        await test(NOW + timedelta(hours=11))
    assert caught.value.seconds == 3600
    assert (await test(NOW + timedelta(hours=12))).test_sent_at == NOW + timedelta(hours=12)
    async with api.account(account.id) as connection:
        mails = (await list_mails(connection))[rule.id]
    assert [(mail.level, mail.value, mail.state) for mail in mails] == [
        ("test", 1, "waiting"),
        ("test", 1, "waiting"),
    ]


async def test_a_rule_goes_with_its_mails(api, new_account, monkeypatch):
    monkeypatch.setattr(alerts, "MAILS_SHOWN", 2)
    account = await new_account()
    rule = await create(api, account, VOLUME)
    for number in range(3):
        async with api.account(account.id) as connection:
            at = NOW + timedelta(days=number)
            await send_test(connection, account.id, rule.id, rates=RATES, write=write, now=at)
    async with api.account(account.id) as connection:
        assert len((await list_mails(connection))[rule.id]) == 2
        await delete_rule(connection, rule.id)
        assert await list_mails(connection) == {}
        with pytest.raises(NotFound):
            await delete_rule(connection, rule.id)
        with pytest.raises(NotFound):
            await get_rule(connection, uuid.uuid4())
