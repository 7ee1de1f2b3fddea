import asyncio
import uuid

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import ProgrammingError

from storage import roles
from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.identifiers import uuid7
from storage.outbox import LEASE_SECONDS, finish, put_mail, put_off, take_mails


@pytest.fixture
async def sender(database):
    """The database as the jobs process sees it."""
    opened = Database(database.url(roles.JOBS))
    yield opened
    await opened.close()


async def put(database: Database, account_id: uuid.UUID | None, key: str, **values) -> bool:
    mail = {"recipient": "ada@example.com", "subject": "Hello", "text": "Text"} | values
    opened = database.system() if account_id is None else database.account(account_id)
    async with opened as connection:
        return await put_mail(connection, account_id=account_id, key=key, **mail)


async def test_a_mail_is_taken_once_and_forgotten_when_it_was_sent(api, sender, new_account):
    account = await new_account()
    mail_id = uuid7()
    assert await put(api, account.id, "a", html="<p>Text</p>", mail_id=mail_id)
    (mail,) = await take_mails(sender, 10)
    assert (mail.id, mail.recipient, mail.subject, mail.text, mail.html, mail.attempt) == (
        *(mail_id, "ada@example.com", "Hello", "Text", "<p>Text</p>", 1),
    )
    assert "Text" not in repr(mail)
    assert await take_mails(sender, 10) == []
    await finish(sender, mail, was_sent=True)
    assert await take_mails(sender, 10) == []
    assert await put(api, account.id, "a"), "the key is free again"


async def test_one_key_is_one_mail(api, sender, new_account):
    account = await new_account()
    done = await asyncio.gather(*(put(api, account.id, "the same") for _ in range(5)))
    assert sorted(done) == [False, False, False, False, True]
    assert len(await take_mails(sender, 10)) == 1


async def test_a_mail_is_there_only_if_its_transaction_is(api, sender, new_account):
    account = await new_account()

    async def fail() -> None:
        async with api.account(account.id) as connection:
            values = {"recipient": "a@b.c", "subject": "", "text": ""}
            await put_mail(connection, account_id=account.id, key="a", **values)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await take_mails(sender, 10) == []


async def test_a_mail_is_for_the_transactions_account_or_nobodys(api, sender, new_account):
    ada, eve = await new_account(), await new_account()
    values = {"recipient": "a@b.c", "subject": "", "text": ""}
    async with api.account(eve.id) as connection:
        with pytest.raises(ProgrammingError, match="another account's"):
            await put_mail(connection, account_id=ada.id, key="a", **values)
    assert await put(api, None, "receipt")
    assert await put(sender, ada.id, "alert")
    assert len(await take_mails(sender, 10)) == 2


async def test_what_cannot_be_sent_is_due_again_later_and_later(
    api, sender, new_account, administrator
):
    account = await new_account()
    await put(api, account.id, "a")
    pauses: list[int] = []
    for attempt in range(1, 15):
        (mail,) = await take_mails(sender, 10)
        assert mail.attempt == attempt
        await put_off(sender, mail, "busy" * 1000)
        assert await take_mails(sender, 10) == []
        pauses.append(mail.pause_seconds)
        administrator.execute(
            "UPDATE metrion.outbox SET due_at = due_at - make_interval(secs => %s)",
            [mail.pause_seconds],
        )
    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses[-3:] == [600, 600, 600]
    row = administrator.execute("SELECT length(last_error) AS said FROM metrion.outbox").fetchone()
    assert row == {"said": 500}


async def test_the_mail_of_a_sender_that_died_is_taken_by_another(
    api, sender, new_account, administrator
):
    account = await new_account()
    await put(api, account.id, "a")
    (first,) = await take_mails(sender, 10)
    administrator.execute(
        "UPDATE metrion.outbox SET leased_until = leased_until - make_interval(secs => %s)",
        [LEASE_SECONDS],
    )
    (second,) = await take_mails(sender, 10)
    assert (second.id, second.attempt) == (first.id, 2)
    await put_off(sender, first, "the one that was thought dead")
    row = administrator.execute("SELECT leased_until, last_error FROM metrion.outbox").fetchone()
    assert row["leased_until"] is not None
    assert row["last_error"] is None


async def test_two_senders_share_the_work(api, sender, database, new_account):
    account = await new_account()
    for number in range(20):
        await put(api, account.id, f"{number}")
    taken = await asyncio.gather(*(take_mails(sender, 5) for _ in range(5)))
    # one that finds some just being taken by another may get fewer than it asks for
    assert max(len(mails) for mails in taken) == 5
    found = [mail.id for mails in taken for mail in mails]
    assert len(found) == len(set(found)) == 20


async def test_an_accounts_mails_go_with_it(api, sender, new_account, administrator):
    account = await new_account()
    await put(api, account.id, "a")
    await put(api, None, "receipt")
    administrator.execute("DELETE FROM metrion.accounts")
    assert [mail.subject for mail in await take_mails(sender, 10)] == ["Hello"]


async def test_without_a_database_nothing_is_taken(settings_without_database):
    with pytest.raises(DatabaseUnavailable):
        await take_mails(settings_without_database, 1)


@pytest.fixture
async def settings_without_database():

    opened = Database(SecretStr("postgresql://nobody:none@127.0.0.1:1/none"))
    yield opened
    await opened.close()
