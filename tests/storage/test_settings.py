import contextlib
import traceback
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.errors import SettingsError
from storage.settings import Settings

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """An empty working directory and no METRION_* names."""
    for field in Settings.model_fields:
        monkeypatch.delenv(f"METRION_{field.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def load_with(environment: Mapping[str, str]) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return Settings.load()


def test_the_defaults(tmp_path: Path):
    settings = Settings.load()
    assert settings.data_dir == tmp_path / ".metrion"
    assert settings.master_key_path == tmp_path / ".metrion" / "master.key"
    assert (settings.rate_per_minute, settings.monthly_requests_free) == (100, 10_000)
    assert (settings.timeout_seconds, settings.max_body_bytes) == (30.0, 32 * 1024 * 1024)
    assert (settings.region, settings.registration) == ("eu-west-1", "open")
    assert settings.cors_origins == ()
    assert settings.anonymous_pass_through is False
    assert settings.rates_date == date(2025, 6, 30)


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path):
    (tmp_path / ".env").write_text(
        "METRION_RATE_PER_MINUTE=5\nMETRION_REGION=eu-west-3\nOTHER_PROGRAM=1\n"
    )
    assert Settings.load().rate_per_minute == 5
    settings = load_with({"METRION_RATE_PER_MINUTE": "6", "METRION_DATA_DIR": "/a"})
    assert (settings.rate_per_minute, settings.region) == (6, "eu-west-3")
    assert settings.data_dir == Path("/a")
    assert Settings.load(rate_per_minute=7).rate_per_minute == 7


def test_an_empty_value_is_as_good_as_none():
    assert load_with({"METRION_VALKEY_URL": "", "METRION_RATE_PER_MINUTE": ""}) == Settings.load()


def test_values_of_every_kind():
    settings = load_with(
        {
            "METRION_ORIGINS": '{"openai": "http://127.0.0.1:9000", "grok": "https://[::1]:1"}',
            "METRION_CORS_ORIGINS": "https://a.example, http://localhost:3000",
            "METRION_ALLOWED_REGIONS": '["eu-west-1", "de-fra"]',
            "METRION_REGION": "de-fra",
            "METRION_DATABASE_URL": f"postgresql://u:{SECRET}@h/d",
            "METRION_VALKEY_URL": "redis://h",
            "METRION_SMTP_URL": f"smtps://u:{SECRET}@h",
            "METRION_ANONYMOUS_PASS_THROUGH": "true",
            "METRION_PROXY_URL": "https://llm.example.com",
            "METRION_MASTER_KEY_FILE": "keys/master",
            "METRION_EUR_PER_USD": "0.9",
        }
    )
    assert settings.origins["grok"] == "https://[::1]:1"
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.allowed_regions == ("eu-west-1", "de-fra")
    assert settings.master_key_path == Path.cwd() / "keys" / "master"
    assert settings.eur_per_usd == Decimal("0.9")
    assert settings.rates_date is None  # the default day is not the day of the operator's rate
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("METRION_DATABASE", "METRION_DATABASE_URL"),
        ("METRION_RATE_PER_MINUT", "METRION_RATE_PER_MINUTE"),
        ("metrion_cors_origin", "METRION_CORS_ORIGINS"),
        ("METRION_ZZZZ", "METRION_"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest(tmp_path: Path, name: str, meant: str):
    with pytest.raises(SettingsError, match=f"{name} in the environment .*did you mean {meant}"):
        load_with({name: SECRET})
    (tmp_path / ".env").write_text(f"{name}={SECRET}\n")
    with pytest.raises(SettingsError, match=rf"{name} in \.env .*did you mean {meant}") as caught:
        Settings.load()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "ALLOWED_REGIONS",
        "ANONYMOUS_PASS_THROUGH",
        "CHF_PER_USD",
        "CORS_ORIGINS",
        "DATABASE_URL",
        "DRAIN_BYTES",
        "EUR_PER_USD",
        "IDLE_TIMEOUT_SECONDS",
        "MAX_BODY_BYTES",
        "ORIGINS",
        "PROXY_URL",
        "RATES_DATE",
        "RATE_PER_MINUTE",
        "REGION",
        "REGISTRATION",
        "SMTP_URL",
        "TIMEOUT_SECONDS",
        "VALKEY_URL",
    ],
)
def test_a_bad_value_is_named_and_never_repeated(name: str):
    for value in (SECRET, "[" + SECRET, "{" + SECRET, f'["{SECRET}"]', f'{{"a": "{SECRET}"}}'):
        if name == "ALLOWED_REGIONS" and not value.startswith("[h"):
            continue  # any word may name a region
        with pytest.raises(SettingsError, match=f"METRION_{name}") as caught:
            load_with({f"METRION_{name}": value})
        if name != "REGION":  # a region is no secret, and the message is better with it
            assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)


BAD_ADDRESSES = {
    "%": f"postgresql://u:{SECRET}%zz@h/db",
    "%00": f"postgresql://u:{SECRET}%00@h/db",
    "@": f"postgresql://u:x@{SECRET}@h/db",
    "/": f"postgresql://u:{SECRET}/x@h/db",
    "?": f"postgresql://u:{SECRET}?x@h/db",
    "#": f"postgresql://u:{SECRET}#x@h/db",
    "[": f"postgresql://u:{SECRET}[x@h/db",
    "space": f"postgresql://u:{SECRET} x@h/db",
    "wide": f"postgresql://u:{SECRET}\N{ACCOUNT OF}x@h/db",
    "bracket": f"postgresql://u:{SECRET}@[::1/db",
    "parameter": f"postgresql://u@h/db?password={SECRET}%zz",
    "no-parameter": f"postgresql://u@h/db?{SECRET}",
}


@pytest.mark.parametrize("name", BAD_ADDRESSES)
def test_an_address_that_the_database_could_not_be_found_by_is_refused_and_not_repeated(name: str):
    # whoever else takes it apart (libpq, urllib) repeats what it stumbles over
    with pytest.raises(SettingsError, match=r"METRION_DATABASE_URL: .*write %25 for %") as caught:
        load_with({"METRION_DATABASE_URL": BAD_ADDRESSES[name]})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "address",
    [
        "postgres://u:p%40%2F%3F%23%25@h/d",
        "postgresql://u@[::1]:5432/d?sslmode=require",
        "postgresql://u:p@h1:1,h2:2/d?target_session_attrs=read-write",
        "postgresql:///d?host=%2Frun&user=u%40server",
        "postgresql://",
    ],
)
def test_forms_of_the_databases_address(address: str):
    given = load_with({"METRION_DATABASE_URL": address}).database_url
    assert given is not None
    assert given.get_secret_value() == address


@pytest.mark.parametrize("name", ["VALKEY_URL", "SMTP_URL"])
@pytest.mark.parametrize("rest", ["[x@h", "\N{ACCOUNT OF}x@h", "/x@h"])
def test_other_addresses_that_nobody_could_take_apart(name: str, rest: str):
    scheme = {"VALKEY_URL": "redis", "SMTP_URL": "smtp"}[name]
    with pytest.raises(SettingsError, match=f"METRION_{name}: must look like") as caught:
        load_with({f"METRION_{name}": f"{scheme}://u:{SECRET}{rest}"})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "origin",
    ["ftp://a", "https://", "https://a/", "https://a/b", "https://u@a", "//a", "a:1", "*", "null"],
)
def test_an_origin_is_scheme_host_and_port(origin: str):
    for name, value in (("CORS_ORIGINS", origin), ("ORIGINS", f'{{"openai": "{origin}"}}')):
        with pytest.raises(SettingsError, match=f"METRION_{name}"):
            load_with({f"METRION_{name}": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RATE_PER_MINUTE", "0"),
        ("TIMEOUT_SECONDS", "0"),
        ("TIMEOUT_SECONDS", "nan"),
        ("TIMEOUT_SECONDS", "inf"),
        ("MAX_BODY_BYTES", "-1"),
        ("EUR_PER_USD", "0"),
        ("EUR_PER_USD", "nan"),
    ],
)
def test_a_number_out_of_range_is_refused(name: str, value: str):
    with pytest.raises(SettingsError, match=f"METRION_{name}"):
        load_with({f"METRION_{name}": value})


def test_a_region_that_is_not_allowed_is_refused():
    with pytest.raises(SettingsError, match="METRION_REGION 'us-east-1' is not one of the allowed"):
        load_with({"METRION_REGION": "us-east-1"})
    with pytest.raises(SettingsError, match="METRION_REGION 'eu-west-1' is not one of the allowed"):
        load_with({"METRION_ALLOWED_REGIONS": "eu-central-1"})


def test_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Settings.load().region = "us-east-1"


@given(st.sampled_from(sorted(Settings.model_fields)), st.text(st.characters(codec="utf-8")))
def test_odd_values_load_or_are_refused(field: str, value: str):
    with contextlib.suppress(SettingsError):
        load_with({f"METRION_{field.upper()}": value.replace("\0", "")})


def test_a_home_of_nobody_is_refused():
    with pytest.raises(SettingsError, match="METRION_DATA_DIR: Could not determine home"):
        load_with({"METRION_DATA_DIR": "~no-such-user/data"})


STRIPE = {
    "METRION_STRIPE_SECRET_KEY": f"sk_{SECRET}",
    "METRION_STRIPE_WEBHOOK_SECRET": f"whsec_{SECRET}",
    "METRION_STRIPE_PRICE_ID": "price_1",
}


def test_stripe_is_configured_wholly_or_not_at_all():
    assert load_with({}).stripe_secret_key is None
    settings = load_with(STRIPE | {"METRION_STRIPE_API_BASE": "http://127.0.0.1:12111/"})
    assert settings.stripe_api_base == "http://127.0.0.1:12111"
    assert SECRET not in repr(settings)
    for missing in STRIPE:
        with pytest.raises(SettingsError, match=f"belong together: {missing} missing") as refused:
            load_with({name: value for name, value in STRIPE.items() if name != missing})
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "base", ["ftp://stripe", "stripe.example", "https://s.example/v1", "https://"]
)
def test_stripes_address_is_an_origin(base: str):
    with pytest.raises(SettingsError, match="METRION_STRIPE_API_BASE"):
        load_with(STRIPE | {"METRION_STRIPE_API_BASE": base})
