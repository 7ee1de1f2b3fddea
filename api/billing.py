"""Stripe, through its own library, behind the few verbs that Metrion needs of it.

The library takes 0.7 s and 30 MB to import, so a process imports it when it opens a
`StripeBilling`, and only where billing is configured. Its asynchronous client wants a second HTTP
library; the synchronous one runs in a few threads here: Checkout and webhooks are rare, and the
threads bound how much can wait for Stripe. Every call has a time limit and is tried three times in
all, by the library, which sends the same idempotency key again.

No message made here repeats what Stripe said: its errors quote parts of keys and addresses.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import UUID

from pydantic import SecretStr

from storage.billing import UNFINISHED, Subscription
from storage.errors import BillingUnavailable
from storage.settings import Settings

if TYPE_CHECKING:
    import stripe

_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 8.0
_RETRIES: Final = 2
_THREADS: Final = 4
_NOT_FOUND: Final = 404
_RANK: Final = ("active", "trialing", "past_due", "unpaid", "paused", "incomplete")
_KNOCKS: Final = ("checkout.session.", "customer.subscription.", "invoice.")
"""Beginnings of the types of events after which a subscription may be another."""

logger = logging.getLogger("metrion.billing")


class InvalidSignatureError(Exception):
    """A webhook's body is not what Stripe signed, was not signed by it, or long ago."""


@dataclass(frozen=True, slots=True)
class Event:
    """A webhook: whose subscription should be looked at.

    Attributes:
        id: the same each time that Stripe sends it.
        customer_id: None: the event is about nothing that matters here.
    """

    id: str
    customer_id: str | None


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as Stripe knows it now.

    Attributes:
        is_there: it is not deleted.
        is_known: it was there once. If not, the key may be of another account at Stripe.
        subscription: the one that counts, if any.
    """

    is_there: bool
    is_known: bool
    subscription: Subscription | None


class StripeBilling:
    """A client of Stripe. `close` it at the end."""

    def __init__(
        self, secret_key: SecretStr, webhook_secret: SecretStr, price_id: str, api_base: str
    ) -> None:
        """Prepare the client; nothing is connected yet."""
        import stripe  # noqa: PLC0415 - large; see above

        # it logs addresses with customers' ids at INFO, bodies at DEBUG
        logging.getLogger("stripe").setLevel(logging.WARNING)
        self._stripe = stripe
        self._webhook_secret = webhook_secret
        self._price_id = price_id
        self._client = stripe.StripeClient(
            secret_key.get_secret_value(),
            base_addresses={"api": api_base},
            max_network_retries=_RETRIES,
            http_client=stripe.RequestsClient(timeout=(_CONNECT_SECONDS, _READ_SECONDS)),
        )
        self._threads = ThreadPoolExecutor(_THREADS, "stripe")

    @classmethod
    def open(cls, settings: Settings) -> Self | None:
        """Return a client as the settings say; None: this Metrion takes no payments."""
        key, webhook_secret = settings.stripe_secret_key, settings.stripe_webhook_secret
        price_id = settings.stripe_price_id
        if key is None or webhook_secret is None or price_id is None:
            return None
        return cls(key, webhook_secret, price_id, settings.stripe_api_base)

    def close(self) -> None:
        """Begin no further calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def read_event(self, body: bytes, signature: str | None) -> Event:
        """Return a webhook's event, if Stripe signed exactly this body in the last five minutes.

        Raises:
            InvalidSignatureError: it did not.
        """
        try:
            event = self._client.construct_event(
                body, signature, self._webhook_secret.get_secret_value()
            ).to_dict()
            thing = event["data"]["object"]
            if event["type"] == "customer.deleted":
                return Event(event["id"], thing["id"])
            is_knock = event["type"].startswith(_KNOCKS)
            return Event(event["id"], _id_of(thing.get("customer")) if is_knock else None)
        except self._stripe.SignatureVerificationError:
            raise InvalidSignatureError from None
        except (ValueError, LookupError, TypeError, AttributeError):  # signed, but no event
            raise InvalidSignatureError from None

    async def make_customer(self, account_id: UUID, key: str) -> str:
        """Make the account's customer and return its id; the same one for the same `key`.

        It holds nothing of the person yet: one whose id is lost, because this process was killed
        before it was kept, is an empty shell that nobody has to be able to erase.

        Raises:
            BillingUnavailable: it may have been made all the same: call it again.
        """
        made = await self._call(
            lambda: self._client.v1.customers.create(
                {"metadata": {"metrion_account": str(account_id)}},
                {"idempotency_key": f"metrion-customer-{key}"},
            )
        )
        return made["id"]

    async def name_customer(self, customer_id: str, email: str) -> None:
        """Tell Stripe a customer's address: it fills in the Checkout, and receipts go there.

        Raises:
            BillingUnavailable: Checkout will ask for it instead.
        """
        await self._call(lambda: self._client.v1.customers.update(customer_id, {"email": email}))

    async def find_customer(self, customer_id: str) -> Customer:
        """Return what Stripe says now of a customer and its subscription.

        Raises:
            BillingUnavailable: it says nothing.
        """
        try:
            found = await self._call(
                lambda: self._client.v1.customers.retrieve(
                    customer_id, {"expand": ["subscriptions"]}
                )
            )
        except _GoneError:
            return Customer(is_there=False, is_known=False, subscription=None)
        if found.get("deleted"):
            return Customer(is_there=False, is_known=True, subscription=None)
        best = _best(found["subscriptions"]["data"])
        return Customer(is_there=True, is_known=True, subscription=best)

    async def open_checkout(
        self, account_id: UUID, customer_id: str, return_to: str, after: str | None = None
    ) -> str:
        """Return the address of a page where the customer can subscribe.

        A page that is open already is given again, and two requests of one minute get the same:
        nobody pays twice in two windows.

        Args:
            account_id: whom it is for.
            customer_id: the same to Stripe.
            return_to: where Stripe's page leads back to.
            after: the subscription that is over.

        Raises:
            BillingUnavailable: there is none now.
        """
        metadata = {"metrion_account": str(account_id), "metrion_price": self._price_id}
        moment = f"{after}-{int(time.time() // 60)}"
        sessions = self._client.v1.checkout.sessions
        listed = await self._call(
            lambda: sessions.list({"customer": customer_id, "status": "open", "limit": 100})
        )
        for session in listed["data"]:
            if session["url"] and _metadata(session).get("metrion_price") == self._price_id:
                return session["url"]
        made = await self._call(
            lambda: sessions.create(
                {
                    "mode": "subscription",
                    "customer": customer_id,
                    "client_reference_id": str(account_id),
                    "line_items": [{"price": self._price_id, "quantity": 1}],
                    "metadata": metadata,
                    "subscription_data": {"metadata": metadata},
                    "success_url": f"{return_to}?checkout=done",
                    "cancel_url": return_to,
                },
                {"idempotency_key": f"metrion-checkout-{customer_id}-{self._price_id}-{moment}"},
            )
        )
        return made["url"]

    async def open_portal(self, customer_id: str, return_to: str) -> str:
        """Return the address of a page where the customer manages card, invoices and its end.

        Raises:
            BillingUnavailable: there is none now.
        """
        made = await self._call(
            lambda: self._client.v1.billing_portal.sessions.create(
                {"customer": customer_id, "return_url": f"{return_to}?portal=done"}
            )
        )
        return made["url"]

    async def erase_customer(self, customer_id: str) -> None:
        """End a customer's subscriptions at once and delete the customer with all it had stored.

        It may be called again after any failure: what is gone stays gone. Deleting the customer
        would end the subscriptions, too; they are ended first all the same, so that nobody is
        charged if the second step fails for long. Invoices stay at Stripe, as tax law wants.

        Raises:
            BillingUnavailable: it is not done, or not wholly.
        """
        client = self._client.v1

        def erase() -> None:
            for session in self._unless_gone(
                lambda: (
                    client.checkout.sessions.list(
                        {"customer": customer_id, "status": "open", "limit": 100}
                    ).data
                )
            ):
                client.checkout.sessions.expire(session.id)
            for each in self._unless_gone(
                lambda: client.subscriptions.list({"customer": customer_id, "limit": 100}).data
            ):
                self._unless_gone(lambda each=each: [client.subscriptions.cancel(each.id)])
            self._unless_gone(lambda: [client.customers.delete(customer_id)])

        await self._in_thread(erase)

    def _unless_gone[Thing](self, work: Callable[[], list[Thing]]) -> list[Thing]:
        """Do it, or nothing where what it is about does not exist; in a thread."""
        try:
            return work()
        except self._stripe.StripeError as error:
            if error.http_status == _NOT_FOUND:
                return []
            raise

    async def _call(self, work: "Callable[[], stripe.StripeObject]") -> dict[str, Any]:
        """Ask Stripe one thing and return its answer; raises as `_in_thread`."""
        return await self._in_thread(lambda: work().to_dict())

    async def _in_thread[Result](self, work: Callable[[], Result]) -> Result:
        """Do something that asks Stripe.

        Raises:
            BillingUnavailable: Stripe did not do it.
            _GoneError: what it was about does not exist.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except self._stripe.StripeError as error:
            if error.http_status == _NOT_FOUND:
                raise _GoneError("Stripe knows nothing of this") from None
            said = f"status {error.http_status}, request {error.request_id}"
            reason = f"{type(error).__name__}, {said if error.http_status else 'no answer'}"
            logger.warning("Stripe did not do what was asked: %s", reason)
            raise BillingUnavailable(f"Stripe did not do it: {reason}") from None


class _GoneError(BillingUnavailable):
    """Stripe says that what a call names does not exist (`resource_missing`)."""


def _id_of(value: str | Mapping[str, Any] | None) -> str | None:
    """Return an object's id, whether it is given as that or as the object itself."""
    return value["id"] if isinstance(value, Mapping) else value


def _metadata(thing: Mapping[str, Any]) -> dict[str, str]:
    return thing["metadata"] or {}


def _best(subscriptions: list[dict[str, Any]]) -> Subscription | None:
    """Return the one that counts: one that gives Pro before one that does not, then the newest."""
    unfinished = [each for each in subscriptions if each["status"] in UNFINISHED]
    if not unfinished:
        return None
    chosen = min(unfinished, key=lambda each: (_RANK.index(each["status"]), -each["created"]))
    return Subscription(
        id=chosen["id"],
        status=chosen["status"],
        current_period_end=_period_end(chosen),
        cancel_at_period_end=bool(chosen.get("cancel_at_period_end") or chosen.get("cancel_at")),
    )


def _period_end(subscription: Mapping[str, Any]) -> datetime | None:
    """Return until when it is paid; since 2025 Stripe says so of each item, before of the whole."""
    ends = [each.get("current_period_end") for each in subscription["items"]["data"]]
    ends.append(subscription.get("current_period_end"))
    known = [end for end in ends if end is not None]
    return datetime.fromtimestamp(min(known), UTC) if known else None
