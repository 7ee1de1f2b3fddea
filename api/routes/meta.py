"""`GET /api/v1/meta`: what this deployment is, for pages and clients before they sign in."""

from datetime import date as Date  # noqa: N812 - a field is called `date`
from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.deps import ServicesHere
from storage.settings import Settings

router = APIRouter(tags=["About"])


class ProviderInfo(BaseModel):
    """A provider that this deployment forwards to."""

    name: str = Field(description="As in paths and log rows.", examples=["openai"])
    title: str = Field(description="As its makers write it.", examples=["OpenAI"])


class CurrencyInfo(BaseModel):
    """A currency, and what a US dollar is worth in it."""

    code: Literal["USD", "EUR", "CHF"] = Field(description="ISO 4217.")
    rate: float = Field(description="Fixed by the operator; amounts are kept in USD.")
    date: Date | None = Field(description="The day of the rate; null: not known, or USD.")


def currencies(settings: Settings) -> list[CurrencyInfo]:
    """Return the currencies and their rates."""
    day = settings.rates_date
    return [
        CurrencyInfo(code="USD", rate=1, date=None),
        CurrencyInfo(code="EUR", rate=float(settings.eur_per_usd), date=day),
        CurrencyInfo(code="CHF", rate=float(settings.chf_per_usd), date=day),
    ]


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
                    "proxy_url": "https://llm.example.com",
                    "keeps_mails": False,
                    "currencies": [
                        {"code": "USD", "rate": 1.0, "date": None},
                        {"code": "EUR", "rate": 0.8532, "date": "2025-06-30"},
                        {"code": "CHF", "rate": 0.7975, "date": "2025-06-30"},
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
    proxy_url: str | None = Field(
        description="Where clients send their requests; null: the operator did not say."
    )
    keeps_mails: bool = Field(
        description="There is no mail server: mails, also those with codes for signing in, are "
        "files in the folder `mail` of the data directory."
    )
    currencies: list[CurrencyInfo] = Field(description="What the pages can show money in.")


@router.get("/api/v1/meta", summary="About this deployment")
async def meta(services: ServicesHere) -> Meta:
    """Return version, region and providers. Needs no token."""
    settings = services.settings
    return Meta(
        version=version("metrion"),
        region=settings.region,
        registration=settings.registration,
        providers=[ProviderInfo(name=each.name, title=each.title) for each in services.providers],
        proxy_url=settings.proxy_url,
        keeps_mails=settings.smtp_url is None,
        currencies=currencies(settings),
    )
