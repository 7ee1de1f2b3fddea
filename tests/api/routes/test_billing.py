"""Plans, Checkout and portal against a fake Stripe; webhooks signed for the real library's check."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import stripe

from api.main import create_app
from storage import roles
from storage.accounts import set_plan
from storage.billing import close_billing
from storage.database import Database

SECRET = "whsec_of_metrion"
WEBHOOK = "/api/v1/billing/webhook"
EMAIL = "ada@never-told.example"


@pytest.fixture
def ada(paid_api, sign_in):
    """A client that is signed in where payments are taken."""
    sign_in(EMAIL, paid_api)
    return paid_api


def checkout(client):
    answer = client.post("/api/v1/billing/checkout")
    assert answer.status_code == 200, answer.text
    return answer.json()["url"]


def subscribe(client, fake_stripe, status="active"):
    """Go through Checkout, as if the webhooks had not come yet; return the subscription."""
    return fake_stripe.pay(checkout(client).rpartition("/")[2], status)


def signature(body, secret=SECRET, age=0):
    """The header as Stripe's own library makes it."""
    return stripe.WebhookSignature.generate_signature_header(
        body.decode(), secret, int(time.time()) - age
    )


def send(client, event, **options):
    body = json.dumps(event).encode()
    return client.post(
        WEBHOOK, content=body, headers={"stripe-signature": signature(body, **options)}
    )


def outcome(client, event):
    answer = send(client, event)
    assert answer.status_code == 200, answer.text
    return answer.json()["outcome"]


def plan(client):
    return client.get("/api/v1/account").json()["plan"]


def subscription(client):
    return client.get("/api/v1/billing").json()["subscription"]


# ---- without Stripe


def test_without_stripe_the_plans_are_shown_and_nothing_can_be_bought(api, sign_in):
    sign_in(EMAIL)
    shown = api.get("/api/v1/billing").json()
    assert (shown["takes_payments"], shown["can_manage"], shown["subscription"]) == (
        False,
        False,
        None,
    )
    assert [
        (each["name"], each["month_limit"], each["retention_days"]) for each in shown["plans"]
    ] == [
        ("free", 10_000, 7),
        ("pro", None, 90),
    ]
    for path in ("checkout", "portal", "webhook"):
        answer = api.post(f"/api/v1/billing/{path}")
        assert answer.status_code == 404
        assert "metrion plan set" in answer.json()["detail"]


async def test_the_metrion_key_is_not_enough(paid_api, new_account):
    account = await new_account(EMAIL)
    for method, path in (("GET", ""), ("POST", "/checkout"), ("POST", "/portal")):
        answer = paid_api.request(method, f"/api/v1/billing{path}", headers=account.headers)
        assert answer.status_code == 401


# ---- paying


def test_checkout_leads_to_pro_and_back(ada, fake_stripe):
    url = checkout(ada)
    assert url.startswith(fake_stripe.url)
    (customer,) = [each for each in fake_stripe.things.values() if each["object"] == "customer"]
    assert customer["email"] == EMAIL
    asked = next(
        each
        for each in fake_stripe.asked
        if each.path == "/v1/checkout/sessions" and each.method == "POST"
    )
    assert asked.parameters["mode"] == "subscription"
    assert asked.parameters["line_items[0][price]"] == "price_pro"
    assert asked.parameters["client_reference_id"] == ada.get("/api/v1/account").json()["id"]
    home = str(ada.base_url).rstrip("/")
    assert asked.parameters["success_url"] == f"{home}/settings/plan?checkout=done"
    assert asked.parameters["cancel_url"] == f"{home}/settings/plan"
    assert plan(ada) == "free"

    bought = fake_stripe.pay(url.rpartition("/")[2])
    assert [outcome(ada, event) for event in fake_stripe.events] == ["applied", "applied"]
    assert plan(ada) == "pro"
    shown = subscription(ada)
    assert (shown["status"], shown["is_live"], shown["cancel_at_period_end"]) == (
        "active",
        True,
        False,
    )

    assert checkout(ada).startswith(f"{fake_stripe.url}/portal/")  # nobody subscribes twice
    managing = ada.post("/api/v1/billing/portal").json()["url"]
    assert managing.startswith(f"{fake_stripe.url}/portal/")

    fake_stripe.change(bought["id"], cancel_at_period_end=True)
    assert outcome(ada, fake_stripe.events[-1]) == "applied"
    assert subscription(ada)["cancel_at_period_end"] is True
    assert plan(ada) == "pro"
    fake_stripe.change(bought["id"], status="canceled")
    assert outcome(ada, fake_stripe.events[-1]) == "applied"
    assert plan(ada) == "free"
    assert subscription(ada)["is_live"] is False
    assert checkout(ada).startswith(f"{fake_stripe.url}/pay/")


def test_the_pages_lead_back_to_where_the_browser_says_that_it_is(ada, fake_stripe):
    host = ada.base_url.netloc.decode()
    for origin, home in (
        (f"https://{host}", f"https://{host}"),  # TLS ends at a balancer
        ("null", f"http://{host}"),
        ("https://evil.example", f"http://{host}"),
    ):
        fake_stripe.things.clear()
        ada.post(
            "/api/v1/billing/checkout", headers={"origin": origin, "sec-fetch-site": "same-origin"}
        )
        session = next(e for e in fake_stripe.things.values() if e["object"] == "checkout.session")
        assert session["cancel_url"] == f"{home}/settings/plan"


def test_a_caller_that_is_no_browser_is_led_to_the_dashboards_address(
    paid_settings, serve, sign_in, fake_stripe
):
    settings = paid_settings.model_copy(update={"dashboard_url": "https://metrion.example"})
    with serve(create_app(settings)) as client:
        sign_in(EMAIL, client)
        checkout(client)
    session = next(e for e in fake_stripe.things.values() if e["object"] == "checkout.session")
    assert session["cancel_url"] == "https://metrion.example/settings/plan"


def test_two_windows_are_one_customer_and_one_checkout(ada, fake_stripe):
    with ThreadPoolExecutor(4) as pool:
        urls = set(pool.map(lambda _: checkout(ada), range(8)))
    assert len(urls) == 1
    kinds = [each["object"] for each in fake_stripe.things.values()]
    assert sorted(kinds) == ["checkout.session", "customer"]


def test_who_has_paid_but_is_not_known_to_have_cannot_pay_again(ada, fake_stripe):
    subscribe(ada, fake_stripe)  # no webhook has come
    assert plan(ada) == "free"
    assert checkout(ada).startswith(f"{fake_stripe.url}/portal/")
    assert plan(ada) == "pro"


def test_a_customer_that_the_operator_deleted_is_made_anew(ada, fake_stripe):
    subscribe(ada, fake_stripe)
    checkout(ada)
    assert plan(ada) == "pro"
    (customer,) = [key for key in fake_stripe.things if key.startswith("cus_")]
    fake_stripe.delete_customer({}, customer)
    assert outcome(ada, fake_stripe.events[-1]) == "applied"
    assert plan(ada) == "free"
    assert ada.post("/api/v1/billing/portal").status_code == 404
    checkout(ada)
    assert len([key for key in fake_stripe.things if key.startswith("cus_")]) == 2


def test_who_was_a_customer_of_another_stripe_can_pay_here(ada, fake_stripe):
    checkout(ada)
    fake_stripe.things.clear()  # say from test mode to live
    fake_stripe._answers.clear()
    assert checkout(ada).startswith(f"{fake_stripe.url}/pay/")


def test_a_key_of_another_stripe_costs_nobody_who_pays_anything(ada, fake_stripe):
    bought = subscribe(ada, fake_stripe)
    checkout(ada)
    before, things = subscription(ada), dict(fake_stripe.things)
    fake_stripe.things.clear()
    for verb in ("portal", "checkout"):
        assert ada.post(f"/api/v1/billing/{verb}").status_code == 503
    event = fake_stripe.events[-1]
    assert send(ada, event).status_code == 503  # so it comes again
    assert (plan(ada), subscription(ada)) == ("pro", before)
    fake_stripe.things |= things
    assert outcome(ada, event) == "applied"
    assert "/portal/" in checkout(ada)  # no second subscription
    fake_stripe.change(bought["id"], status="canceled")
    assert outcome(ada, fake_stripe.events[-1]) == "applied"
    assert plan(ada) == "free"


async def test_who_has_pro_without_paying_is_not_made_to_pay(ada, database, account_of):
    as_api = Database(database.url(roles.API))
    async with as_api.account(account_of(ada).id) as connection:
        await set_plan(connection, "pro")
    await as_api.close()
    answer = ada.post("/api/v1/billing/checkout")
    assert answer.status_code == 409
    assert "on Pro already" in answer.json()["detail"]


def test_there_is_nothing_to_manage_before_there_was_something(ada):
    assert ada.post("/api/v1/billing/portal").status_code == 404


def test_when_stripe_fails_it_is_said_and_nothing_is_half_done(ada, fake_stripe):
    fake_stripe.failures += [500] * 3  # two tries more are the library's
    answer = ada.post("/api/v1/billing/checkout")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "60"
    assert "payment service" in answer.json()["detail"]
    fake_stripe.failures += [500, 500]
    assert checkout(ada)
    assert len([key for key in fake_stripe.things if key.startswith("cus_")]) == 1


def test_a_person_cannot_keep_stripe_busy(ada):
    answers = [ada.post("/api/v1/billing/portal").status_code for _ in range(31)]
    assert answers == [404] * 30 + [429]


async def test_nothing_begins_for_an_account_that_is_being_erased(
    ada, fake_stripe, database, account_of
):
    subscribe(ada, fake_stripe)
    jobs = Database(database.url(roles.JOBS))
    async with jobs.system() as connection:
        await close_billing(connection, account_of(ada).id)
    await jobs.close()
    events = list(fake_stripe.events)
    assert [outcome(ada, event) for event in events] == ["ignored"] * len(events)
    assert plan(ada) == "free"
    assert ada.post("/api/v1/billing/checkout").status_code == 404


def execute(database, statement):
    with psycopg.connect(database.administrator_url.get_secret_value()) as administrator:
        done = administrator.execute(statement)
        return done.fetchall() if done.description else []


def test_after_an_erasure_nothing_is_made_anew(ada, fake_stripe, database):
    subscribe(ada, fake_stripe)
    execute(database, "DELETE FROM metrion.accounts")
    assert {outcome(ada, event) for event in fake_stripe.events} == {"ignored"}
    for table in ("accounts", "billing", "billing_events"):
        assert execute(database, f"SELECT * FROM metrion.{table}") == []


@pytest.mark.parametrize(
    "meanwhile",
    ["UPDATE metrion.billing SET closed_at = now()", "DELETE FROM metrion.accounts"],
    ids=["begins", "is done"],
)
def test_an_erasure_while_somebody_goes_to_pay_leaves_no_customer(
    ada, fake_stripe, database, meanwhile
):
    answer = fake_stripe.answer

    def erase_first(asked):
        if (asked.method, asked.path) == ("POST", "/v1/customers"):
            execute(database, meanwhile)
        return answer(asked)

    fake_stripe.answer = erase_first
    assert ada.post("/api/v1/billing/checkout").status_code == 404
    customers = [each for each in fake_stripe.things.values() if each["object"] == "customer"]
    assert [each["deleted"] for each in customers] == [True]
    assert "email" not in customers[0]


# ---- webhooks


def test_only_what_stripe_signed_just_now_is_taken(ada, fake_stripe):
    subscribe(ada, fake_stripe)
    event = fake_stripe.events[0]
    body = json.dumps(event).encode()
    good = signature(body)
    refused = {
        "tampered": (body.replace(b"active", b"actively"), good),
        "one byte": (body + b" ", good),
        "another secret": (body, signature(body, "whsec_of_somebody")),
        "old": (body, signature(body, age=301)),
        "its time changed": (body, signature(body, age=301).replace("t=", "t=9")),
        "no signature": (body, None),
        "empty": (body, ""),
        "not a signature": (body, "t=x,v1=y"),
        "another scheme": (body, good.replace("v1=", "v0=")),
        "signed, but no event": (b'{"object": "list"}', signature(b'{"object": "list"}')),
        "signed, but no JSON": (b"x", signature(b"x")),
        "not even text": (b"\xff\xfe", good),
    }
    for case, (content, header) in refused.items():
        headers = {} if header is None else {"stripe-signature": header}
        answer = ada.post(WEBHOOK, content=content, headers=headers)
        assert answer.status_code == 400, case
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "/api/docs#problem-unsigned-event"
    assert plan(ada) == "free"
    assert ada.post(WEBHOOK, content=body, headers={"stripe-signature": good}).status_code == 200
    assert plan(ada) == "pro"


def test_a_replayed_event_changes_nothing_and_asks_nobody(ada, fake_stripe):
    bought = subscribe(ada, fake_stripe)
    event = fake_stripe.events[0]
    assert outcome(ada, event) == "applied"
    fake_stripe.change(bought["id"], status="canceled")
    asked = len(fake_stripe.asked)
    assert [outcome(ada, event) for _ in range(3)] == ["repeated"] * 3
    assert len(fake_stripe.asked) == asked
    assert plan(ada) == "pro"  # what the unsent event would say is not known yet


def test_an_older_event_never_overrides_a_newer(ada, fake_stripe):
    bought = subscribe(ada, fake_stripe)
    fake_stripe.change(bought["id"], status="past_due")
    fake_stripe.change(bought["id"], status="canceled")
    created, completed, past_due, canceled = fake_stripe.events
    for event in (canceled, past_due, completed, created):
        assert outcome(ada, event) == "applied"
        assert (plan(ada), subscription(ada)) in (("free", None), ("free", subscription(ada)))
    again = fake_stripe.subscribe(bought["customer"])
    fake_stripe.change(again["id"], status="past_due")
    newer, newest = fake_stripe.events[-2:]
    assert [outcome(ada, event) for event in (newest, newer)] == ["applied"] * 2
    assert subscription(ada)["status"] == "past_due"
    assert plan(ada) == "pro"


def test_events_at_the_same_time_end_in_the_present_state(ada, fake_stripe):
    bought = subscribe(ada, fake_stripe)
    for number in range(6):
        fake_stripe.change(bought["id"], status="unpaid" if number % 2 else "active")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda event: send(ada, event), fake_stripe.events))
    assert {answer.status_code for answer in answers} <= {200, 503}  # 503: Stripe sends it again
    for event in fake_stripe.events:
        outcome(ada, event)
    assert subscription(ada)["status"] == "unpaid"
    assert plan(ada) == "free"


def test_what_is_not_for_us_is_thanked_for_and_ignored(ada, fake_stripe):
    subscribe(ada, fake_stripe)
    customer = fake_stripe.events[0]["data"]["object"]["customer"]
    strangers = [
        {"id": "evt_1", "type": "payout.paid", "data": {"object": {"id": "po_1"}}},
        {"id": "evt_2", "type": "charge.succeeded", "data": {"object": {"customer": customer}}},
        {"id": "evt_3", "type": "of.the.future", "data": {"object": {}}},
        {"id": "evt_4", "type": "invoice.paid", "data": {"object": {"customer": "cus_stranger"}}},
        {"id": "evt_5", "type": "invoice.paid", "data": {"object": {"customer": None}}},
        {"id": "evt_6", "type": "customer.deleted", "data": {"object": {"id": "cus_stranger"}}},
    ]
    asked = len(fake_stripe.asked)
    assert [outcome(ada, {"object": "event"} | each) for each in strangers] == ["ignored"] * 6
    assert len(fake_stripe.asked) == asked
    assert plan(ada) == "free"
    expanded = {"object": "event", "id": "evt_7", "type": "invoice.paid"}
    expanded["data"] = {"object": {"customer": {"id": customer, "object": "customer"}}}
    assert outcome(ada, expanded) == "applied"


def test_when_stripe_does_not_answer_the_event_is_wanted_again(ada, fake_stripe):
    subscribe(ada, fake_stripe)
    event = fake_stripe.events[0]
    fake_stripe.failures += [500] * 3
    assert send(ada, event).status_code == 503
    assert plan(ada) == "free"
    assert outcome(ada, event) == "applied"
    assert plan(ada) == "pro"


def test_a_webhook_needs_no_session_and_no_origin_and_is_bounded(ada, fake_stripe):
    subscribe(ada, fake_stripe)
    ada.cookies.clear()
    assert outcome(ada, fake_stripe.events[0]) == "applied"
    huge = {"object": "event", "id": "evt_x", "type": "x", "data": {"object": {"x": "y" * 300_000}}}
    assert send(ada, huge).status_code == 413


def test_no_secret_is_told_to_anybody(ada, fake_stripe, caplog):
    subscribe(ada, fake_stripe)
    fake_stripe.failures += [401]
    refused = ada.post("/api/v1/billing/portal")
    assert refused.status_code == 503
    told = refused.text + ada.get("/api/openapi.json").text + ada.get("/api/v1/meta").text
    told += ada.get("/api/v1/billing").text + send(ada, {}, secret="x").text + caplog.text
    assert "Stripe did not do what was asked" in caplog.text
    for secret in ("sk_test", "whsec", "cus_fake", EMAIL):
        assert secret not in told
