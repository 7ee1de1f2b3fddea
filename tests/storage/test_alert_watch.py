import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from storage import roles
from storage.alert_rows import Letter, Notice
from storage.alert_rules import Definition, Period
from storage.alert_watch import accounts_to_judge, judge_account, judged_up_to
from storage.alerts import change_rule, create_rule, delete_rule, list_mails, list_rules
from storage.database import Database
from storage.outbox import finish, take_mails

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
RATES = {"usd": Decimal(1), "eur": Decimal("0.8"), "chf": Decimal("0.5")}
MONTHLY = Definition("budget", "usd", Decimal(10), Period("month"))


def write(notice: Notice) -> Letter:
    return Letter(f"{notice.level} {notice.reading.value}", "text", "<p>html</p>")


@pytest.fixture
async def jobs(database):
    """The database as the jobs process sees it."""
    opened = Database(database.url(roles.JOBS))
    yield opened
    await opened.close()


@pytest.fixture
def make(api):
    """A function that makes a rule of an account."""

    async def create(account, definition=MONTHLY, now=NOON, **values):
        async with api.account(account.id) as connection:
            return await create_rule(connection, account.id, definition, now=now, **values)

    return create


@pytest.fixture
def spend(writer, log_row):
    """A function that records requests of this cost at a moment."""

    def record(account, usd: str | None, at: datetime = NOON, **values):
        writer.write([log_row(account.id, at, cost_usd=usd, **values)])

    return record


async def look(jobs: Database, account, now: datetime = NOON) -> int:
    return await judge_account(jobs, account.id, rates=RATES, write=write, now=now)


async def subjects(jobs: Database) -> list[str]:
    """Take what is in the outbox out of it."""
    mails = await take_mails(jobs, 100)
    for mail in mails:
        await finish(jobs, mail, was_sent=True)
    return [mail.subject for mail in mails]


async def test_each_level_is_mailed_once_to_the_accounts_address(
    jobs, api, new_account, make, spend
):
    account = await new_account(email="ada@example.com")
    rule = await make(account)
    assert await look(jobs, account) == 0, "nothing is recorded"
    spend(account, "8.99")
    assert await look(jobs, account) == 0
    spend(account, "0.01")
    assert [await look(jobs, account) for _ in range(3)] == [1, 0, 0]
    spend(account, "1")
    assert [await look(jobs, account) for _ in range(3)] == [1, 0, 0]
    async with api.account(account.id) as connection:
        before = (await list_mails(connection))[rule.id]
    assert [(mail.level, mail.state) for mail in before] == [
        ("alert", "waiting"),
        ("warning", "waiting"),
    ]
    first, second = await take_mails(jobs, 10)
    assert (first.recipient, first.text, first.html) == (
        *("ada@example.com", "text", "<p>html</p>"),
    )
    await finish(jobs, first, was_sent=True)
    await finish(jobs, second, was_sent=False)
    async with api.account(account.id) as connection:
        after = (await list_mails(connection))[rule.id]
    assert [(mail.level, mail.state, float(mail.value)) for mail in after] == [
        ("alert", "failed", 10.0),
        ("warning", "sent", 9.0),
    ]


async def test_many_processes_at_once_send_one_mail(database, new_account, make, spend, jobs):
    account = await new_account()
    for _ in range(3):
        await make(account)
    spend(account, "50")
    processes = [Database(database.url(roles.JOBS), pool_size=2) for _ in range(6)]
    mails = await asyncio.gather(*(look(each, account) for each in processes * 2))
    for each in processes:
        await each.close()
    assert sum(mails) == 3
    assert len(await subjects(jobs)) == 3


async def test_a_mail_is_there_only_if_it_is_remembered(jobs, new_account, make, spend, api):
    account = await new_account()
    await make(account)
    spend(account, "50")

    def fail(notice: Notice) -> Letter:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await judge_account(jobs, account.id, rates=RATES, write=fail, now=NOON)
    async with api.account(account.id) as connection:
        (rule,) = await list_rules(connection)
        assert rule.memory.alert_sent_at is None
        assert await list_mails(connection) == {}
    assert await look(jobs, account) == 1


async def test_paused_rules_sleep_and_deleted_ones_are_gone(jobs, api, new_account, make, spend):
    account = await new_account()
    rule = await make(account, paused=True)
    spend(account, "50")
    assert await look(jobs, account) == 0
    async with api.account(account.id) as connection:
        await change_rule(connection, rule.id, MONTHLY, paused=False, now=NOON)
    assert await look(jobs, account) == 1
    async with api.account(account.id) as connection:
        await delete_rule(connection, rule.id)
    assert await look(jobs, account, NOON + timedelta(days=2)) == 0
    assert await subjects(jobs) == ["alert 50.000000000000"], "what was decided still arrives"


async def test_what_is_recorded_calls_for_a_look_in_the_order_of_commits(
    jobs, api, new_account, make, spend
):
    watched, other, idle = [await new_account() for _ in range(3)]
    assert await accounts_to_judge(jobs, 0) == []
    for account in (watched, idle):
        await make(account)
    due = await accounts_to_judge(jobs, 0)
    assert {account for account, _ in due} == {watched.id, idle.id}, "new rules are looked at"
    for account in (watched, idle):
        await look(jobs, account)
    assert await accounts_to_judge(jobs, 0) == []
    spend(watched, "1")
    spend(other, "1")
    ((account_id, number),) = await accounts_to_judge(jobs, 0)
    assert (account_id, number > 0) == (watched.id, True)
    assert await accounts_to_judge(jobs, number) == []
    spend(watched, "1")
    ((again, later),) = await accounts_to_judge(jobs, number)
    assert (again, later > number) == (watched.id, True)


@pytest.mark.parametrize(
    ("definition", "mailed"),
    [
        (Definition("error_rate", "percent", Decimal(50), Period("rolling", hours=24)), "alert 50"),
        (Definition("error_rate", "count", Decimal(1), Period("rolling", hours=720)), "alert 1"),
        (Definition("latency_p95", "ms", Decimal(310), Period("rolling", hours=1)), "warning 30"),
        (Definition("latency_p95", "ms", Decimal(310), Period("rolling", hours=168)), "warning 30"),
        (Definition("request_volume", "count", Decimal(2), Period("rolling", hours=6)), "alert 2"),
        (Definition("budget", "chf", Decimal(1), Period("created")), "alert 1.0"),
    ],
)
async def test_each_type_is_judged_with_the_rights_of_the_jobs_process(
    jobs, new_account, make, spend, definition, mailed
):
    account = await new_account()
    await make(account, definition)
    for status in (200, 500):
        spend(account, "1", status=status, latency_ms=290.0)
    assert await look(jobs, account) == 1
    (subject,) = await subjects(jobs)
    assert subject.startswith(mailed)


async def test_up_to_where_all_was_looked_at_is_noted_and_never_goes_back(jobs):
    assert await judged_up_to(jobs) == 0
    assert await judged_up_to(jobs, 7) == 7
    assert await judged_up_to(jobs, 5) == 7
    assert await judged_up_to(jobs) == 7


async def test_a_rule_whose_time_has_come_is_looked_at_without_a_request(
    jobs, new_account, make, spend, administrator
):
    account = await new_account()
    rolling = Definition("request_volume", "count", Decimal(1), Period("rolling", hours=1))
    now = datetime.now(UTC)
    await make(account, rolling, now)
    spend(account, "1", now)
    assert await look(jobs, account, now) == 1
    later = now + timedelta(hours=23)
    assert await look(jobs, account, later) == 0, "no data by then"
    spend(account, "1", later)
    assert await look(jobs, account, later) == 0, "reached anew, but too soon"
    ((account_id, number),) = await accounts_to_judge(jobs, 1)
    assert number > 1
    assert await accounts_to_judge(jobs, number) == []
    administrator.execute("UPDATE metrion.alert_rules SET look_at = look_at - interval '1 day'")
    assert await accounts_to_judge(jobs, number) == [(account_id, 0)]
    spend(account, "1", now + timedelta(hours=24))
    assert await look(jobs, account, now + timedelta(hours=24)) == 1


async def test_nothing_of_another_account_is_looked_at(jobs, new_account, make, spend):
    ada, eve = await new_account(), await new_account()
    await make(ada)
    spend(eve, "50")
    assert await look(jobs, ada) == 0
    assert await look(jobs, eve) == 0


async def test_an_erased_account_is_no_longer_looked_at(
    jobs, api, new_account, make, spend, administrator
):
    account = await new_account()
    await make(account)
    spend(account, "50")
    assert await look(jobs, account) == 1
    administrator.execute("DELETE FROM metrion.accounts WHERE id = %s", [account.id])
    assert await accounts_to_judge(jobs, 0) == []
    assert await look(jobs, account) == 0
    assert await subjects(jobs) == []
    left = administrator.execute("SELECT count(*) AS rows FROM metrion.alert_mails").fetchone()
    assert left == {"rows": 0}
