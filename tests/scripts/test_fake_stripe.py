"""The fake is asked by Stripe's own library, and its signatures are checked by it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
import stripe

from scripts.fake_stripe import FakeStripe, Server, send, sign

SECRET = "whsec_test"


@pytest.fixture
def fake():
    fake = FakeStripe()
    server = Server(fake)
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(fake):
    return stripe.StripeClient("sk_test_x", base_addresses={"api": fake.url}).v1


def opened(client, customer):
    return client.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer.id,
            "line_items": [{"price": "price_1", "quantity": 1}],
            "metadata": {"a": "b"},
            "success_url": "http://127.0.0.1/done",
            "cancel_url": "http://127.0.0.1/back",
        }
    )


def test_customers_come_and_go(fake, client):
    made = client.customers.create({"metadata": {"a": "b"}})
    client.customers.update(made.id, {"email": "a@example.com"})
    fake.subscribe(made.id)
    shown = client.customers.retrieve(made.id, {"expand": ["subscriptions"]})
    assert (shown.email, shown.metadata["a"], len(shown.subscriptions.data)) == (
        "a@example.com",
        "b",
        1,
    )
    client.customers.delete(made.id)
    assert client.customers.retrieve(made.id).deleted
    assert [event["type"] for event in fake.events] == [
        "customer.subscription.created",
        "customer.subscription.deleted",
        "customer.deleted",
    ]
    for work in (client.customers.delete, client.subscriptions.cancel):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            work(made.id)
        assert refused.value.http_status == 404


def test_the_same_key_makes_one_thing(client):
    made = [client.customers.create({}, {"idempotency_key": key}).id for key in "aab"]
    assert made[0] == made[1] != made[2]


def test_pages_do_what_their_buttons_say(fake, client):
    customer = client.customers.create({})
    session = opened(client, customer)
    assert [each.id for each in client.checkout.sessions.list({"customer": customer.id}).data] == [
        session.id
    ]
    assert "Pay and subscribe" in httpx.get(session.url).text
    paid = httpx.post(session.url)
    assert (paid.status_code, paid.headers["location"]) == (303, "http://127.0.0.1/done")
    assert client.checkout.sessions.list({"customer": customer.id}).data == []
    (live,) = client.subscriptions.list({"customer": customer.id}).data
    assert live.status == "active"
    portal = client.billing_portal.sessions.create(
        {"customer": customer.id, "return_url": "http://127.0.0.1/plan"}
    )
    assert "Cancel the subscription" in httpx.get(portal.url).text
    assert httpx.post(portal.url).headers["location"] == "http://127.0.0.1/plan"
    assert client.subscriptions.list({"customer": customer.id}).data == []


def test_an_open_checkout_can_be_closed(fake, client):
    customer = client.customers.create({})
    session = opened(client, customer)
    client.checkout.sessions.expire(session.id)
    assert client.checkout.sessions.list({"customer": customer.id}).data == []


def test_failures_are_answered_as_told(fake, client):
    fake.failures.append(402)
    with pytest.raises(stripe.StripeError):
        client.customers.create({})
    assert client.customers.create({}).id
    assert httpx.get(f"{fake.url}/v1/nowhere").status_code == 404


def test_its_signatures_are_those_of_stripe():
    body = b'{"object": "event"}'
    header = sign(body, SECRET, 1_700_000_000)
    assert header == stripe.WebhookSignature.generate_signature_header(
        body.decode(), SECRET, 1_700_000_000
    )


def test_webhooks_are_sent(fake):
    came = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            came.append(
                stripe.Webhook.construct_event(body, self.headers["stripe-signature"], SECRET)
            )
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{receiver.server_address[1]}/hook"
        assert send(url, SECRET, {"object": "event", "id": "evt_1", "type": "x"}) == 200
        receiver.shutdown()
        thread.join()
    assert [json.loads(str(event))["id"] for event in came] == ["evt_1"]
