"""`/api/v1/account`: the account of the person who is signed in."""

from dataclasses import asdict
from datetime import datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.deps import SESSION_PROBLEMS, ServicesHere, SessionCaller
from api.errors import InvalidRequestError, documented
from api.services import Services
from storage.accounts import get_account, set_currency
from storage.database import Transaction
from storage.plans import PlanName, get_plan
from storage.usage import forwarded_this_month

router = APIRouter(prefix="/api/v1/account", tags=["Account"])

type Currency = Literal["USD", "EUR", "CHF"]


class AccountView(BaseModel):
    """An account: one person, one Metrion Key."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "01994f3b-7c2e-7d10-9f60-2b1c33a0f7aa",
                    "email": "ada@example.com",
                    "plan": "free",
                    "currency": "EUR",
                    "created_at": "2026-01-15T09:30:00Z",
                    "region": "eu-west-1",
                    "month_requests": 1234,
                    "month_limit": 10000,
                    "retention_days": 7,
                }
            ]
        }
    )

    id: UUID = Field(description="Never changes.")
    email: str = Field(description="Where codes and alerts go.")
    plan: PlanName = Field(description="What the account may do.")
    currency: Currency = Field(description="In which the pages show money.")
    created_at: datetime = Field(description="When somebody signed in for the first time.")
    region: str = Field(description="Where the data is kept, as the operator declares.")
    month_requests: int = Field(description="Requests of this month (UTC) that count.")
    month_limit: int | None = Field(description="How many a month may have; null: any number.")
    retention_days: int = Field(description="How long log rows are kept; daily sums stay.")


class AccountChange(BaseModel):
    """What may be changed; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"currency": "EUR"}]})

    currency: Currency | None = Field(default=None, description="In which the pages show money.")


@router.get("", summary="The account", responses=documented(*SESSION_PROBLEMS))
async def account(services: ServicesHere, caller: SessionCaller) -> AccountView:
    """Return the account, its plan, and how much of the month is used."""
    async with services.database.account(caller.account_id) as connection:
        return await view_account(services, connection)


@router.patch(
    "", summary="Change the account", responses=documented(*SESSION_PROBLEMS, InvalidRequestError)
)
async def change_account(
    services: ServicesHere, caller: SessionCaller, change: AccountChange
) -> AccountView:
    """Change the account's settings."""
    async with services.database.account(caller.account_id) as connection:
        if change.currency is not None:
            await set_currency(connection, change.currency)
        return await view_account(services, connection)


async def view_account(services: Services, connection: Transaction) -> AccountView:
    """Return the transaction's account as the API shows it."""
    found = await get_account(connection)
    plan = get_plan(found.plan)
    return AccountView.model_validate(
        asdict(found)
        | {
            "region": services.settings.region,
            "month_requests": await forwarded_this_month(connection),
            "month_limit": plan.monthly_limit(services.settings),
            "retention_days": plan.retention_days,
        }
    )
