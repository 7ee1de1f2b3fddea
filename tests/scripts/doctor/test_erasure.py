"""What is searched is tested with storage.erasure_search; here, what is told of it."""

import asyncio
import uuid

import pytest
from pydantic import SecretStr

from scripts.doctor import erasure
from scripts.doctor.erasure import check_erasure
from storage.erasure_search import Trace

ADDRESS = "ada@example.org"  # of the account that the deployment has


@pytest.fixture
def check(settings):
    return lambda *arguments: asyncio.run(check_erasure(settings, *arguments))


def test_an_address_that_was_never_here(check, findings):
    results = check("nobody@example.org")
    assert findings(results) == []
    assert results[-1].message == "nothing is left"
    assert findings(check(str(uuid.uuid4()))) == []


def test_an_account_that_is_there(check, findings):
    assert any("an account since" in said for said in findings(check(ADDRESS.upper())))


def test_what_is_worth_telling_is_no_finding(check, findings, monkeypatch):
    async def search(*_: object) -> list[Trace]:
        return [Trace("erasures", 1, is_left=False, note="was erased"), Trace("a.b", 3, True, "x")]

    monkeypatch.setattr(erasure, "search_for_erased", search)
    results = check("nobody@example.org")
    assert [result.message for result in results] == ["erasures: was erased", "a.b: x (3)"]
    assert findings(results) == ["a.b: x (3)"]


def test_log_files_are_searched_too(check, findings, settings, tmp_path):
    (settings.data_dir / "proxy.log").write_bytes(b"\xff Nobody@Example.org")
    other = tmp_path / "logs"
    other.mkdir()
    (other / "access").write_text("x" * 2_000_000 + "nobody@example.org")
    said = findings(check("nobody@example.org", [other]))
    assert said == [
        f"{settings.data_dir / 'proxy.log'}: it is in this file",
        f"{other / 'access'}: it is in this file",
    ]


def test_a_search_that_is_not_complete_proves_nothing(settings, findings):
    away = settings.model_copy(update={"database_url": SecretStr("postgresql://127.0.0.1:1/x")})
    [said] = findings(asyncio.run(check_erasure(away, ADDRESS)))
    assert said.startswith("it could not be searched: the database is not available")


def test_without_master_keys_the_rest_is_searched(check, settings, findings):
    settings.master_key_path.unlink()
    assert findings(check("nobody@example.org")) == []
