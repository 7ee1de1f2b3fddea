"""`/api/v1/token`: the account's Metrion Key, for the person who is signed in."""

import asyncio
from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.deps import SESSION_PROBLEMS, ServicesHere, SessionCaller
from api.errors import documented
from storage.accounts import get_token, regenerate_token
from storage.invalidation import LEASE_SECONDS
from storage.tokens import mask

router = APIRouter(prefix="/api/v1/token", tags=["Metrion Key"])


class MaskedToken(BaseModel):
    """What may be shown of the Metrion Key over a shoulder."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"masked": "sk-metrion-…8f3a", "created_at": "2026-01-15T09:30:00Z"}]
        }
    )

    masked: str = Field(description="Its beginning and its last four characters.")
    created_at: datetime = Field(description="Since when it is the account's key.")


class ClearToken(BaseModel):
    """The Metrion Key in clear: who has it spends the account's money."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"token": "sk-metrion-0123456789abcdef0123456789abcdef"}]}
    )

    token: str = Field(description="The whole key.")


@router.get("", summary="The key, masked", responses=documented(*SESSION_PROBLEMS))
async def token(services: ServicesHere, caller: SessionCaller) -> MaskedToken:
    """Return the account's key, masked."""
    async with services.database.account(caller.account_id) as connection:
        live = await get_token(connection, services.keys, caller.account_id)
    return MaskedToken(masked=mask(live.token), created_at=live.created_at)


@router.post("/reveal", summary="The key in clear", responses=documented(*SESSION_PROBLEMS))
async def reveal_token(services: ServicesHere, caller: SessionCaller) -> ClearToken:
    """Return the account's key in clear; a POST, so that no other site and no cache gets it."""
    async with services.database.account(caller.account_id) as connection:
        live = await get_token(connection, services.keys, caller.account_id)
    return ClearToken(token=live.token)


@router.post("/regenerate", summary="Replace the key", responses=documented(*SESSION_PROBLEMS))
async def replace_token(services: ServicesHere, caller: SessionCaller) -> ClearToken:
    """Make a new key and end the old one, everywhere.

    Takes about two seconds: when it answers, no proxy process admits the old key any more. Requests
    under way may finish.
    """
    async with services.database.account(caller.account_id) as connection:
        new = await regenerate_token(connection, services.keys, caller.account_id)
    # A process that hears of changes has heard by now; one that does not stops trusting what it
    # knows when its lease ends.
    await asyncio.sleep(LEASE_SECONDS)
    return ClearToken(token=new)
