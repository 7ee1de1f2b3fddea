import io
import json
import sys
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from scripts import cli, erasure_commands
from storage import roles
from storage.database import Database
from storage.errors import BillingUnavailable
from storage.identifiers import uuid7
from storage.ingest import LogWriter

EMAIL = "ada@example.org"


@pytest.fixture
def metrion(database, monkeypatch: pytest.MonkeyPatch, tmp_path, capsys):
    """Run a command against a fresh database; gives its status and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METRION_DATA_DIR", str(database.settings.data_dir))
    monkeypatch.setenv("METRION_DATABASE_URL", database.administrator_url.get_secret_value())
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["metrion", *arguments])
        try:
            cli.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        else:
            status = 0
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def administrator(database):
    with psycopg.connect(
        database.administrator_url.get_secret_value(), autocommit=True
    ) as connection:
        yield connection


def write(database, account_id: str, at: datetime) -> None:
    row = {
        "account_id": account_id,
        "id": str(uuid7(at.timestamp())),
        "created_at": at.isoformat(),
        "provider": "openai",
        "endpoint": "chat/completions",
        "mode": "stored",
        "status": 200,
        "outcome": "ok",
        "streamed": False,
        "cached": False,
    }
    writer = LogWriter(database.url(roles.PROXY))
    assert writer.write([row]) == 1
    writer.close()


def test_an_account_is_deleted_at_once_with_all_it_has(metrion, database, administrator):
    made = json.loads(metrion("account", "create", EMAIL, "--json")[1])
    write(database, made["account_id"], datetime.now(UTC))
    status, out, errors = metrion("account", "delete", EMAIL.upper())
    assert (status, errors) == (0, "")
    assert out.startswith(f"deleted {EMAIL.upper()}; the receipt is on its way\n")
    assert "        1  requests in the log\n" in out
    assert json.loads(metrion("account", "list", "--json")[1]) == []
    assert administrator.execute("SELECT count(*) FROM metrion.request_logs").fetchone() == (0,)
    receipt = "SELECT recipient FROM metrion.outbox"
    assert administrator.execute(receipt).fetchone() == (EMAIL,)


def test_there_must_be_one(metrion):
    assert metrion("account", "delete", EMAIL) == (
        1,
        "",
        f"metrion: there is no account for {EMAIL}\n",
    )


def test_what_cannot_be_done_now_is_said_and_left_to_the_jobs(metrion, monkeypatch, administrator):
    async def fail(*_: object) -> None:
        raise BillingUnavailable("Stripe does not answer")

    monkeypatch.setattr("api.subscriptions.Subscriptions.cancel_subscription", fail)
    monkeypatch.setattr(erasure_commands, "PATIENCE_SECONDS", 0)
    metrion("account", "create", EMAIL)
    status, out, errors = metrion("account", "delete", EMAIL)
    assert (status, out) == (1, "")
    assert "not everything is deleted yet (Stripe does not answer)" in errors
    state = "SELECT state FROM metrion.erasures"
    assert administrator.execute(state).fetchone() == ("requested",)
    assert metrion("account", "list")[1].splitlines()[1:] == []


def test_purge_deletes_what_is_too_old_and_says_how_much(metrion, database, administrator):
    made = json.loads(metrion("account", "create", EMAIL, "--json")[1])
    now = datetime.now(UTC)
    for days in (0, 8, 20):
        write(database, made["account_id"], now - timedelta(days=days))
    administrator.execute(
        "INSERT INTO metrion.sessions (id, account_id, digest, expires_at)"
        " VALUES (%s, %s, %s, now())",
        [uuid.uuid4(), made["account_id"], b"x" * 32],
    )
    deleted = json.loads(metrion("purge", "--json")[1])
    assert deleted.keys() == erasure_commands.PURGES.keys()
    assert deleted["sessions and codes"] == 1
    assert deleted["partitions of the log"] + deleted["rows of the log"] == 2
    assert administrator.execute("SELECT count(*) FROM metrion.request_logs").fetchone() == (1,)
    assert metrion("purge")[1].splitlines()[0].split(maxsplit=1) == ["0", "partitions of the log"]


async def test_the_database_lets_the_administrator_work_as_the_jobs(database):
    async with erasure_commands._database(database.settings, roles.JOBS) as as_jobs:
        assert isinstance(as_jobs, Database)
        async with as_jobs.system():
            pass
