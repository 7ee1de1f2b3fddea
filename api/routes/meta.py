"""`GET /api/v1/meta`: what this deployment is, for pages and clients before they sign in."""

from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.deps import ServicesHere

router = APIRouter(tags=["About"])


class ProviderInfo(BaseModel):
    """A provider that this deployment forwards to."""

    name: str = Field(description="As in paths and log rows.", examples=["openai"])
    title: str = Field(description="As its makers write it.", examples=["OpenAI"])


class Meta(BaseModel):
    """What anybody may know of this deployment."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "version": "1.0.0",
                    "region": "eu-west-1",
                    "registration": "open",
                    "providers": [
                        {"name": "anthropic", "title": "Anthropic"},
                        {"name": "openai", "title": "OpenAI"},
                    ],
                }
            ]
        }
    )

    version: str = Field(description="Metrion's version.")
    region: str = Field(
        description="Where this deployment keeps its data, as its operator declares."
    )
    registration: Literal["open", "invite", "closed"] = Field(
        description="Who may sign in for the first time."
    )
    providers: list[ProviderInfo] = Field(description="In the order of their names.")


@router.get("/api/v1/meta", summary="About this deployment")
async def meta(services: ServicesHere) -> Meta:
    """Return version, region and providers. Needs no token."""
    settings = services.settings
    return Meta(
        version=version("metrion"),
        region=settings.region,
        registration=settings.registration,
        providers=[ProviderInfo(name=each.name, title=each.title) for each in services.providers],
    )
