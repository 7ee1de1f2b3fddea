"""`/api/v1/provider-keys`: keys to the providers, set and deleted, never read back."""

import re
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from addons.providers.base import Provider
from api.deps import SESSION_PROBLEMS, ServicesHere, SessionCaller
from api.errors import InvalidRequestError, ResourceNotFoundError, documented
from api.fields import PlainText
from api.services import Services
from storage.keys import ProviderKey, delete_key, list_keys, set_key

router = APIRouter(prefix="/api/v1/provider-keys", tags=["Provider keys"])

_NO_SUCH_PROVIDER = "There is no such provider; `GET /api/v1/meta` lists them."

Name = Annotated[
    PlainText,
    Path(max_length=32, description="As in the list of providers.", examples=["openai"]),
]


class ProviderKeyView(BaseModel):
    """A provider, and what may be shown of the account's key for it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "provider": "openai",
                    "title": "OpenAI",
                    "last_four": "x7Qa",
                    "created_at": "2026-01-15T09:30:00Z",
                    "key_page": "https://platform.openai.com/api-keys",
                }
            ]
        }
    )

    provider: str = Field(description="As in paths and log rows.")
    title: str = Field(description="As its makers write it.")
    last_four: str | None = Field(
        description="The key's last four characters; null: no key is stored; empty: it is too "
        "short to show any."
    )
    created_at: datetime | None = Field(description="When the key was stored.")
    key_page: str = Field(description="Where the provider's keys are made and revoked.")


class StoredKey(ProviderKeyView):
    """The key that was stored just now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "provider": "openai",
                    "title": "OpenAI",
                    "last_four": "x7Qa",
                    "created_at": "2026-01-15T09:30:00Z",
                    "key_page": "https://platform.openai.com/api-keys",
                    "warning": None,
                }
            ]
        }
    )

    warning: str | None = Field(
        description="Set if it does not look like this provider's keys; it is stored all the same."
    )


class ProviderKeyList(BaseModel):
    """All providers of this deployment, with or without a key."""

    items: list[ProviderKeyView] = Field(description="In the order of their names.")


class NewKey(BaseModel):
    """A key that the provider gave out."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"key": "sk-proj-0123456789abcdefghijklmnopx7Qa"}]}
    )

    key: PlainText = Field(
        max_length=2000, description="Sealed at once; nobody can read it back, not even you."
    )


@router.get("", summary="List provider keys", responses=documented(*SESSION_PROBLEMS))
async def provider_keys(services: ServicesHere, caller: SessionCaller) -> ProviderKeyList:
    """Return every provider, and the last four characters of its key if there is one."""
    async with services.database.account(caller.account_id) as connection:
        stored = {key.provider: key for key in await list_keys(connection)}
    return ProviderKeyList(
        items=[_view(provider, stored.get(provider.name)) for provider in services.providers]
    )


@router.put(
    "/{provider}",
    summary="Store a provider key",
    responses=documented(*SESSION_PROBLEMS, InvalidRequestError, ResourceNotFoundError),
)
async def store_provider_key(
    services: ServicesHere, caller: SessionCaller, provider: Name, new: NewKey
) -> StoredKey:
    """Seal and store a key, in place of one that may be there. The next request uses it."""
    known = _find(services, provider)
    key = new.key.strip()  # what was pasted often ends in a line break
    async with services.database.account(caller.account_id) as connection:
        stored = await set_key(connection, services.keys, caller.account_id, known.name, key)
    warning = None
    if re.fullmatch(known.key_pattern, key) is None:
        warning = f"This does not look like a key of {known.title}; compare it with the original."
    return StoredKey(**_view(known, stored).model_dump(), warning=warning)


@router.delete(
    "/{provider}",
    status_code=204,
    summary="Delete a provider key",
    responses=documented(*SESSION_PROBLEMS, InvalidRequestError, ResourceNotFoundError),
)
async def delete_provider_key(
    services: ServicesHere, caller: SessionCaller, provider: Name
) -> None:
    """Delete the key here; revoke it at the provider, too (`key_page`)."""
    known = _find(services, provider)
    async with services.database.account(caller.account_id) as connection:
        await delete_key(connection, known.name)


def _find(services: Services, name: str) -> Provider:
    for provider in services.providers:
        if provider.name == name:
            return provider
    raise ResourceNotFoundError(_NO_SUCH_PROVIDER)


def _view(provider: Provider, key: ProviderKey | None) -> ProviderKeyView:
    return ProviderKeyView(
        provider=provider.name,
        title=provider.title,
        last_four=key.last_four if key else None,
        created_at=key.created_at if key else None,
        key_page=provider.key_page,
    )
