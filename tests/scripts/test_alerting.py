import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from api.mail import Mail
from scripts import alerting
from scripts.alerting import Alerting
from storage import accounts, roles
from storage.alert_rules import Definition, Period
from storage.alerts import create_rule
from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.identifiers import uuid7
from storage.ingest import LogWriter

VOLUME = Definition("request_volume", "count", Decimal(1), Period("rolling", hours=24), "Volume")


class Post:
    """A transport that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: asyncio.Queue[Mail] = asyncio.Queue()

    async def send(self, mail: Mail) -> None:
        self.mails.put_nowait(mail)


@pytest.fixture
async def post():
    return Post()


@pytest.fixture
async def parts(database, post):
    """The jobs process's part, with a transport that can be looked into."""
    opened = replace(Alerting.open(database.settings), transport=post)
    yield opened
    await opened.database.close()


@pytest.fixture
async def watched(database):
    """A function that makes accounts with a rule each."""
    api = Database(database.url(roles.API))

    async def make(email: str, definition: Definition = VOLUME):
        new = await accounts.create_account(api, database.keys, email)
        async with api.account(new.id) as connection:
            await create_rule(connection, new.id, definition)
        return new.id

    yield make
    await api.close()


@pytest.fixture
def record(database):
    """A function that records a request."""
    writer = LogWriter(database.url(roles.PROXY))

    def write(account_id) -> None:
        now = datetime.now(UTC).isoformat()
        values = {"account_id": str(account_id), "id": str(uuid7()), "created_at": now}
        texts = {"provider": "openai", "endpoint": "chat/completions", "mode": "stored"}
        rest = {"status": 200, "outcome": "ok", "streamed": False, "cached": False}
        assert writer.write([values | texts | rest]) == 1

    yield write
    writer.close()


async def test_a_recorded_request_becomes_a_mail_at_once(parts, post, watched, record):
    ada = await watched("ada@example.com")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(parts.run())
        await asyncio.sleep(1)  # the new rule was looked at
        begun = time.monotonic()
        record(ada)
        mail = await asyncio.wait_for(post.mails.get(), 10)
        seconds = time.monotonic() - begun
        running.cancel()
    assert (mail.to, mail.subject) == (
        "ada@example.com",
        "Alert: Volume is at 100 % of its threshold",
    )
    assert post.mails.empty()
    assert seconds < 4


async def test_a_word_that_is_lost_costs_seconds_and_no_alert(
    parts, post, watched, record, monkeypatch
):
    monkeypatch.setattr(alerting, "SWEEP_SECONDS", 0.1)
    first, second = await watched("a@example.com"), await watched("b@example.com")
    record(first)  # nobody runs yet
    async with asyncio.TaskGroup() as group:
        nobody_tells = asyncio.Event()
        watching = group.create_task(parts.watch(nobody_tells))
        sending = group.create_task(
            alerting.deliver(parts.database, parts.transport, asyncio.Event())
        )
        assert (await asyncio.wait_for(post.mails.get(), 10)).to == "a@example.com"
        record(second)
        assert (await asyncio.wait_for(post.mails.get(), 10)).to == "b@example.com"
        watching.cancel()
        sending.cancel()


async def test_who_starts_anew_goes_on_where_all_was_looked_at(
    parts, post, watched, record, monkeypatch
):
    monkeypatch.setattr(alerting, "SWEEP_SECONDS", 0.05)
    ada, eve = await watched("ada@example.com"), await watched("eve@example.com")
    record(ada)
    looked: list[object] = []
    real = alerting.judge_account

    async def judge(database, account_id, **values):
        looked.append(account_id)
        return await real(database, account_id, **values)

    monkeypatch.setattr(alerting, "judge_account", judge)

    async def run(until: Callable[[], bool]) -> None:
        looked.clear()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(parts.watch(asyncio.Event()))
            async with asyncio.timeout(10):
                while not until():
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1)
            watching.cancel()

    await run(lambda: set(looked) == {ada, eve})
    record(eve)
    await run(lambda: bool(looked))
    assert set(looked) == {eve}


async def test_one_accounts_fault_does_not_silence_the_others(
    parts, post, watched, record, monkeypatch, caplog
):
    monkeypatch.setattr(alerting, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(alerting, "_RETRY_SECONDS", 0.1)
    broken, fine = await watched("a@example.com"), await watched("b@example.com")
    record(broken)
    record(fine)
    real, away = alerting.judge_account, [True]

    async def judge(database, account_id, **values):
        if account_id == broken:
            raise ZeroDivisionError
        if away:
            away.pop()
            raise DatabaseUnavailable("away")
        return await real(database, account_id, **values)

    monkeypatch.setattr(alerting, "judge_account", judge)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(parts.run())
        assert (await asyncio.wait_for(post.mails.get(), 10)).to == "b@example.com"
        running.cancel()
    said = [record.getMessage() for record in caplog.records]
    assert {"rules wait", "rules not judged"} <= set(said)
