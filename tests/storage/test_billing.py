from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from storage import accounts, roles
from storage import billing as rows
from storage.billing import Subscription, plan_of
from storage.database import Database
from storage.errors import NotFound

NEXT_MONTH = datetime(2030, 1, 1, tzinfo=UTC)
ACTIVE = Subscription("sub_1", "active", NEXT_MONTH, cancel_at_period_end=False)


@pytest.fixture
async def jobs(database):
    """The database as the jobs process sees it."""
    opened = Database(database.url(roles.JOBS), pool_size=2)
    yield opened
    await opened.close()


@pytest.fixture
def customer(api, new_account):
    """A function that makes an account that went to pay, and returns its id."""

    async def make(customer_id="cus_1", plan="free"):
        account_id = (await new_account(plan)).id
        async with api.account(account_id) as connection:
            await rows.begin_checkout(connection, account_id)
            assert await rows.keep_customer(connection, customer_id)
        return account_id

    return make


async def known(api, account_id):
    async with api.account(account_id) as connection:
        return await rows.get_billing(connection)


async def plan(api, account_id):
    async with api.account(account_id) as connection:
        return (await accounts.get_account(connection)).plan


async def record(api, account_id, found, *, event=None, seen=None, customer_id="cus_1"):
    seen = seen or await known(api, account_id)
    async with api.account(account_id) as connection:
        return await rows.record_subscription(connection, seen, customer_id, found, event)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, "pro") for status in ("active", "trialing", "past_due")),
        *((status, "free") for status in ("canceled", "unpaid", "incomplete")),
        *((status, "free") for status in ("incomplete_expired", "paused", "of_the_future", None)),
    ],
)
def test_which_subscription_gives_pro(status, expected):
    assert plan_of(status) == expected


async def test_who_never_went_to_pay_has_no_row(api, new_account):
    account = await new_account()
    assert await known(api, account.id) is None


async def test_a_customer_is_kept_and_found_again(api, customer):
    account_id = await customer("cus_ann")
    assert (await known(api, account_id)).customer_id == "cus_ann"
    async with api.account(account_id) as connection:
        assert not await rows.keep_customer(connection, "cus_other")
        again = await rows.begin_checkout(connection, account_id)
    assert again.customer_id == "cus_ann"
    async with api.system() as connection:
        assert await rows.account_by_customer(connection, "cus_ann") == account_id
        assert await rows.account_by_customer(connection, "cus_other") is None
        assert await rows.get_billing(connection) is None


async def test_the_plan_follows_the_subscription(api, customer):
    account_id = await customer()
    assert await record(api, account_id, ACTIVE)
    kept = await known(api, account_id)
    assert (kept.subscription_id, kept.status) == ("sub_1", "active")
    assert (kept.current_period_end, kept.cancel_at_period_end) == (NEXT_MONTH, False)
    assert await plan(api, account_id) == "pro"
    assert await record(api, account_id, replace(ACTIVE, status="past_due"))
    assert await plan(api, account_id) == "pro"
    assert await record(api, account_id, replace(ACTIVE, status="unpaid"))
    assert await plan(api, account_id) == "free"
    assert await record(api, account_id, ACTIVE)
    assert await record(api, account_id, None)
    assert await plan(api, account_id) == "free"
    ended = await known(api, account_id)
    assert (ended.status, ended.subscription_id) == ("canceled", "sub_1")


async def test_a_subscription_that_never_was_is_not_canceled(api, customer):
    account_id = await customer()
    assert await record(api, account_id, None)
    assert (await known(api, account_id)).status is None


async def test_what_was_asked_before_another_wrote_is_not_written(api, customer):
    account_id = await customer()
    seen = await known(api, account_id)
    assert await record(api, account_id, replace(ACTIVE, status="canceled"), seen=seen)
    assert not await record(api, account_id, ACTIVE, seen=seen, event="evt_late")
    assert await plan(api, account_id) == "free"
    async with api.account(account_id) as connection:
        assert not await rows.is_known_event(connection, "evt_late")


async def test_what_the_operator_sets_stays_until_the_subscription_changes(api, customer):
    account_id = await customer()
    await record(api, account_id, ACTIVE)
    for status, expected in (("active", "free"), ("past_due", "free"), ("canceled", "free")):
        async with api.account(account_id) as connection:
            await accounts.set_plan(connection, "free")
        await record(api, account_id, replace(ACTIVE, status=status))
        assert await plan(api, account_id) == expected
    async with api.account(account_id) as connection:
        await accounts.set_plan(connection, "pro")
    await record(api, account_id, replace(ACTIVE, status="canceled"))
    assert await plan(api, account_id) == "pro"
    await record(api, account_id, ACTIVE)
    await record(api, account_id, None)
    assert await plan(api, account_id) == "free"


async def test_unchanged_means_only_that_it_was_looked_at(api, customer):
    account_id = await customer()
    await record(api, account_id, ACTIVE)
    first = await known(api, account_id)
    await record(api, account_id, ACTIVE)
    second = await known(api, account_id)
    assert second.updated_at == first.updated_at
    assert second.checked_at > first.checked_at
    assert second.version == first.version + 1


async def test_events_are_remembered_for_a_month(api, customer, jobs, administrator):
    account_id = await customer()
    await record(api, account_id, ACTIVE, event="evt_1")
    await record(api, account_id, ACTIVE, event="evt_1")
    await record(api, account_id, ACTIVE, event="evt_2")
    administrator.execute(
        "UPDATE metrion.billing_events SET received_at = now() - interval '32 days'"
        " WHERE id = 'evt_1'"
    )
    assert await rows.forget_events(jobs) == 1
    async with api.account(account_id) as connection:
        assert await rows.is_known_event(connection, "evt_2")
        assert not await rows.is_known_event(connection, "evt_1")


async def test_who_is_asked_about_without_a_webhook(api, customer, jobs, administrator):
    paying, ended, quiet, over = [await customer(f"cus_{number}") for number in range(4)]
    for account_id in (ended, quiet, over):
        customer_id = (await known(api, account_id)).customer_id
        await record(api, account_id, ACTIVE, customer_id=customer_id)

    async def due():
        async with jobs.system() as connection:
            return {found.account_id for found in await rows.billing_to_check(connection, 10)}

    assert await due() == set()
    old = {paying: "2 minutes", ended: "2 hours", quiet: "23 hours", over: "2 hours"}
    for account_id, age in old.items():
        administrator.execute(
            "UPDATE metrion.billing SET checked_at = now() - %s::interval,"
            " checkout_at = now() - %s::interval WHERE account_id = %s",
            [age, "0" if account_id == paying else "1 day", account_id],
        )
    administrator.execute(
        "UPDATE metrion.billing SET current_period_end = now() - interval '1 h',"
        " status = CASE account_id WHEN %s THEN 'active' ELSE 'canceled' END"
        " WHERE account_id = ANY (%s)",
        [ended, [ended, over]],
    )
    assert await due() == {paying, ended}
    administrator.execute("UPDATE metrion.billing SET checked_at = checked_at - interval '1 day'")
    assert await due() == {paying, ended, quiet, over}
    async with jobs.system() as connection:
        assert len(await rows.billing_to_check(connection, 2)) == 2


async def test_the_jobs_record_for_the_account_that_they_name(api, customer, jobs):
    account_id, other = await customer("cus_1"), await customer("cus_2")
    seen = await known(api, account_id)
    for expected in (True, False):
        async with jobs.system() as connection:
            done = await rows.record_subscription_of(connection, seen, "cus_1", ACTIVE)
        assert done is expected
    assert await plan(api, account_id) == "pro"
    assert await plan(api, other) == "free"
    assert (await known(api, other)).status is None


async def test_after_closing_nothing_begins_or_wakes_up(api, customer, jobs, new_account):
    account_id = await customer("cus_gone")
    seen = await known(api, account_id)
    for _ in range(2):
        async with jobs.system() as connection:
            assert (await rows.close_billing(connection, account_id)).customer_id == "cus_gone"
    async with api.system() as connection:
        assert await rows.account_by_customer(connection, "cus_gone") is None
    assert not await record(api, account_id, ACTIVE, seen=seen, customer_id="cus_gone")
    async with api.account(account_id) as connection:
        assert not await rows.keep_customer(connection, "cus_gone")
        with pytest.raises(NotFound):
            await rows.begin_checkout(connection, account_id)
    never_paid = (await new_account()).id
    async with jobs.system() as connection:
        assert (await rows.close_billing(connection, never_paid)).customer_id is None
    async with api.account(never_paid) as connection:
        with pytest.raises(NotFound):
            await rows.begin_checkout(connection, never_paid)


async def test_an_account_that_is_gone_has_nothing_to_close(customer, jobs, administrator):
    account_id = await customer()
    administrator.execute("DELETE FROM metrion.accounts WHERE id = %s", [account_id])
    async with jobs.system() as connection:
        assert await rows.close_billing(connection, account_id) is None
        assert await rows.billing_to_check(connection, 10) == []
    left = administrator.execute("SELECT * FROM metrion.billing").fetchall()
    assert left == []


async def test_a_downgrade_hides_old_rows_at_once(api, customer, writer, log_row):
    account_id = await customer(plan="pro")
    await record(api, account_id, ACTIVE)
    old = datetime.now(UTC) - timedelta(days=20)
    writer.write([log_row(account_id, old), log_row(account_id)])

    async def visible():
        async with api.account(account_id) as connection:
            rows_now = await connection.exec_driver_sql("SELECT count(*) FROM metrion.request_logs")
            return rows_now.scalar_one()

    assert await visible() == 2
    await record(api, account_id, None)
    assert await visible() == 1
