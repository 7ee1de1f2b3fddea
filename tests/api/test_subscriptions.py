import pytest
from pydantic import SecretStr

from api.billing import StripeBilling
from api.subscriptions import Subscriptions, check_subscriptions, synchronise
from storage import billing as rows
from storage import roles
from storage.accounts import create_account, get_account
from storage.database import Database
from storage.errors import BillingUnavailable


@pytest.fixture
async def stripe(fake_stripe):
    opened = StripeBilling(SecretStr("sk_test_x"), SecretStr("whsec_x"), "price", fake_stripe.url)
    yield opened
    opened.close()


@pytest.fixture
async def as_api(database):
    opened = Database(database.url(roles.API))
    yield opened
    await opened.close()


@pytest.fixture
async def as_jobs(database):
    opened = Database(database.url(roles.JOBS))
    yield opened
    await opened.close()


@pytest.fixture
async def customer(as_api, database, stripe):
    """An account that went to pay: its id, and its customer's."""
    account_id = (await create_account(as_api, database.keys, "ada@example.com")).id
    customer_id = await stripe.make_customer(account_id, "key")
    async with as_api.account(account_id) as connection:
        await rows.begin_checkout(connection, account_id)
        await rows.keep_customer(connection, customer_id)
    return account_id, customer_id


async def plan(as_api, account_id):
    async with as_api.account(account_id) as connection:
        return (await get_account(connection)).plan


async def known(as_api, account_id):
    async with as_api.account(account_id) as connection:
        return await rows.get_billing(connection)


async def test_who_writes_in_between_makes_us_ask_again(
    as_api, stripe, fake_stripe, customer, monkeypatch
):
    """What was asked first is old by the time that it would be written."""
    account_id, customer_id = customer
    bought = fake_stripe.subscribe(customer_id)
    find, asked = stripe.find_customer, 0

    async def slowly(customer_id):
        nonlocal asked
        found = await find(customer_id)
        asked += 1
        if asked == 1:  # meanwhile it ends, and another process hears of it
            fake_stripe.change(bought["id"], status="canceled")
            seen = await known(as_api, account_id)
            async with as_api.account(account_id) as connection:
                assert await rows.record_subscription(connection, seen, customer_id, None)
        return found

    monkeypatch.setattr(stripe, "find_customer", slowly)
    await synchronise(as_api, stripe, account_id)
    assert asked == 2
    assert await plan(as_api, account_id) == "free"


async def test_it_is_not_tried_for_ever(as_api, stripe, customer, monkeypatch):
    account_id, _ = customer
    find = stripe.find_customer

    async def overtaken(customer_id):
        seen = await known(as_api, account_id)
        async with as_api.account(account_id) as connection:
            await rows.record_subscription(connection, seen, customer_id, None)
        return await find(customer_id)

    monkeypatch.setattr(stripe, "find_customer", overtaken)
    with pytest.raises(BillingUnavailable, match="faster"):
        await synchronise(as_api, stripe, account_id)


async def test_a_lost_webhook_is_made_up_for(
    as_api, as_jobs, stripe, fake_stripe, customer, database
):
    account_id, customer_id = customer
    fake_stripe.subscribe(customer_id)
    assert await check_subscriptions(as_jobs, stripe) == 0
    await age(database, account_id)
    assert await check_subscriptions(as_jobs, stripe) == 1
    assert await plan(as_api, account_id) == "pro"
    assert await check_subscriptions(as_jobs, stripe) == 0
    await age(database, account_id)
    fake_stripe.delete_customer({}, customer_id)
    await check_subscriptions(as_jobs, stripe)
    ended = await known(as_api, account_id)
    assert (ended.customer_id, ended.status) == (None, "canceled")
    assert await plan(as_api, account_id) == "free"


async def test_when_stripe_is_away_the_check_comes_again(
    as_api, as_jobs, stripe, fake_stripe, customer, database
):
    account_id, customer_id = customer
    fake_stripe.subscribe(customer_id)
    await age(database, account_id)
    fake_stripe.failures += [400]
    with pytest.raises(BillingUnavailable):
        await check_subscriptions(as_jobs, stripe)
    assert await check_subscriptions(as_jobs, stripe) == 1
    assert await plan(as_api, account_id) == "pro"


async def test_one_of_whom_stripe_does_not_answer_holds_up_no_others(
    as_api, as_jobs, stripe, fake_stripe, customer, database
):
    account_id, customer_id = customer
    fake_stripe.subscribe(customer_id)
    other = (await create_account(as_api, database.keys, "eve@example.com")).id
    async with as_api.account(other) as connection:
        await rows.begin_checkout(connection, other)
        await rows.keep_customer(connection, "cus_bad")
    await age(database, account_id)
    answer = fake_stripe.answer
    fake_stripe.answer = lambda asked: (
        (400, {"error": {"message": "bad"}}) if "cus_bad" in asked.path else answer(asked)
    )
    for _ in range(3):
        with pytest.raises(BillingUnavailable):
            await check_subscriptions(as_jobs, stripe)
        assert await plan(as_api, account_id) == "pro"


async def test_with_the_key_of_another_account_nobody_loses_what_is_paid_for(
    as_api, as_jobs, stripe, fake_stripe, customer, database, caplog
):
    account_id, customer_id = customer
    fake_stripe.subscribe(customer_id)
    await synchronise(as_api, stripe, account_id)
    before = await known(as_api, account_id)
    fake_stripe.things.clear()
    await age(database, account_id)
    assert await check_subscriptions(as_jobs, stripe) == 1
    after = await known(as_api, account_id)
    assert (after.customer_id, after.status) == (customer_id, "active")
    assert after.updated_at == before.updated_at
    assert await plan(as_api, account_id) == "pro"
    assert "another account" in caplog.text
    assert await check_subscriptions(as_jobs, stripe) == 0


@pytest.mark.parametrize("status", ["active", "unpaid"])
async def test_with_the_key_of_another_account_a_look_forgets_nobody_who_pays(
    as_api, stripe, fake_stripe, customer, status
):
    account_id, customer_id = customer
    fake_stripe.subscribe(customer_id, status)
    before = await synchronise(as_api, stripe, account_id)
    plan_before = await plan(as_api, account_id)
    things = dict(fake_stripe.things)
    fake_stripe.things.clear()
    with pytest.raises(BillingUnavailable, match="another account"):
        await synchronise(as_api, stripe, account_id)
    assert await known(as_api, account_id) == before
    assert await plan(as_api, account_id) == plan_before
    fake_stripe.things |= things
    assert (await synchronise(as_api, stripe, account_id)).status == status


@pytest.mark.parametrize("status", ["canceled", None])
async def test_who_has_nothing_at_another_account_is_forgotten_there(
    as_api, stripe, fake_stripe, customer, status
):
    account_id, customer_id = customer
    if status is not None:
        bought = fake_stripe.subscribe(customer_id)
        await synchronise(as_api, stripe, account_id)
        fake_stripe.change(bought["id"], status=status)
        await synchronise(as_api, stripe, account_id)
    fake_stripe.things.clear()
    found = await synchronise(as_api, stripe, account_id)
    assert (found.customer_id, found.status) == (None, status)


async def age(database, account_id):
    """Let the last look at Stripe be two minutes ago."""
    administrator = Database(database.administrator_url)
    async with administrator.system() as connection:
        await connection.exec_driver_sql(
            "UPDATE metrion.billing SET checked_at = now() - interval '2 minutes',"
            " checkout_at = now()"
        )
    await administrator.close()


async def test_cancelling_is_repeated_until_it_is_done(
    as_api, as_jobs, stripe, fake_stripe, customer
):
    account_id, customer_id = customer
    fake_stripe.subscribe(customer_id)
    subscriptions = Subscriptions(as_jobs, stripe)
    fake_stripe.failures += [400]
    with pytest.raises(BillingUnavailable):
        await subscriptions.cancel_subscription(account_id)
    assert (await known(as_api, account_id)).closed_at is not None
    for _ in range(3):
        await subscriptions.cancel_subscription(account_id)
    assert fake_stripe.things[customer_id]["deleted"]
    kinds = [event["type"] for event in fake_stripe.events]
    assert kinds.count("customer.subscription.deleted") == 1
    assert await synchronise(as_api, stripe, account_id) is None


async def test_with_the_key_of_another_account_nothing_counts_as_cancelled(
    as_api, as_jobs, stripe, fake_stripe, customer
):
    account_id, customer_id = customer
    bought = fake_stripe.subscribe(customer_id)
    await synchronise(as_api, stripe, account_id)
    things = dict(fake_stripe.things)
    fake_stripe.things.clear()
    subscriptions = Subscriptions(as_jobs, stripe)
    for _ in range(2):
        with pytest.raises(BillingUnavailable, match="another account"):
            await subscriptions.cancel_subscription(account_id)
    fake_stripe.things |= things
    await subscriptions.cancel_subscription(account_id)
    assert fake_stripe.things[bought["id"]]["status"] == "canceled"
    assert fake_stripe.things[customer_id]["deleted"]


async def test_who_never_subscribed_is_erased_also_with_the_key_of_another_account(
    as_api, as_jobs, stripe, fake_stripe, customer
):
    account_id, _ = customer
    fake_stripe.things.clear()
    await Subscriptions(as_jobs, stripe).cancel_subscription(account_id)
    assert (await known(as_api, account_id)).closed_at is not None


async def test_who_never_paid_needs_no_stripe(as_api, as_jobs, database, fake_stripe):
    account_id = (await create_account(as_api, database.keys, "eve@example.com")).id
    await Subscriptions(as_jobs, None).cancel_subscription(account_id)
    assert fake_stripe.asked == []


async def test_without_stripe_nobody_says_that_it_is_done(as_jobs, customer):
    account_id, _ = customer
    with pytest.raises(BillingUnavailable, match="not configured"):
        await Subscriptions(as_jobs, None).cancel_subscription(account_id)


async def test_an_account_that_is_gone_has_nothing_to_cancel(as_jobs, stripe, customer, database):
    account_id, _ = customer
    administrator = Database(database.administrator_url)
    async with administrator.system() as connection:
        await connection.exec_driver_sql("DELETE FROM metrion.accounts")
    await administrator.close()
    await Subscriptions(as_jobs, stripe).cancel_subscription(account_id)


async def test_what_is_not_known_at_stripe_cannot_be_looked_up(
    as_api, stripe, customer, fake_stripe
):
    account_id, _ = customer
    seen = await known(as_api, account_id)
    async with as_api.account(account_id) as connection:
        await rows.record_subscription(connection, seen, None, None)
    asked = len(fake_stripe.asked)
    found = await synchronise(as_api, stripe, account_id)
    assert found.customer_id is None
    assert len(fake_stripe.asked) == asked
