"""The environment of each supervised process: what it needs, and nothing else.

A child reads its settings from METRION_* names only: its working directory is the data directory,
where no `.env` is. Its database address names its own role.
"""

import json
import os
from typing import Any, Final

from pydantic import SecretStr

from storage.settings import ENV_PREFIX, Settings

# What programs in general look at.
_PASSED_ON = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
)

_EVERY = frozenset({"data_dir", "region", "allowed_regions"})
_SEALING = frozenset({"master_key_file", "master_keys", "master_keys_command"})
_MAIL_AND_BILLING = frozenset(
    {
        "smtp_url",
        "dashboard_url",
        "stripe_secret_key",
        "stripe_webhook_secret",
        "stripe_price_id",
        "stripe_api_base",
    }
)
_MONEY = frozenset({"eur_per_usd", "chf_per_usd", "rates_date", "prices_file"})
_LIMITS = frozenset({"rate_per_minute", "monthly_requests_free"})

FIELDS: Final = {
    "proxy": _EVERY
    | _SEALING
    | _LIMITS
    | {
        "valkey_url",
        "origins",
        "cors_origins",
        "timeout_seconds",
        "max_body_bytes",
        "drain_seconds",
        "drain_bytes",
        "anonymous_pass_through",
        "prices_file",
    },
    "api": _EVERY | _SEALING | _LIMITS | _MAIL_AND_BILLING | _MONEY | {"registration", "proxy_url"},
    "jobs": _EVERY | _MAIL_AND_BILLING | _MONEY,
}
"""Which settings each process gets, beside its database address."""


def child_environment(process: str, settings: Settings, database_url: SecretStr) -> dict[str, str]:
    """Return the environment of `process` (a key of `FIELDS`)."""
    values = {field: getattr(settings, field) for field in FIELDS[process]}
    values["database_url"] = database_url
    given = {field: value for field, value in values.items() if value is not None}
    return base_environment() | {
        f"{ENV_PREFIX}{field.upper()}": _text(value) for field, value in given.items()
    }


def base_environment() -> dict[str, str]:
    """Return what is passed on from this process's environment; no settings among it."""
    environment = os.environ  # noqa: TID251 - not configuration: what every program needs
    return {name: environment[name] for name in _PASSED_ON if name in environment}


def _text(value: Any) -> str:
    """Write a setting as the environment holds it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | tuple):
        return json.dumps(value)
    return str(value)
