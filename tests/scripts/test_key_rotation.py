"""`metrion rotate-master-key` as an operator sees it."""

import psycopg
import pytest

from scripts.key_rotation import describe, progress_printer, rotate_master_key
from storage import accounts, master_key_file, roles, rotation
from storage.database import Database
from storage.rotation import Progress, Report


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(rotation, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(rotation, "RETIRE_SECONDS", 0)


@pytest.fixture
async def token(database):
    api = Database(database.url(roles.API))
    account = await accounts.create_account(api, database.keys, "ada@example.org")
    await api.close()
    return account.token


def test_rotating_and_retiring_say_what_was_done(database, token, capsys):
    assert rotate_master_key(database.settings, retire_old_keys=False)
    assert capsys.readouterr().out.splitlines() == [
        "tokens.sealed: 0 of 1",
        "tokens.sealed: 1 of 1",
        "provider_keys.sealed: 0 of 0",
        "response_cache.sealed: 0 of 0",
        "master key 2 is active and new",
        "sealed again: 1 values",
        "no value needs an older key: --retire drops them",
    ]
    assert rotate_master_key(database.settings, retire_old_keys=True)
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == (
        "dropped for good: master key 1; backups from before still need it"
    )
    assert token not in said
    assert list(master_key_file.read(database.settings.master_key_path).keys) == [2]
    assert rotate_master_key(database.settings, retire_old_keys=True)
    assert capsys.readouterr().out.splitlines()[-1] == "there was no old key to drop"


def test_a_value_that_does_not_open_is_named_and_the_status_says_so(database, token, capsys):
    with psycopg.connect(database.administrator_url.get_secret_value()) as administrator:
        administrator.execute("UPDATE metrion.tokens SET id = gen_random_uuid()")
    assert not rotate_master_key(database.settings, retire_old_keys=False)
    said = capsys.readouterr().out
    assert "does not open: account " in said
    assert "1 values are still under master key 1, which must stay" in said
    assert said.splitlines()[-1].startswith("regenerate such a token")
    assert token not in said


def test_other_ends():
    in_use = Report(active=2, needed={1: 3})
    assert describe(in_use, in_file=True, retiring=False)[-1] == (
        "they were in use all the time: run this again"
    )
    own_ring = describe(Report(active=2), in_file=False, retiring=True)
    assert own_ring[-1].endswith("take the others out of METRION_MASTER_KEYS")


def test_progress_is_said_at_both_ends_and_not_for_every_batch(capsys):
    tell = progress_printer()
    for done in range(1001):
        tell(Progress("tokens.sealed", done, 1000))
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == ("tokens.sealed: 0 of 1000", "tokens.sealed: 1000 of 1000")
    assert len(lines) < 20
