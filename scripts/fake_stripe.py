"""A Stripe to try billing with, and to test it: `python -m scripts.fake_stripe --port 12111`.

It knows what Metrion asks for: customers, their subscriptions, Checkout and the customer portal
with pages whose buttons work in a browser, idempotency keys, signed webhooks. Nobody pays anything.
Point METRION_STRIPE_API_BASE at it; any key does. It is not `localstripe`, which has neither
Checkout nor portal nor idempotency keys, but against which the same client is tested, too.
"""

import argparse
import contextlib
import hashlib
import hmac
import itertools
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast
from urllib.parse import parse_qs, parse_qsl, urlsplit

MONTH_SECONDS: Final = 30 * 86_400
_DELIVERIES: Final = (0, 1, 5)  # seconds to wait before each
_CREATED: Final = itertools.count(int(time.time()))

type Parameters = dict[str, str]
type Thing = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came to the API."""

    method: str
    path: str
    parameters: Parameters
    idempotency_key: str | None


@dataclass
class FakeStripe:
    """What the fake knows, and where it sends webhooks to.

    Attributes:
        webhook: an address, and the secret to sign with; None: events are only kept.
        failures: statuses that the next requests to the API are answered with.
        asked: all requests to the API so far.
        events: all that happened so far, as webhooks say it.
    """

    webhook: tuple[str, str] | None = None
    things: dict[str, Thing] = field(default_factory=dict[str, Thing])
    failures: list[int] = field(default_factory=list[int])
    asked: list[Asked] = field(default_factory=list[Asked])
    events: list[Thing] = field(default_factory=list[Thing])
    url: str = ""
    _answers: dict[str, Thing] = field(default_factory=dict[str, Thing])
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # ---- the API

    def answer(self, asked: Asked) -> tuple[int, Thing]:
        """Do what a request wants; the same thing once for the same idempotency key."""
        with self._lock:
            self.asked.append(asked)
            if self.failures:
                return self.failures.pop(0), _error("api_error", "made to fail")
            key = asked.idempotency_key
            if key is not None and key in self._answers:
                return 200, self._answers[key]
            for method, pattern, work in _ROUTES:
                match = re.fullmatch(pattern, asked.path)
                if match and method == asked.method:
                    found = work(self, asked.parameters, *match.groups())
                    if found is None:
                        return 404, _error("invalid_request_error", "No such thing")
                    if key is not None:
                        self._answers[key] = found
                    return 200, found
            return 404, _error("invalid_request_error", "Unrecognized request URL")

    def make_customer(self, given: Parameters) -> Thing:
        """Keep a customer."""
        made = {"email": given.get("email"), "metadata": _metadata(given)}
        return self._add("customer", "cus", made)

    def change_customer(self, given: Parameters, customer_id: str) -> Thing | None:
        """Change a customer's address."""
        if self.things.get(customer_id, {"deleted": True}).get("deleted"):
            return None
        self.things[customer_id] |= {"email": given["email"]}
        return self.things[customer_id]

    def show_customer(self, given: Parameters, customer_id: str) -> Thing | None:
        """Return a customer with its subscriptions; of one that was deleted, just that."""
        customer = self.things.get(customer_id)
        if customer is None or customer.get("deleted"):
            return customer
        return customer | {"subscriptions": _listed(self.live_subscriptions(customer_id))}

    def delete_customer(self, given: Parameters, customer_id: str) -> Thing | None:
        """Forget a customer, and end its subscriptions."""
        if self.things.get(customer_id, {"deleted": True}).get("deleted"):
            return None
        for each in self.live_subscriptions(customer_id):
            self.cancel(given, each["id"])
        self._happen("customer.deleted", self.things[customer_id])
        gone = {"id": customer_id, "object": "customer", "deleted": True}
        self.things[customer_id] = gone
        return gone

    def list_subscriptions(self, given: Parameters) -> Thing:
        """Return a customer's subscriptions that are not over."""
        return _listed(self.live_subscriptions(given.get("customer", "")))

    def live_subscriptions(self, customer_id: str) -> list[Thing]:
        """Return a customer's subscriptions that are not over."""
        return [
            each
            for each in self._all("subscription")
            if each["customer"] == customer_id and each["status"] != "canceled"
        ]

    def cancel(self, given: Parameters, subscription_id: str) -> Thing | None:
        """End a subscription at once."""
        found = self.things.get(subscription_id)
        if found is None or found.get("status", "canceled") == "canceled":
            return None
        return self.change(subscription_id, status="canceled")

    def make_checkout(self, given: Parameters) -> Thing | None:
        """Open a Checkout."""
        if self.things.get(given["customer"], {"deleted": True}).get("deleted"):
            return None
        names = ("customer", "success_url", "cancel_url", "client_reference_id")
        known = {name: given.get(name) for name in names}
        made = self._add(
            "checkout.session",
            "cs_test",
            known | {"status": "open", "metadata": _metadata(given), "subscription": None},
        )
        made["url"] = f"{self.url}/pay/{made['id']}"
        return made

    def list_checkouts(self, given: Parameters) -> Thing:
        """Return a customer's open Checkouts."""
        return _listed(
            each
            for each in self._all("checkout.session")
            if each["customer"] == given.get("customer") and each["status"] == "open"
        )

    def expire_checkout(self, given: Parameters, session_id: str) -> Thing | None:
        """Close a Checkout."""
        if session_id in self.things:
            self.things[session_id] |= {"status": "expired", "url": None}
        return self.things.get(session_id)

    def make_portal(self, given: Parameters) -> Thing | None:
        """Open the customer portal."""
        if self.things.get(given["customer"], {"deleted": True}).get("deleted"):
            return None
        names = ("customer", "return_url")
        made = self._add("billing_portal.session", "bps", {name: given[name] for name in names})
        made["url"] = f"{self.url}/portal/{made['id']}"
        return made

    # ---- what people do

    def pay(self, session_id: str, status: str = "active") -> Thing:
        """Complete a Checkout as a person would."""
        with self._lock:
            session = self.things[session_id]
            made = self.subscribe(session["customer"], status)
            session |= {"status": "complete", "url": None, "subscription": made["id"]}
            self._happen("checkout.session.completed", session)
            return made

    def subscribe(self, customer_id: str, status: str = "active") -> Thing:
        """Give a customer a subscription."""
        item = {"current_period_end": int(time.time()) + MONTH_SECONDS}
        made = self._add(
            "subscription",
            "sub",
            {
                "customer": customer_id,
                "status": status,
                "items": _listed([item]),
                "cancel_at_period_end": False,
                "metadata": {},
            },
        )
        self._happen("customer.subscription.created", made)
        return made

    def change(self, subscription_id: str, **values: object) -> Thing:
        """Change a subscription, and say so."""
        with self._lock:
            found = self.things[subscription_id]
            found |= values
            kind = "deleted" if found["status"] == "canceled" else "updated"
            self._happen(f"customer.subscription.{kind}", found)
            return found

    # ---- inside

    def _add(self, kind: str, prefix: str, values: Thing) -> Thing:
        made: Thing = {
            "id": f"{prefix}_fake{secrets.token_hex(6)}",
            "object": kind,
            "created": next(_CREATED),
            "livemode": False,
        } | values
        self.things[made["id"]] = made
        return made

    def _all(self, kind: str) -> list[Thing]:
        return [each for each in self.things.values() if each["object"] == kind]

    def _happen(self, kind: str, thing: Thing) -> None:
        event = {
            "id": f"evt_fake{secrets.token_hex(6)}",
            "object": "event",
            "type": kind,
            "created": int(time.time()),
            "data": {"object": dict(thing)},
        }
        self.events.append(event)
        if self.webhook is not None:
            threading.Thread(target=_deliver, args=(*self.webhook, event), daemon=True).start()


def sign(body: bytes, secret: str, at: int | None = None) -> str:
    """Return the header `Stripe-Signature` for a webhook's body."""
    moment = int(time.time()) if at is None else at
    digest = hmac.digest(secret.encode(), b"%d.%s" % (moment, body), hashlib.sha256)
    return f"t={moment},v1={digest.hex()}"


def send(url: str, secret: str, event: Thing) -> int:
    """Send a webhook and return the status of the answer."""
    address, body = urlsplit(url), json.dumps(event).encode()
    connection = HTTPConnection(address.netloc, timeout=30)
    headers = {"content-type": "application/json", "stripe-signature": sign(body, secret)}
    try:
        connection.request("POST", address.path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def _deliver(url: str, secret: str, event: Thing) -> None:
    """Send a webhook until it is thanked for, as Stripe does, if not for so long."""
    for seconds in _DELIVERIES:
        time.sleep(seconds)
        with contextlib.suppress(OSError):
            if send(url, secret, event) == HTTPStatus.OK:
                return


_ROUTES: Final[tuple[tuple[str, str, Callable[..., Thing | None]], ...]] = (
    ("POST", "/v1/customers", FakeStripe.make_customer),
    ("GET", "/v1/customers/([^/]+)", FakeStripe.show_customer),
    ("POST", "/v1/customers/([^/]+)", FakeStripe.change_customer),
    ("DELETE", "/v1/customers/([^/]+)", FakeStripe.delete_customer),
    ("GET", "/v1/subscriptions", FakeStripe.list_subscriptions),
    ("DELETE", "/v1/subscriptions/([^/]+)", FakeStripe.cancel),
    ("POST", "/v1/checkout/sessions", FakeStripe.make_checkout),
    ("GET", "/v1/checkout/sessions", FakeStripe.list_checkouts),
    ("POST", "/v1/checkout/sessions/([^/]+)/expire", FakeStripe.expire_checkout),
    ("POST", "/v1/billing_portal/sessions", FakeStripe.make_portal),
)


def _listed(things: Any) -> Thing:
    return {"object": "list", "data": list(things), "has_more": False, "url": "/v1/things"}


def _metadata(given: Parameters) -> dict[str, str]:
    """Return `metadata[name]=value` of a form."""
    return {
        name[len("metadata[") : -1]: value
        for name, value in given.items()
        if name.startswith("metadata[")
    }


def _error(kind: str, message: str) -> Thing:
    return {"error": {"type": kind, "message": message}}


class _Handler(BaseHTTPRequestHandler):
    """Puts requests to the server's fake."""

    protocol_version = "HTTP/1.1"

    @property
    def _fake(self) -> FakeStripe:
        return cast("Server", self.server).fake

    def do_GET(self) -> None:
        """Answer."""
        address = urlsplit(self.path)
        match = re.fullmatch(r"/(pay|portal)/([^/]+)", address.path)
        if match is None:
            self._answer(dict(parse_qsl(address.query)))
        else:
            self._show(*match.groups())

    def do_DELETE(self) -> None:
        """Answer."""
        self._answer({})

    def do_POST(self) -> None:
        """Answer, or do what a page's button says."""
        body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
        match = re.fullmatch(r"/(pay|portal)/([^/]+)", self.path)
        if match is None:
            self._answer({name: values[-1] for name, values in parse_qs(body).items()})
            return
        what, session_id = match.groups()
        session = self._fake.things[session_id]
        if what == "pay":
            self._fake.pay(session_id)
        else:
            for each in self._fake.live_subscriptions(session["customer"]):
                self._fake.change(each["id"], status="canceled")
        self._send(
            303, b"", {"location": session["success_url" if what == "pay" else "return_url"]}
        )

    def _show(self, what: str, session_id: str) -> None:
        session = self._fake.things.get(session_id, {})
        button = "Pay and subscribe" if what == "pay" else "Cancel the subscription"
        back = escape(str(session.get("cancel_url") or session.get("return_url")))
        page = (
            f"<!doctype html><title>Not Stripe</title><h1>Not Stripe</h1><form method=post>"
            f"<button>{button}</button></form><p><a href='{back}'>Back</a>"
        )
        self._send(200, page.encode(), {"content-type": "text/html; charset=utf-8"})

    def _answer(self, parameters: Parameters) -> None:
        key = self.headers.get("idempotency-key") if self.command == "POST" else None
        path = urlsplit(self.path).path
        status, found = self._fake.answer(Asked(self.command, path, parameters, key))
        headers = {"content-type": "application/json", "request-id": "req_fake"}
        self._send(status, json.dumps(found).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"content-length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Be quiet."""


class Server(ThreadingHTTPServer):
    """Serves a fake on a port of loopback, from a thread, until `shutdown()`."""

    daemon_threads = True

    def __init__(self, fake: FakeStripe, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.fake = fake
        fake.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m scripts.fake_stripe", description=__doc__)
    parser.add_argument("--port", type=int, default=12111, help="port of loopback")
    parser.add_argument("--webhook", help="where to: http://127.0.0.1:8000/api/v1/billing/webhook")
    parser.add_argument("--secret", default="whsec_fake", help="METRION_STRIPE_WEBHOOK_SECRET")
    options = parser.parse_args()
    fake = FakeStripe((options.webhook, options.secret) if options.webhook else None)
    Server(fake, options.port)
    print(f"METRION_STRIPE_API_BASE={fake.url}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
