"""What the doctor's tests share: a deployment's settings, and only the findings of a check."""

import asyncio
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from scripts.doctor.result import Result, Status
from storage import accounts, keys, roles
from storage.database import Database
from storage.diagnostics import Diagnosis, open_diagnosis
from storage.settings import Settings

KEY = "sk-proj-0123456789abcdefghijABCDEFGHIJ"


@dataclass(frozen=True)
class Person:
    """An account with a key."""

    token: str
    key: str


@dataclass(frozen=True)
class Deployed:
    """A database with an account in it, for all tests of a module: what they plant is taken back."""

    database: Any
    person: Person


@pytest.fixture(scope="module")
def deployed(postgres, tmp_path_factory) -> Iterator[Deployed]:
    with postgres.fresh_database(tmp_path_factory.mktemp("deployed")) as fresh:

        async def make() -> str:
            api = Database(fresh.url(roles.API), pool_size=1)
            new = await accounts.create_account(api, fresh.keys, "ada@example.org")
            async with api.account(new.id) as connection:
                await keys.set_key(connection, fresh.keys, new.id, "openai", KEY)
            await api.close()
            return new.token

        yield Deployed(fresh, Person(asyncio.run(make()), KEY))


@pytest.fixture
def settings(deployed, tmp_path, monkeypatch) -> Settings:
    """Of the deployment, with a data directory of its own; there is no `.env`."""
    monkeypatch.chdir(tmp_path)
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    before = deployed.database.settings
    shutil.copy2(before.master_key_path, data_dir)
    (data_dir / "roles").symlink_to((before.data_dir / "roles").resolve())
    return before.model_copy(update={"data_dir": data_dir})


@pytest.fixture
def diagnosis(deployed) -> Iterator[Diagnosis]:
    with (
        open_diagnosis(deployed.database.administrator_url) as opened,
        opened.connection.transaction(force_rollback=True),
    ):
        yield opened


@pytest.fixture
def administrator(diagnosis) -> psycopg.Connection:
    """Whoever plants a fault in the database; for those who look by `diagnosis`."""
    return diagnosis.connection


@pytest.fixture
def person(deployed) -> Person:
    """Somebody whose token and key are sealed in the database."""
    return deployed.person


@pytest.fixture
def findings() -> Callable[[Iterable[Result]], list[str]]:
    """The messages of what is wrong; nobody is told without being told what to do."""

    def choose(results: Iterable[Result]) -> list[str]:
        wrong = [result for result in results if result.status is Status.FINDING]
        assert all(result.advice for result in wrong)
        return [result.message for result in wrong]

    return choose
