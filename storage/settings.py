"""The one `Settings` object: every default of the product, read from METRION_* names and `.env`."""

import difflib
import json
import os
import re
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import urlsplit

import psycopg
from dotenv import dotenv_values
from psycopg.conninfo import conninfo_to_dict
from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from storage.errors import SettingsError

ENV_PREFIX = "METRION_"
ENV_FILE = ".env"
MEBIBYTE = 1024 * 1024

# AWS regions inside the European Union; London (eu-west-2) and Zurich (eu-central-2) are outside.
EU_REGIONS = ("eu-central-1", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-3")

# Euro reference rates of the European Central Bank of this day: 1 EUR = 1.1720 USD = 0.9347 CHF.
_DEFAULT_RATES_DATE = date(2025, 6, 30)
_DEFAULT_EUR_PER_USD = Decimal("0.8532")
_DEFAULT_CHF_PER_USD = Decimal("0.7975")

_ORIGIN = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
# One @ at most, after user and password: with others in them, or / ? #, libpq and urllib would take
# a part of the password for the host, whose name is in many a message.
_DATABASE_ADDRESS = re.compile(r"postgres(ql)?://([^@/?#]*@)?[^@/?#]*(/[^@?#]*)?(\?[^@#]*)?")
_VALKEY_SCHEMES = {"valkey", "valkeys", "redis", "rediss", "unix"}


def _listed(value: object) -> object:
    """Accept `a, b` beside the JSON list `["a", "b"]`."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [item.strip() for item in value.split(",") if item.strip()]


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Bytes = Annotated[int, Field(gt=0, le=2**31)]


class Settings(BaseSettings):
    """What an operator can set; frozen. Field `rate_per_minute` is METRION_RATE_PER_MINUTE, etc.

    Use `Settings.load()`: it also refuses METRION_* names that do not exist, and raises sentences.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,  # the README's table is made of them
    )

    data_dir: Path = Path(".metrion")
    """Where all is kept that has no other place; absolute, from the working directory."""
    database_url: SecretStr | None = None
    """PostgreSQL ≥ 15 as a URL; None: the embedded server in the data directory."""
    valkey_url: SecretStr | None = None
    """Valkey or Redis, shared by several proxy processes."""
    master_key_file: Path | None = None
    """Where the master keys are; None: `master.key` in the data directory (`master_key_path`)."""
    master_keys: SecretStr | None = None
    """The master keys themselves, as JSON, instead of a file."""
    master_keys_command: Annotated[str, Field(max_length=2000)] | None = None
    """A command that prints them (of a secret manager); run once per process, without a shell."""

    origins: dict[str, Annotated[str, Field(max_length=500)]] = {}
    """Provider → origin (`https://host[:port]`) to use instead of the provider's own."""
    cors_origins: Names = ()
    """Browser origins that may call the gateway: scheme, host and port, exactly."""
    rate_per_minute: Annotated[int, Field(ge=1)] = 100
    """Requests of one token in any 60 s."""
    monthly_requests_free: Annotated[int, Field(ge=0)] = 10_000
    """Forwarded requests of a Free account in a calendar month (UTC)."""
    timeout_seconds: Seconds = 30.0
    """From the request read to the provider's response headers; also the longest silence after."""
    max_body_bytes: Bytes = 32 * MEBIBYTE
    """Largest request body."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """How long an answer is still read after its client left."""
    drain_bytes: Annotated[int, Field(ge=0, le=2**31)] = 16 * MEBIBYTE
    """How much of an answer is still read after its client left."""
    anonymous_pass_through: bool = False
    """Forward requests that name no account at all (an open relay: off by default)."""

    smtp_url: SecretStr | None = None
    """`smtp[s]://user:password@host:port`; None: mails are kept in the data directory."""
    stripe_secret_key: SecretStr | None = None
    """Takes payments by Stripe, together with the next two; None: the operator sets plans."""
    stripe_webhook_secret: SecretStr | None = None
    """What Stripe signs webhooks with (`whsec_…`)."""
    stripe_price_id: Annotated[str, Field(max_length=255)] | None = None
    """The recurring price of Pro (`price_…`)."""
    stripe_api_base: Annotated[str, Field(max_length=500)] = "https://api.stripe.com"
    """Where Stripe's API is: `https://host[:port]`."""

    region: str = "eu-west-1"
    """Where this deployment keeps its data, as declared by the operator."""
    allowed_regions: Names = EU_REGIONS
    """Regions `region` may be."""
    proxy_url: Annotated[str, Field(max_length=500)] | None = None
    """Where clients reach the proxy, for the snippets on the pages: `https://host[:port]`."""
    dashboard_url: Annotated[str, Field(max_length=500)] | None = None
    """Where people reach the dashboard, for links in mails: `https://host[:port]`."""
    registration: Literal["open", "invite", "closed"] = "open"
    """Who may sign in for the first time."""

    prices_file: Path | None = None
    """Own prices, over those of the bundled catalogue."""
    eur_per_usd: Annotated[Decimal, Field(gt=0)] = _DEFAULT_EUR_PER_USD
    """What a dollar is worth in euros, on the pages."""
    chf_per_usd: Annotated[Decimal, Field(gt=0)] = _DEFAULT_CHF_PER_USD
    """What a dollar is worth in francs, on the pages."""
    rates_date: date | None = None
    """The day of the two rates; None when the operator gave rates without a day."""

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read environment and `.env`; `overrides` (by field name, from a command line) win.

        Raises:
            SettingsError: a value does not fit or a METRION_* name does not exist; says which, and
                never repeats a value.
        """
        _refuse_unknown_names(cls.model_fields)
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None
        except SourceError as error:
            field = next((name for name in cls.model_fields if f'"{name}"' in str(error)), "")
            raise SettingsError(f"{_name(field)} is not valid JSON") from None

    @property
    def master_keys_are_in_a_file(self) -> bool:
        """The ring is Metrion's own to make and rotate; else it comes from the operator."""
        return self.master_keys is None and self.master_keys_command is None

    @property
    def master_key_path(self) -> Path:
        """The file with the master keys, whether it exists or not."""
        return self.master_key_file or self.data_dir / "master.key"

    @field_validator("data_dir", "master_key_file", "prices_file")
    @classmethod
    def _make_absolute(cls, path: Path | None) -> Path | None:
        try:
            return None if path is None else path.expanduser().resolve()
        except RuntimeError as error:  # ~ of a user who does not exist
            raise ValueError(str(error)) from None

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not _is_database_address(url.get_secret_value()):
            raise ValueError(
                "must look like postgresql://user:password@host:5432/database; in user, password "
                "and parameters write %25 for %, %40 for @, %2F for /, %3F for ?, %23 for #, …"
            )
        return url

    @field_validator("valkey_url")
    @classmethod
    def _check_valkey_url(cls, url: SecretStr | None) -> SecretStr | None:
        return _with_form(url, _VALKEY_SCHEMES, "redis://host:6379/0")

    @field_validator("smtp_url")
    @classmethod
    def _check_smtp_url(cls, url: SecretStr | None) -> SecretStr | None:
        return _with_form(url, {"smtp", "smtps"}, "smtp://user:password@host:587")

    @field_validator("proxy_url", "dashboard_url")
    @classmethod
    def _check_proxy_url(cls, url: str | None) -> str | None:
        if url is not None:
            _check_origin(url, "it")
        return url

    @field_validator("origins")
    @classmethod
    def _check_origins(cls, origins: dict[str, str]) -> dict[str, str]:
        for provider, origin in origins.items():
            _check_origin(origin, f"the origin of {provider!r}")
        return origins

    @field_validator("cors_origins")
    @classmethod
    def _check_cors_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            _check_origin(origin, "each origin")
        return origins

    @field_validator("stripe_api_base")
    @classmethod
    def _check_stripe_api_base(cls, url: str) -> str:
        url = url.removesuffix("/")
        _check_origin(url, "it")
        return url

    @model_validator(mode="after")
    def _check_stripe(self) -> Self:
        names = ("stripe_secret_key", "stripe_webhook_secret", "stripe_price_id")
        missing = [_name(name) for name in names if getattr(self, name) is None]
        if 0 < len(missing) < len(names):
            raise ValueError(
                f"{', '.join(map(_name, names))} belong together: {' and '.join(missing)} missing"
            )
        return self

    @model_validator(mode="after")
    def _check_region(self) -> Self:
        if self.region not in self.allowed_regions:
            allowed = ", ".join(self.allowed_regions)
            raise ValueError(
                f"METRION_REGION {self.region!r} is not one of the allowed regions ({allowed}): "
                "data may not be kept there, unless METRION_ALLOWED_REGIONS says so"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _date_default_rates(cls, values: dict[str, Any]) -> dict[str, Any]:
        # the default day belongs to the default rates only
        own_rates = {"eur_per_usd", "chf_per_usd"} & values.keys()
        return values if own_rates else {"rates_date": _DEFAULT_RATES_DATE, **values}


def _is_database_address(url: str) -> bool:
    """Say whether all who take it apart can: the errors of libpq and urllib repeat parts of it."""
    try:
        urlsplit(url)
        conninfo_to_dict(url)
    except (ValueError, psycopg.Error):
        return False
    return _DATABASE_ADDRESS.fullmatch(url) is not None


def _with_form(url: SecretStr | None, schemes: set[str], example: str) -> SecretStr | None:
    if url is None:
        return None
    text = url.get_secret_value()
    try:
        is_good = text.partition(":")[0] in schemes and urlsplit(text).port != 0
    except ValueError:  # its text repeats a part of the address
        is_good = False
    if not is_good:
        raise ValueError(f"must look like {example}")
    return url


def _check_origin(origin: str, what: str) -> None:
    if _ORIGIN.fullmatch(origin) is None:
        raise ValueError(f"{what} must be https://host or https://host:port, without a path")


def _name(field: str) -> str:
    return ENV_PREFIX + field.upper()


def _explain(error: ValidationError) -> str:
    """Put a validation error in one line; pydantic's messages without input repeat no value."""
    sentences: list[str] = []
    for problem in error.errors(include_input=False, include_context=False, include_url=False):
        message = problem["msg"].removeprefix("Value error, ")
        place = problem["loc"]
        sentences.append(f"{_name(str(place[0]))}: {message}" if place else message)
    return "; ".join(sentences)


def _refuse_unknown_names(fields: Iterable[str]) -> None:
    known = {_name(field) for field in fields}
    environment = os.environ  # noqa: TID251 - this is the one module that may
    in_file = dotenv_values(ENV_FILE, interpolate=False) if Path(ENV_FILE).is_file() else {}
    for source, names in (("the environment", environment), (ENV_FILE, in_file)):
        for name in cast("Iterable[str]", names):
            if name.upper().startswith(ENV_PREFIX) and name.upper() not in known:
                close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0)
                raise SettingsError(f"{name} in {source} is no setting: did you mean {close[0]}?")
