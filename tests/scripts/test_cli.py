"""The `metrion` command, as a process's arguments, streams and exit status see it."""

import asyncio
import io
import json
import re
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts import cli
from storage import callers, roles
from storage.identifiers import uuid7
from storage.ingest import LogWriter
from storage.logs import RequestLog
from storage.single_statements import SingleStatements
from storage.tokens import is_token

EMAIL = "ada@example.org"
KEY = "sk-openai-0123456789-abcdefgh"


@dataclass
class Answer:
    """What a command did."""

    status: int
    out: str
    errors: str


@pytest.fixture
def metrion(
    database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> Callable[..., Answer]:
    """Run a command against a fresh database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METRION_DATA_DIR", str(database.settings.data_dir))
    monkeypatch.setenv("METRION_DATABASE_URL", database.administrator_url.get_secret_value())

    def run(*arguments: str, typed: bytes = b"") -> Answer:
        monkeypatch.setattr(sys, "argv", ["metrion", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)))
        try:
            cli.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        else:
            status = 0
        said = capsys.readouterr()
        return Answer(status, said.out, said.err)

    return run


@pytest.fixture
def account(metrion) -> dict[str, str]:
    return json.loads(metrion("account", "create", EMAIL, "--json").out)


def test_create_prints_exactly_id_and_token(metrion):
    answer = metrion("account", "create", EMAIL, "--plan", "pro", "--json")
    assert (answer.status, answer.errors) == (0, "")
    made = json.loads(answer.out)
    assert set(made) == {"account_id", "token"}
    assert uuid.UUID(made["account_id"]).version == 7
    assert is_token(made["token"])
    plain = metrion("account", "create", "bob@example.org").out
    assert re.fullmatch(r"account [0-9a-f-]{36}\nMetrion Key sk-metrion-[0-9a-f]{32}\n", plain)


def test_accounts_are_listed_the_oldest_first(metrion, account):
    metrion("account", "create", "bob@example.org", "--plan", "pro")
    listed = json.loads(metrion("account", "list", "--json").out)
    assert [(row["email"], row["plan"]) for row in listed] == [
        (EMAIL, "free"),
        ("bob@example.org", "pro"),
    ]
    assert listed[0]["account_id"] == account["account_id"]
    assert listed[0]["created_at"].endswith("Z")
    assert account["token"] not in str(listed)
    table = metrion("account", "list").out.splitlines()
    assert table[0].split() == ["EMAIL", "PLAN", "CREATED", "ACCOUNT"]
    assert table[1].startswith(f"{EMAIL}  ")


@pytest.mark.parametrize("typed", [KEY, KEY + "\n", KEY + "\r\n"])
def test_a_key_is_read_from_standard_input_and_never_shown(metrion, account, typed: str, database):
    answer = metrion("key", "set", EMAIL, "openai", typed=typed.encode())
    assert (answer.status, answer.errors) == (0, "")
    assert answer.out == f"stored the openai key …efgh of {EMAIL}\n"
    [key] = json.loads(metrion("key", "list", EMAIL, "--json").out)
    assert set(key) == {"provider", "last_four", "created_at"}
    assert (key["provider"], key["last_four"]) == ("openai", "efgh")
    assert "openai    …efgh" in metrion("key", "list", EMAIL).out

    async def open_as_proxy() -> dict[str, bytes]:
        proxy = SingleStatements(database.url(roles.PROXY))
        digests = database.keys.token_digests(account["token"])
        caller = await callers.find_caller(proxy, digests)
        await proxy.close()
        return dict(caller.sealed_keys)

    sealed = asyncio.run(open_as_proxy())["openai"]
    binding = callers.key_binding(uuid.UUID(account["account_id"]), "openai")
    assert database.keys.open(sealed, binding) == KEY.encode()


@pytest.mark.parametrize(
    "typed",
    [
        b"",
        b"\n",
        b"short",
        b"two words-here",
        b"tab\there-1234",
        b"two\nlines-1234",
        b"\xff" * 20,
        "schlüssel-123456".encode(),
        b"x" * 1001,
        b"x" * 100_000,
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(metrion, account, typed: bytes):
    answer = metrion("key", "set", EMAIL, "openai", typed=typed)
    assert (answer.status, answer.out) == (1, "")
    assert answer.errors.startswith("metrion: a provider key has")
    assert answer.errors.count("\n") == 1
    assert "here" not in answer.errors
    assert json.loads(metrion("key", "list", EMAIL, "--json").out) == []


def test_an_unknown_provider_is_refused(metrion, account):
    answer = metrion("key", "set", EMAIL, "opnai", typed=KEY.encode())
    assert answer.status == 1
    assert (
        answer.errors == "metrion: a provider is one of: anthropic, gemini, grok, mistral, openai\n"
    )


def test_a_key_is_deleted(metrion, account):
    metrion("key", "set", EMAIL, "openai", typed=KEY.encode())
    answer = metrion("key", "delete", EMAIL, "openai")
    assert "revoke it at https://platform.openai.com" in answer.out
    assert metrion("key", "list", EMAIL).out == "PROVIDER  KEY  STORED\n"
    assert (
        metrion("key", "delete", EMAIL, "openai").errors == "metrion: there is no key for openai\n"
    )


def test_a_token_is_regenerated(metrion, account):
    made = json.loads(metrion("token", "regenerate", EMAIL, "--json").out)
    assert made["account_id"] == account["account_id"]
    assert is_token(made["token"])
    assert made["token"] != account["token"]
    assert metrion("token", "regenerate", EMAIL).out.startswith("Metrion Key sk-metrion-")


def test_a_plan_is_set(metrion, account):
    assert metrion("plan", "set", EMAIL, "pro").out == f"{EMAIL} has the plan pro\n"
    assert json.loads(metrion("account", "list", "--json").out)[0]["plan"] == "pro"
    assert metrion("plan", "set", EMAIL, "gold").errors == "metrion: a plan is one of: free, pro\n"


def test_who_sets_a_plan_hears_of_a_subscription(metrion, account, database):
    with psycopg.connect(database.administrator_url.get_secret_value()) as administrator:
        administrator.execute(
            "INSERT INTO metrion.billing (account_id, customer_id, status)"
            " VALUES (%s, 'cus_1', 'active')",
            [account["account_id"]],
        )
    said = metrion("plan", "set", EMAIL, "free").out
    assert "subscription at Stripe goes on" in said


def log_row(account: dict[str, str], **changed: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(field.name for field in fields(RequestLog))
    return row | {
        "id": str(uuid7()),
        "account_id": account["account_id"],
        "created_at": datetime.now(UTC).isoformat(),
        "provider": "openai",
        "endpoint": "chat/completions",
        "model": "gpt-4o-mini",
        "mode": "stored",
        "status": 200,
        "outcome": "ok",
        "streamed": False,
        "cached": False,
        "price_source": None,
        "left_out": 0,
        **changed,
    }


def write(database, rows: list[dict[str, Any]]) -> None:
    writer = LogWriter(database.url(roles.PROXY))
    assert writer.write(rows) == len(rows)
    writer.close()


def test_logs_have_exactly_the_fixed_fields(metrion, account, database):
    write(
        database,
        [
            log_row(account, input_tokens=12, cost_usd="0.000001500000", latency_ms=12.5),
            log_row(account, model="evil\x1b[2J", status=None, outcome="client_closed"),
        ],
    )
    answer = metrion("logs", EMAIL, "--json")
    assert answer.status == 0
    newest, oldest = json.loads(answer.out)
    expected = (
        "id created_at provider endpoint model requester mode status outcome streamed cached "
        "input_tokens cache_read_tokens cache_write_tokens output_tokens reasoning_tokens "
        "total_tokens cost_usd latency_ms ttfb_ms overhead_ms error"
    )
    assert list(oldest) == expected.split()
    assert (oldest["cost_usd"], oldest["input_tokens"], oldest["output_tokens"]) == (
        1.5e-06,
        12,
        None,
    )
    assert oldest["created_at"].endswith("Z")
    assert (newest["cost_usd"], newest["status"]) == (None, None)
    table = metrion("logs", EMAIL).out
    assert "0.0000015  12" in re.sub(" +", "  ", table)
    assert "\x1b" not in table
    assert "evil\\x1b[2J" in table


def test_logs_are_as_many_as_asked_for(metrion, account, database, monkeypatch):
    monkeypatch.setattr(cli, "LARGEST_PAGE", 2)
    write(database, [log_row(account) for _ in range(7)])
    for limit, expected in ((1, 1), (2, 2), (5, 5), (50, 7)):
        rows = json.loads(metrion("logs", EMAIL, "--limit", str(limit), "--json").out)
        assert len({row["id"] for row in rows}) == expected
    assert metrion("logs", EMAIL, "--limit", "0").status == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("key", "list"),
        ("logs",),
        ("token", "regenerate"),
    ],
)
def test_an_unknown_account_is_one_line(metrion, arguments):
    answer = metrion(*arguments, "nobody@example.org")
    assert (answer.status, answer.out) == (1, "")
    assert answer.errors == "metrion: there is no account for nobody@example.org\n"


def test_mistakes_are_one_line(metrion, account, tmp_path: Path, monkeypatch):
    assert metrion("account", "create", EMAIL.upper()).errors.startswith(
        "metrion: there is an account for"
    )
    assert metrion("account", "create", "ada").errors == "metrion: this is not an e-mail address\n"
    assert metrion("account", "create", "x@y", "--plan", "x").errors.startswith("metrion: a plan")
    monkeypatch.setenv("METRION_RATE", "1")
    assert metrion("account", "list").errors.startswith("metrion: METRION_RATE in the environment")
    monkeypatch.delenv("METRION_RATE")
    monkeypatch.delenv("METRION_DATABASE_URL")
    answer = metrion("--data-dir", str(tmp_path / "empty"), "account", "list")
    assert answer.errors == (
        f"metrion: the database of {tmp_path}/empty is not running: start it with scripts/run, "
        "or name another folder by --data-dir\n"
    )
    assert not (tmp_path / "empty").exists()


def test_without_the_master_key_nothing_is_made(metrion, database):
    database.settings.master_key_path.unlink()
    answer = metrion("account", "create", EMAIL)
    assert answer.status == 1
    assert answer.errors.startswith("metrion: there is no master key at ")
    assert json.loads(metrion("account", "list", "--json").out) == []


def test_migrate_can_be_repeated(metrion):
    assert metrion("migrate").out == "the schema is up to date\n"


def test_usage_mistakes_have_status_2(metrion):
    assert metrion().status == 2
    assert metrion("frobnicate").status == 2
    assert metrion("--help").status == 0


@pytest.mark.parametrize("group", [(), ("account",), ("key",), ("token",), ("plan",)])
def test_help_says_of_every_command_all_that_it_is(metrion, group: tuple[str, ...]):
    shown = metrion(*group, "--help").out
    assert "Commands:" in shown
    assert "..." not in shown.partition("Commands:")[2]
