from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from scripts.child_environment import FIELDS, child_environment
from storage.settings import Settings

FULL: dict[str, Any] = {
    "allowed_regions": ("eu-west-1", "mars"),
    "anonymous_pass_through": True,
    "chf_per_usd": Decimal("0.8"),
    "cors_origins": ("https://a.example",),
    "data_dir": Path("/data"),
    "database_url": "postgresql://admin:adminpassword@host/db",
    "drain_bytes": 1,
    "drain_seconds": 2.5,
    "eur_per_usd": Decimal("0.9"),
    "master_key_file": Path("/keys/master"),
    "master_keys": "masterkeys",
    "master_keys_command": "vault read metrion",
    "max_body_bytes": 4,
    "monthly_requests_free": 5,
    "origins": {"openai": "http://127.0.0.1:1"},
    "prices_file": Path("/prices"),
    "rate_per_minute": 6,
    "rates_date": date(2026, 1, 2),
    "region": "mars",
    "registration": "closed",
    "proxy_url": "https://llm.example.com",
    "dashboard_url": "https://metrion.example.com",
    "smtp_url": "smtp://u:mailpassword@host",
    "stripe_api_base": "http://127.0.0.1:2",
    "stripe_price_id": "price",
    "stripe_secret_key": "stripesecret",
    "stripe_webhook_secret": "stripewebhook",
    "timeout_seconds": 7.5,
    "valkey_url": "redis://u:valkeypassword@host",
}
ROLE_URL = SecretStr("postgresql://role:rolepassword@host/db")


@pytest.mark.parametrize("process", sorted(FIELDS))
@pytest.mark.parametrize("given", [FULL, {"data_dir": Path("/data")}], ids=["full", "defaults"])
def test_a_child_reads_back_what_it_was_given(
    process: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    settings = Settings(**given)
    environment = child_environment(process, settings, ROLE_URL)
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    read = Settings.load()
    for field in FIELDS[process]:
        assert getattr(read, field) == getattr(settings, field), field
    assert read.database_url == ROLE_URL


def test_every_setting_is_somebodys():
    assert set(FULL) == set(Settings.model_fields)
    assert frozenset().union(*FIELDS.values()) | {"database_url"} == set(Settings.model_fields)


@pytest.mark.parametrize(
    ("process", "unknown"),
    [
        ("proxy", ["adminpassword", "mailpassword", "stripesecret", "stripewebhook"]),
        ("api", ["adminpassword", "valkeypassword"]),
        ("jobs", ["adminpassword", "masterkeys", "valkeypassword"]),
    ],
)
def test_no_child_gets_what_it_does_not_need(
    process: str, unknown: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
    text = str(child_environment(process, Settings(**FULL), ROLE_URL))
    for secret in [*unknown, "sk-of-somebody"]:
        assert secret not in text
    assert "PATH" in text
