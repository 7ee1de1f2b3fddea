"""`/api/v1/billing`: what plans give, paying for one, and what Stripe says of it.

Stripe's webhooks come without a session. The cross-origin guard lets them pass as it does
everybody who is no browser; what opens the door is the signature of the body. An event is never
believed for what it says of a subscription: it tells whose to look at (`api.subscriptions`), so it
may come late, twice or before an older one. Where Stripe cannot be asked the answer is 503, and
Stripe sends the event again, for three days.
"""

from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from api.billing import InvalidSignatureError, StripeBilling
from api.deps import SESSION_PROBLEMS, ServicesHere, SessionCaller, services_of
from api.errors import (
    ConflictError,
    ResourceNotFoundError,
    TooManyAttemptsError,
    UnavailableError,
    UnsignedEventError,
    documented,
)
from api.services import Services
from api.subscriptions import synchronise
from storage import billing as rows
from storage.accounts import get_account
from storage.errors import NotFound
from storage.plans import PLANS, PlanName

router = APIRouter(prefix="/api/v1/billing", tags=["Plan"])

_PLAN_PAGE = "/settings/plan"
_NO_PAYMENTS = (
    "This Metrion takes no payments; whoever runs it changes plans with `metrion plan set`."
)


class PlanView(BaseModel):
    """What a plan gives."""

    name: PlanName = Field(description="As in the account.", examples=["pro"])
    title: str = Field(description="As people call it.", examples=["Pro"])
    month_limit: int | None = Field(description="Requests a month (UTC); null: any number.")
    retention_days: int = Field(description="How long log rows can be seen; daily sums stay.")
    alert_rules: int = Field(description="How many rules the account may have.")


class SubscriptionView(BaseModel):
    """The account's subscription at Stripe."""

    status: str = Field(
        description="Stripe's word: `active`, `trialing` and `past_due` give Pro.",
        examples=["active"],
    )
    is_live: bool = Field(description="Whether it gives Pro.")
    current_period_end: datetime | None = Field(description="Until when it is paid for.")
    cancel_at_period_end: bool = Field(description="Whether it ends then.")


class BillingView(BaseModel):
    """The plans, and the account's subscription."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "takes_payments": True,
                    "plans": [
                        {
                            "name": "free",
                            "title": "Free",
                            "month_limit": 10000,
                            "retention_days": 7,
                            "alert_rules": 3,
                        },
                        {
                            "name": "pro",
                            "title": "Pro",
                            "month_limit": None,
                            "retention_days": 90,
                            "alert_rules": 100,
                        },
                    ],
                    "can_manage": True,
                    "subscription": {
                        "status": "active",
                        "is_live": True,
                        "current_period_end": "2026-02-15T09:30:00Z",
                        "cancel_at_period_end": False,
                    },
                }
            ]
        }
    )

    takes_payments: bool = Field(
        description="Whether plans are paid for here; else the operator sets them."
    )
    plans: list[PlanView] = Field(description="The smallest first.")
    can_manage: bool = Field(description="Whether there is a portal to go to.")
    subscription: SubscriptionView | None = Field(description="The last one; null: none ever.")


class PageAddress(BaseModel):
    """Where to send the person."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://checkout.stripe.com/c/pay/cs_live_1"}]}
    )

    url: str = Field(description="A page at Stripe, for this account, good for a short time.")


class Outcome(StrEnum):
    """What became of an event."""

    APPLIED = "applied"
    REPEATED = "repeated"
    IGNORED = "ignored"


class EventReceived(BaseModel):
    """What became of an event."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"outcome": "applied"}]})

    outcome: Outcome = Field(
        description="`repeated`: it was dealt with before. `ignored`: it is about nothing here."
    )


@router.get("", summary="Plans and subscription", responses=documented(*SESSION_PROBLEMS))
async def billing(services: ServicesHere, caller: SessionCaller) -> BillingView:
    """Return what the plans give, and what was last heard of the account's subscription."""
    async with services.database.account(caller.account_id) as connection:
        known = await rows.get_billing(connection)
    subscription = None
    if known is not None and known.status is not None:
        subscription = SubscriptionView(
            status=known.status,
            is_live=known.status in rows.LIVE,
            current_period_end=known.current_period_end,
            cancel_at_period_end=known.cancel_at_period_end,
        )
    has_customer = known is not None and known.customer_id is not None
    return BillingView(
        takes_payments=services.billing is not None,
        plans=[
            PlanView(
                name=plan.name,
                title=plan.title,
                month_limit=plan.monthly_limit(services.settings),
                retention_days=plan.retention_days,
                alert_rules=plan.alert_rules,
            )
            for plan in PLANS.values()
        ],
        can_manage=services.billing is not None and has_customer,
        subscription=subscription,
    )


_PAYING_PROBLEMS = (*SESSION_PROBLEMS, ResourceNotFoundError, TooManyAttemptsError)


@router.post(
    "/checkout",
    summary="Go and subscribe",
    responses=documented(*_PAYING_PROBLEMS, ConflictError),
)
async def checkout(request: Request, services: ServicesHere, caller: SessionCaller) -> PageAddress:
    """Return the page at Stripe where the account can get Pro.

    Who has a subscription that is not over gets the page where it is managed: nobody subscribes
    twice. The plan changes when Stripe says that it is paid.
    """
    stripe = _stripe(services, caller.account_id)
    known = await synchronise(services.database, stripe, caller.account_id)
    return_to = _return_address(request)
    if known is not None and known.customer_id is not None and known.status in rows.UNFINISHED:
        return PageAddress(url=await stripe.open_portal(known.customer_id, return_to))
    customer_id = await _customer(services, stripe, caller.account_id)
    url = await stripe.open_checkout(
        caller.account_id, customer_id, return_to, after=known and known.subscription_id
    )
    return PageAddress(url=url)


@router.post("/portal", summary="Manage the subscription", responses=documented(*_PAYING_PROBLEMS))
async def portal(request: Request, services: ServicesHere, caller: SessionCaller) -> PageAddress:
    """Return the page at Stripe for card, invoices, and ending the subscription."""
    stripe = _stripe(services, caller.account_id)
    known = await synchronise(services.database, stripe, caller.account_id)
    if known is None or known.customer_id is None:
        raise ResourceNotFoundError("There is no subscription to manage yet.")
    url = await stripe.open_portal(known.customer_id, _return_address(request))
    return PageAddress(url=url)


@router.post(
    "/webhook",
    summary="For Stripe",
    responses=documented(UnsignedEventError, ResourceNotFoundError, UnavailableError),
)
async def webhook(request: Request, services: ServicesHere) -> EventReceived:
    """Take an event of Stripe: its own JSON, with its signature in the header `Stripe-Signature`.

    Choose the events `checkout.session.*`, `customer.subscription.*`, `customer.deleted` and
    `invoice.*` at Stripe; others are ignored. One that is not signed, or was more than five minutes
    ago, is refused.
    """
    if services.billing is None:
        raise ResourceNotFoundError(_NO_PAYMENTS)
    try:
        event = services.billing.read_event(
            await request.body(), request.headers.get("stripe-signature")
        )
    except InvalidSignatureError:
        raise UnsignedEventError from None
    if event.customer_id is None:
        return EventReceived(outcome=Outcome.IGNORED)
    async with services.database.system() as connection:
        account_id = await rows.account_by_customer(connection, event.customer_id)
    if account_id is None:  # of another program's, or of an account that was erased
        return EventReceived(outcome=Outcome.IGNORED)
    async with services.database.account(account_id) as connection:
        if await rows.is_known_event(connection, event.id):
            return EventReceived(outcome=Outcome.REPEATED)
    found = await synchronise(services.database, services.billing, account_id, event.id)
    return EventReceived(outcome=Outcome.IGNORED if found is None else Outcome.APPLIED)


def _stripe(services: Services, account_id: UUID) -> StripeBilling:
    """Return the client, for an account that does not use it all the time.

    Raises:
        ResourceNotFoundError: this Metrion takes no payments.
        TooManyAttemptsError: this account asked too often.
    """
    if services.billing is None:
        raise ResourceNotFoundError(_NO_PAYMENTS)
    services.checkouts.check(str(account_id))
    services.checkouts.count(str(account_id))
    return services.billing


async def _customer(services: Services, stripe: StripeBilling, account_id: UUID) -> str:
    """Return the account's customer at Stripe, made if need be: one, however often this runs.

    Raises:
        ConflictError: the account has Pro already, without paying.
        NotFound: the account is being erased.
    """
    async with services.database.account(account_id) as connection:
        account = await get_account(connection)
        if account.plan == "pro":
            raise ConflictError("This account is on Pro already: whoever runs Metrion has set it.")
        begun = await rows.begin_checkout(connection, account_id)
    if begun.customer_id is not None:
        return begun.customer_id
    # the same key until something is kept: requests at the same time get the same customer
    key = f"{account_id}-{begun.updated_at.timestamp():.6f}"
    customer_id = await stripe.make_customer(account_id, key)
    async with services.database.account(account_id) as connection:
        is_kept = await rows.keep_customer(connection, customer_id)
    if not is_kept:
        await stripe.erase_customer(customer_id)
        raise NotFound("this account is being deleted")
    await stripe.name_customer(customer_id, account.email)
    return customer_id


def _return_address(request: Request) -> str:
    """Return where Stripe's pages lead back to: this page as the browser calls it.

    A browser names its page's origin, with the scheme that it sees; behind a balancer that ends TLS
    this process would not know it. METRION_DASHBOARD_URL comes second: who calls a laptop's
    127.0.0.1 localhost has no session at the other name.
    """
    origin = request.headers.get("origin", "")
    if urlsplit(origin).netloc != request.headers.get("host"):
        known = services_of(request).settings.dashboard_url
        origin = known or str(request.base_url).removesuffix("/")
    return origin + _PLAN_PAGE
