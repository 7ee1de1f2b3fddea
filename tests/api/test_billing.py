"""The client against `localstripe` in a process of its own, and against our fake.

`localstripe` has customers and subscriptions; it has neither Checkout nor portal, and knows no
idempotency keys: for those there is `scripts.fake_stripe`.
"""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from api.billing import InvalidSignatureError, StripeBilling
from api.main import create_app
from scripts.fake_stripe import MONTH_SECONDS
from scripts.ports import claim_port
from storage import billing as rows
from storage import roles
from storage.accounts import create_account, get_account
from storage.database import Database
from storage.errors import BillingUnavailable
from storage.settings import Settings

KEY = "sk_test_of_metrion"
_SERVE = """
import sys
from aiohttp import web
from localstripe.server import app
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""


def client_of(url):
    return StripeBilling(SecretStr(KEY), SecretStr("whsec_x"), "price_pro", url)


@pytest.fixture(scope="module")
def localstripe():
    """An HTTP client for a localstripe; one process for the tests here."""
    port = claim_port(0, "")
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _SERVE, str(port)], stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, auth=(KEY, "")) as client:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(httpx.ConnectError):
                client.get("/v1/customers").raise_for_status()
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.post("/v1/products", data={"id": "PRO", "name": "Pro", "type": "service"})
        client.post(
            "/v1/plans",
            data={
                "id": "pro",
                "product": "PRO",
                "currency": "eur",
                "interval": "month",
                "amount": 0,  # paid at once, without a card
            },
        ).raise_for_status()
        yield client
    process.terminate()
    process.wait()


@pytest.fixture
async def local(localstripe):
    opened = client_of(str(localstripe.base_url).rstrip("/"))
    yield opened
    opened.close()


@pytest.fixture
async def faked(fake_stripe):
    opened = client_of(fake_stripe.url)
    yield opened
    opened.close()


def subscribe(localstripe, customer_id):
    made = localstripe.post(
        "/v1/subscriptions", data={"customer": customer_id, "items[0][plan]": "pro"}
    )
    return made.raise_for_status().json()


# ---- localstripe


async def test_a_customer_and_its_subscription_at_localstripe(localstripe, local):
    account_id = uuid.uuid4()
    customer_id = await local.make_customer(account_id, "key")
    await local.name_customer(customer_id, "ada@example.com")
    kept = localstripe.get(f"/v1/customers/{customer_id}").json()
    assert kept["email"] == "ada@example.com"
    assert kept["metadata"] == {"metrion_account": str(account_id)}
    found = await local.find_customer(customer_id)
    assert (found.is_there, found.subscription) == (True, None)
    made = subscribe(localstripe, customer_id)
    found = await local.find_customer(customer_id)
    assert (found.subscription.id, found.subscription.status) == (made["id"], "active")
    assert found.subscription.current_period_end == datetime.fromtimestamp(
        made["current_period_end"], UTC
    )
    localstripe.post(f"/v1/subscriptions/{made['id']}", data={"cancel_at_period_end": "true"})
    assert (await local.find_customer(customer_id)).subscription.cancel_at_period_end


async def test_erasing_at_localstripe_can_be_repeated(localstripe, local):
    customer_id = await local.make_customer(uuid.uuid4(), "key")
    made = [subscribe(localstripe, customer_id) for _ in range(2)]
    await local.erase_customer(customer_id)
    for each in made:
        assert localstripe.get(f"/v1/subscriptions/{each['id']}").json()["status"] == "canceled"
    assert localstripe.get(f"/v1/customers/{customer_id}").status_code == 404
    await local.erase_customer(customer_id)
    assert not (await local.find_customer(customer_id)).is_there


async def test_what_ended_by_itself_does_not_stop_an_erasure(localstripe, local):
    customer_id = await local.make_customer(uuid.uuid4(), "key")
    made = subscribe(localstripe, customer_id)
    localstripe.delete(f"/v1/subscriptions/{made['id']}")
    assert (await local.find_customer(customer_id)).subscription is None
    await local.erase_customer(customer_id)
    assert localstripe.get(f"/v1/customers/{customer_id}").status_code == 404


async def test_webhooks_of_localstripe_are_taken(localstripe, local, database, serve):
    """Signed by another hand than ours and the library's."""
    settings = database.settings.model_copy(
        update={
            "stripe_secret_key": SecretStr(KEY),
            "stripe_webhook_secret": SecretStr("whsec_of_localstripe"),
            "stripe_price_id": "pro",
            "stripe_api_base": str(localstripe.base_url).rstrip("/"),
        }
    )
    as_api = Database(database.url(roles.API))
    account_id = (await create_account(as_api, database.keys, "ada@example.com")).id
    customer_id = await local.make_customer(account_id, "key")
    async with as_api.account(account_id) as connection:
        await rows.begin_checkout(connection, account_id)
        await rows.keep_customer(connection, customer_id)

    async def until(plan):
        deadline = time.monotonic() + 20
        while True:
            async with as_api.account(account_id) as connection:
                if (await get_account(connection)).plan == plan:
                    return
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    with serve(create_app(settings)) as client:
        hook = {
            "url": str(client.base_url.join("/api/v1/billing/webhook")),
            "secret": "whsec_of_localstripe",
        }
        localstripe.post("/_config/webhooks/metrion", data=hook).raise_for_status()
        made = subscribe(localstripe, customer_id)
        await until("pro")
        localstripe.delete(f"/v1/subscriptions/{made['id']}").raise_for_status()
        await until("free")
        hook["url"] = "http://127.0.0.1:9/nobody"
        localstripe.post("/_config/webhooks/metrion", data=hook).raise_for_status()
    await as_api.close()


# ---- our fake


async def test_a_customer_is_made_once(fake_stripe, faked):
    account_id = uuid.uuid4()
    made = {await faked.make_customer(account_id, "key") for _ in range(2)}
    assert len(made) == 1
    assert await faked.make_customer(account_id, "another") not in made
    assert all("email" not in each.parameters for each in fake_stripe.asked)


async def test_the_subscription_that_counts_is_the_best_and_newest(fake_stripe, faked):
    customer_id = await faked.make_customer(uuid.uuid4(), "key")
    await_status = [
        ("incomplete_expired", None),
        ("incomplete", "incomplete"),
        ("past_due", "past_due"),
        ("unpaid", "past_due"),
        ("active", "active"),
        ("of_the_future", "active"),
    ]
    for status, expected in await_status:
        fake_stripe.subscribe(customer_id, status)
        found = (await faked.find_customer(customer_id)).subscription
        assert (found and found.status) == expected
    newest = fake_stripe.subscribe(customer_id)
    found = (await faked.find_customer(customer_id)).subscription
    assert found.id == newest["id"]
    in_a_month = datetime.now(UTC).timestamp() + MONTH_SECONDS
    assert abs(found.current_period_end.timestamp() - in_a_month) < 60


async def test_an_open_checkout_is_given_again_and_closed_by_an_erasure(fake_stripe, faked):
    account_id = uuid.uuid4()
    customer_id = await faked.make_customer(account_id, "key")
    urls = [
        await faked.open_checkout(account_id, customer_id, "http://127.0.0.1/plan") for _ in "12"
    ]
    assert urls[0] == urls[1]
    fake_stripe.subscribe(customer_id)
    await faked.erase_customer(customer_id)
    kinds = {each["object"]: each for each in fake_stripe.things.values()}
    assert kinds["checkout.session"]["status"] == "expired"
    assert kinds["subscription"]["status"] == "canceled"
    assert kinds["customer"]["deleted"]
    canceled = [
        each for each in fake_stripe.events if each["type"].endswith("subscription.deleted")
    ]
    await faked.erase_customer(customer_id)
    assert len(canceled) == 1
    assert [e for e in fake_stripe.events if e["type"].endswith("subscription.deleted")] == canceled


@pytest.mark.parametrize("failing_at", range(5))
async def test_an_erasure_that_broke_off_goes_on(fake_stripe, faked, failing_at):
    account_id = uuid.uuid4()
    customer_id = await faked.make_customer(account_id, "key")
    await faked.open_checkout(account_id, customer_id, "http://127.0.0.1/plan")
    fake_stripe.subscribe(customer_id)
    done = len(fake_stripe.asked)
    answer = fake_stripe.answer

    def fail(asked):
        is_down = len(fake_stripe.asked) >= done + failing_at
        return (400, {"error": {"message": KEY}}) if is_down else answer(asked)

    fake_stripe.answer = fail
    with pytest.raises(BillingUnavailable) as refused:
        await faked.erase_customer(customer_id)
    assert KEY not in str(refused.value)
    fake_stripe.answer = answer
    await faked.erase_customer(customer_id)
    assert fake_stripe.things[customer_id]["deleted"]
    kinds = [each["type"] for each in fake_stripe.events]
    assert kinds.count("customer.subscription.deleted") == 1


async def test_an_address_where_nobody_is_says_so_in_time():
    nobody = client_of("http://127.0.0.1:9")
    begun = time.monotonic()
    with pytest.raises(BillingUnavailable, match="no answer"):
        await nobody.find_customer("cus_1")
    assert time.monotonic() - begun < 15
    nobody.close()


async def test_while_stripe_is_asked_the_rest_goes_on(fake_stripe, faked):
    customer_id = await faked.make_customer(uuid.uuid4(), "key")
    answer = fake_stripe.answer
    has_gone_on = threading.Event()

    def slowly(asked):
        assert has_gone_on.wait(10)
        return answer(asked)

    fake_stripe.answer = slowly
    asking = asyncio.gather(*(faked.find_customer(customer_id) for _ in range(4)))
    await asyncio.sleep(0)
    has_gone_on.set()
    assert all(found.is_known for found in await asking)


def test_without_settings_there_is_no_client_and_no_library():
    assert StripeBilling.open(Settings()) is None
    loaded = subprocess.run(
        [
            *(sys.executable, "-P", "-c"),
            "import sys, api.main, scripts.jobs; print('stripe' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "False\n"


def test_what_is_not_signed_is_refused(faked):
    with pytest.raises(InvalidSignatureError):
        faked.read_event(b"{}", None)
