import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from api.mail import Folder, Mail, MailError
from scripts import mail_delivery
from scripts.mail_delivery import deliver, deliver_some
from storage import outbox, roles
from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.outbox import put_mail


class Post:
    """A transport that keeps what it gets, and fails on demand."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.failures = 0
        self.error: Exception = MailError("the mail server answered 451")
        self.got_one = asyncio.Event()

    async def send(self, mail: Mail) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error
        self.mails.append(mail)
        self.got_one.set()


@pytest.fixture
async def jobs(database):
    opened = Database(database.url(roles.JOBS))
    yield opened
    await opened.close()


async def put(jobs: Database, number: int = 0) -> None:
    async with jobs.system() as connection:
        await put_mail(
            connection,
            account_id=None,
            key=f"{number}",
            recipient="ada@example.com",
            subject=f"Mail {number}",
            text="plain",
            html="<p>rich</p>",
        )


async def test_mails_are_sent_once_with_all_they_have(jobs):
    post = Post()
    for number in range(6):
        await put(jobs, number)
    were_put_before = datetime.now(UTC)
    assert [await deliver_some(jobs, post) for _ in range(3)] == [4, 2, 0]
    assert {mail.subject for mail in post.mails} == {f"Mail {number}" for number in range(6)}
    mail = post.mails[0]
    assert (mail.to, mail.text, mail.html) == ("ada@example.com", "plain", "<p>rich</p>")
    assert mail.id is not None
    assert mail.written_at < were_put_before, "not when it left"


async def test_a_mail_with_a_defect_is_put_off_and_the_others_are_sent(jobs, caplog):
    post = Post()
    for number in range(3):
        await put(jobs, number)
    post.failures, post.error = 2, IndexError("string index out of range")
    assert await deliver_some(jobs, post) == 3
    assert {record.reason for record in caplog.records} == {"IndexError"}
    assert len(post.mails) == 1
    assert await deliver_some(jobs, post) == 0, "they are put off"


async def test_a_mail_that_fails_is_tried_again_and_sent_once(jobs, monkeypatch, caplog):
    monkeypatch.setattr(outbox, "_FIRST_PAUSE_SECONDS", 0)
    post = Post()
    post.failures = 3
    await put(jobs)
    with caplog.at_level(logging.WARNING):
        assert [await deliver_some(jobs, post) for _ in range(5)] == [1, 1, 1, 1, 0]
    assert len(post.mails) == 1
    assert [record.__dict__["reason"] for record in caplog.records] == [
        "the mail server answered 451"
    ] * 3
    assert "ada@example.com" not in caplog.text


async def test_what_cannot_be_sent_for_days_is_given_up(jobs, monkeypatch, caplog):
    monkeypatch.setattr(mail_delivery, "LONGEST_WAIT", timedelta(0))
    post = Post()
    post.failures = 1
    await put(jobs)
    with caplog.at_level(logging.ERROR):
        assert [await deliver_some(jobs, post) for _ in range(2)] == [1, 0]
    assert post.mails == []
    assert [record.getMessage() for record in caplog.records] == ["mail given up"]


async def test_kept_mails_are_files_that_a_repetition_overwrites(jobs, tmp_path):
    await put(jobs)
    (mail,) = await outbox.take_mails(jobs, 1)
    letter = Mail("a@b.c", "s", "t", html="<p>t</p>", id=mail.id, written_at=mail.created_at)
    for _ in range(2):
        await Folder(tmp_path / "mail").send(letter)
    (path,) = (tmp_path / "mail").iterdir()
    assert str(mail.id) in path.name
    assert f"Message-ID: <{mail.id}@localhost>" in path.read_text()
    assert "text/html" in path.read_text()


async def test_news_wakes_the_sender_and_silence_does_not_hold_it_up(jobs, monkeypatch):
    post, news = Post(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        monkeypatch.setattr(mail_delivery, "SWEEP_SECONDS", 60)
        sender = group.create_task(deliver(jobs, post, news))
        await asyncio.sleep(0.1)
        await put(jobs, 1)
        monkeypatch.setattr(mail_delivery, "SWEEP_SECONDS", 0.05)
        news.set()
        await asyncio.wait_for(post.got_one.wait(), 10)
        post.got_one.clear()
        await put(jobs, 2)
        await asyncio.wait_for(post.got_one.wait(), 10)
        sender.cancel()


async def test_a_database_that_is_away_is_waited_for(jobs, monkeypatch, caplog):
    monkeypatch.setattr(mail_delivery, "_RETRY_SECONDS", 0.01)
    real, failures = mail_delivery.take_mails, [1, 2]

    async def take(database: Database, most: int):
        if failures:
            failures.pop()
            raise DatabaseUnavailable("away")
        return await real(database, most)

    monkeypatch.setattr(mail_delivery, "take_mails", take)
    post = Post()
    await put(jobs)
    async with asyncio.TaskGroup() as group:
        sender = group.create_task(deliver(jobs, post, asyncio.Event()))
        await asyncio.wait_for(post.got_one.wait(), 10)
        sender.cancel()
    assert [record.getMessage() for record in caplog.records] == ["mails wait", "mails wait"]
