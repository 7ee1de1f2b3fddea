"""What was last heard of accounts' subscriptions, and the plan that follows from it.

Stripe is the one that knows. A row here is written only from an answer of Stripe that was asked for
after the row was read: `Billing.version` is the proof. So it does not matter in which order events
come, how often, or whether one is lost; whoever asks later is right.

The plan follows the subscription when what the subscription decides *changes*; in between, an
operator's `metrion plan set` stays. `past_due` keeps Pro: Stripe tries the card again for as long
as its settings say, and then makes it `canceled` or `unpaid`.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_or_ignore
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.chunked_deletion import delete_in_chunks
from storage.database import Database
from storage.errors import NotFound
from storage.models import billing, billing_events, this_account
from storage.plans import PlanName

LIVE: Final = frozenset({"active", "trialing", "past_due"})
"""Stripe's words for a subscription that gives Pro."""
UNFINISHED: Final = LIVE | {"unpaid", "incomplete", "paused"}
"""Those for one that can give it again: it is managed, not bought a second time."""

_ACCOUNT_BY_CUSTOMER = text("SELECT metrion.account_by_customer(:customer)")
_TO_CHECK = text("SELECT * FROM metrion.billing_to_check(:most)")
_RECORD = text("""
    SELECT metrion.record_subscription(
        :seen, :customer, :subscription, :status, :period_end, :cancels, :plan, :event)
""")
_RECORD_OF = text("""
    SELECT metrion.record_subscription_of(
        :account, :seen, :customer, :subscription, :status, :period_end, :cancels, :plan)
""")
_CLOSE = text("SELECT * FROM metrion.close_billing(:account)")
_FORGET = text("SELECT metrion.forget_billing_events(:chunk)")
_CHUNK_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class Billing:
    """What was last heard of an account's subscription."""

    account_id: uuid.UUID
    customer_id: str | None
    subscription_id: str | None
    status: str | None
    current_period_end: datetime | None
    cancel_at_period_end: bool
    version: int
    checkout_at: datetime | None
    checked_at: datetime
    updated_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as Stripe just described it."""

    id: str
    status: str
    current_period_end: datetime | None
    cancel_at_period_end: bool


def plan_of(status: str | None) -> PlanName:
    """Return the plan that a subscription's status stands for; a word unknown to us gives none."""
    return "pro" if status in LIVE else "free"


def last_known(seen: Billing) -> Subscription | None:
    """Return the subscription as it was described last."""
    if seen.subscription_id is None or seen.status is None:
        return None
    return Subscription(
        seen.subscription_id, seen.status, seen.current_period_end, seen.cancel_at_period_end
    )


async def get_billing(connection: AsyncConnection) -> Billing | None:
    """Return what is known of the transaction's account; None: it never went to pay."""
    query = select(billing).where(billing.c.account_id == this_account)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else Billing(**row)


async def begin_checkout(connection: AsyncConnection, account_id: uuid.UUID) -> Billing:
    """Note that somebody goes to pay, before Stripe hears of it; as `metrion_api`.

    Raises:
        NotFound: the account is being erased.
    """
    await connection.execute(
        insert_or_ignore(billing).values(account_id=account_id).on_conflict_do_nothing()
    )
    await connection.execute(
        update(billing)
        .where(billing.c.account_id == this_account, billing.c.closed_at.is_(None))
        .values(checkout_at=text("now()"))
    )
    found = await get_billing(connection)
    if found is None or found.closed_at is not None:
        raise NotFound("this account is being deleted")
    return found


async def keep_customer(connection: AsyncConnection, customer_id: str) -> bool:
    """Note who the transaction's account is at Stripe; as `metrion_api`.

    Returns False if that is not wanted any more: the account is being erased.
    """
    done = await connection.execute(
        update(billing)
        .where(
            billing.c.account_id == this_account,
            billing.c.closed_at.is_(None),
            billing.c.customer_id.is_(None) | (billing.c.customer_id == customer_id),
        )
        .values(customer_id=customer_id, version=billing.c.version + 1, updated_at=text("now()"))
    )
    return done.rowcount == 1


async def account_by_customer(connection: AsyncConnection, customer_id: str) -> uuid.UUID | None:
    """Return whose customer this is, if anybody's; `Database.system`, as the API."""
    return (await connection.execute(_ACCOUNT_BY_CUSTOMER, {"customer": customer_id})).scalar_one()


async def is_known_event(connection: AsyncConnection, event_id: str) -> bool:
    """Say whether an event of the transaction's account was dealt with before."""
    query = select(billing_events.c.id).where(
        billing_events.c.account_id == this_account, billing_events.c.id == event_id
    )
    return (await connection.execute(query)).one_or_none() is not None


async def record_subscription(
    connection: AsyncConnection,
    seen: Billing,
    customer_id: str | None,
    found: Subscription | None,
    event_id: str | None = None,
) -> bool:
    """Write down what Stripe says now of the transaction's account, and let the plan follow.

    Args:
        connection: of the account, as `metrion_api`.
        seen: what was here before Stripe was asked.
        customer_id: None: Stripe has deleted the customer.
        found: None: there is no subscription (any more).
        event_id: which event this settles.

    Returns:
        Whether it was written. If not, somebody else wrote in between: ask Stripe again.
    """
    values = _values(seen, customer_id, found) | {"event": event_id}
    return (await connection.execute(_RECORD, values)).scalar_one()


async def record_subscription_of(
    connection: AsyncConnection,
    seen: Billing,
    customer_id: str | None,
    found: Subscription | None,
) -> bool:
    """Do what `record_subscription` does for the account of `seen`; as `metrion_jobs`."""
    values = _values(seen, customer_id, found) | {"account": seen.account_id}
    return (await connection.execute(_RECORD_OF, values)).scalar_one()


async def billing_to_check(connection: AsyncConnection, most: int) -> list[Billing]:
    """Return accounts about whom Stripe should be asked again; as `metrion_jobs`."""
    rows = await connection.execute(_TO_CHECK, {"most": most})
    return [Billing(**row) for row in rows.mappings()]


async def close_billing(connection: AsyncConnection, account_id: uuid.UUID) -> Billing | None:
    """Let nothing begin for an account any more, for its erasure; as `metrion_jobs`.

    Returns what is known of it: its customer is to be deleted at Stripe. None: it is gone.
    """
    rows = await connection.execute(_CLOSE, {"account": account_id})
    row = rows.mappings().one_or_none()
    return None if row is None else Billing(**row)


async def forget_events(database: Database) -> int:
    """Delete what is remembered of events that cannot come again; as `metrion_jobs`.

    Raises:
        DatabaseUnavailable: what was deleted before stays deleted.
    """
    return await delete_in_chunks(database, _FORGET, _CHUNK_EVENTS)


def _values(seen: Billing, customer_id: str | None, found: Subscription | None) -> dict[str, Any]:
    """Return what both functions that record are called with."""
    # A subscription that Stripe no longer lists is over; one that never was stays never.
    ended = "canceled" if seen.status is not None else None
    status = ended if found is None else found.status
    before, after = plan_of(seen.status), plan_of(status)
    return {
        "seen": seen.version,
        "customer": customer_id,
        "subscription": seen.subscription_id if found is None else found.id,
        "status": status,
        "period_end": seen.current_period_end if found is None else found.current_period_end,
        "cancels": False if found is None else found.cancel_at_period_end,
        "plan": None if before == after else after,
    }
