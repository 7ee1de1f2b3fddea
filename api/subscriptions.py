"""Bringing what is known of a subscription up to what Stripe says, and ending it.

For the routes, which work inside one account, and for the jobs, which have functions for this. An
account's row is read, Stripe is asked, and the answer is written only if nobody wrote in between;
else Stripe is asked again. No transaction is open while Stripe is asked.

A Stripe that has never heard of somebody who pays is not believed: the key is of another account
there. Else by a slip all who pay would lose Pro, and who is charged could no longer be found.
"""

import logging
from typing import Final
from uuid import UUID

from api.billing import Customer, StripeBilling
from storage import billing as rows
from storage.billing import Billing
from storage.database import Database
from storage.errors import BillingUnavailable

_TRIES: Final = 5
_MOST_AT_ONCE: Final = 50
_MOST_FAILURES: Final = 3
_ELSEWHERE: Final = "Stripe does not know a customer: is its key of another account there?"

logger = logging.getLogger("metrion.billing")


async def synchronise(
    database: Database, stripe: StripeBilling, account_id: UUID, event_id: str | None = None
) -> Billing | None:
    """Ask Stripe about an account's subscription and let its plan follow; as `metrion_api`.

    Args:
        database: as the API's role.
        stripe: whom to ask.
        account_id: about whom.
        event_id: the webhook that this settles.

    Returns:
        What is known now; None: nothing, or the account is being erased.

    Raises:
        BillingUnavailable: Stripe does not answer, or does not know who pays; what was known stays.
        DatabaseUnavailable: the next try may work.
    """
    for _ in range(_TRIES):
        async with database.account(account_id) as connection:
            seen = await rows.get_billing(connection)
        if seen is None or seen.closed_at is not None:
            return None
        if seen.customer_id is None:
            return seen
        found = await stripe.find_customer(seen.customer_id)
        if _is_elsewhere(seen, found):
            raise BillingUnavailable(_ELSEWHERE)
        customer_id = seen.customer_id if found.is_there else None
        async with database.account(account_id) as connection:
            if await rows.record_subscription(
                connection, seen, customer_id, found.subscription, event_id
            ):
                return await rows.get_billing(connection)
    raise BillingUnavailable("the subscription changes faster than it can be looked at")


async def check_subscriptions(database: Database, stripe: StripeBilling) -> int:
    """Ask Stripe about those of whom no webhook may have told us; as `metrion_jobs`.

    Nobody's plan changes because Stripe has never heard of the customer, and nobody is forgotten.

    Returns how many were looked at.

    Raises:
        BillingUnavailable: Stripe did not answer about some; the others were looked at.
        DatabaseUnavailable: the next try may work.
    """
    async with database.system() as connection:
        due = await rows.billing_to_check(connection, _MOST_AT_ONCE)
    failures: list[BillingUnavailable] = []
    for seen in due:
        if len(failures) == _MOST_FAILURES:
            break
        try:
            await _check(database, stripe, seen)
        except BillingUnavailable as error:
            failures.append(error)
    if failures:
        raise failures[-1]
    return len(due)


async def _check(database: Database, stripe: StripeBilling, seen: Billing) -> None:
    if seen.customer_id is None:
        return
    found = await stripe.find_customer(seen.customer_id)
    customer_id, subscription = seen.customer_id, found.subscription
    if not found.is_known:
        logger.warning(_ELSEWHERE)
        subscription = rows.last_known(seen)
    elif not found.is_there:
        customer_id = None
    async with database.system() as connection:
        # if somebody else wrote in between, it is up to date without us
        await rows.record_subscription_of(connection, seen, customer_id, subscription)


def _is_elsewhere(known: Billing, found: Customer) -> bool:
    """Return whether somebody has something that another account at Stripe is charging for."""
    is_elsewhere = known.status in rows.UNFINISHED and not found.is_known
    if is_elsewhere:
        logger.warning(_ELSEWHERE)
    return is_elsewhere


class Subscriptions:
    """What accounts pay for, for whoever erases one: step one of `storage.erasure`.

    Args:
        database: as `metrion_jobs`.
        stripe: None: this Metrion takes no payments (any more).
    """

    def __init__(self, database: Database, stripe: StripeBilling | None) -> None:
        self._database = database
        self._stripe = stripe

    async def cancel_subscription(self, account_id: UUID) -> None:
        """End what an account has at Stripe: open Checkouts, subscriptions, the customer itself.

        First the account is closed for billing: no Checkout begins any more and no webhook finds
        it. It may be repeated after any failure, also after it was done.

        Raises:
            BillingUnavailable: it is not done: Stripe does not answer or does not know who pays, or
                is no longer configured although it knows the account.
            DatabaseUnavailable: the next try may work.
        """
        async with self._database.system() as connection:
            known = await rows.close_billing(connection, account_id)
        if known is None or known.customer_id is None:
            return
        if self._stripe is None:
            raise BillingUnavailable(
                "an account that is to be erased has a customer at Stripe, which is not "
                "configured (any more): set METRION_STRIPE_SECRET_KEY and its companions"
            )
        if _is_elsewhere(known, await self._stripe.find_customer(known.customer_id)):
            raise BillingUnavailable(_ELSEWHERE)
        await self._stripe.erase_customer(known.customer_id)
