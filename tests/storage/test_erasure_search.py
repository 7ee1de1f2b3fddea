import uuid
from collections.abc import AsyncIterator
from email.message import EmailMessage

import pytest

from storage import roles
from storage.accounts import create_account
from storage.codes import issue_code
from storage.database import Database
from storage.erasure import Eraser, NoSubscriptions, request_erasure
from storage.erasure_search import Trace, search_for_erased
from storage.journal import Journal
from storage.outbox import finish, take_mails
from storage.rejected import RejectedRecords

ADA = "Ada@example.com"


@pytest.fixture
async def as_definer(database) -> AsyncIterator[Database]:
    opened = Database(database.administrator_url, act_as=roles.DEFINER, pool_size=1)
    yield opened
    await opened.close()


@pytest.fixture
def search(as_definer, database):
    """A function that searches; gives places → notes of what is left, and of what is worth telling."""

    async def find(subject: str = ADA.lower()) -> tuple[dict[str, str], dict[str, str]]:
        traces: list[Trace] = await search_for_erased(
            as_definer, database.settings, database.keys, subject
        )
        assert all(trace.count for trace in traces)
        left = {trace.place: trace.note for trace in traces if trace.is_left}
        return left, {trace.place: trace.note for trace in traces if not trace.is_left}

    return find


@pytest.fixture
def erase(api, database):
    """A function that erases an account, its receipt included."""

    async def run(account_id: uuid.UUID) -> None:
        as_jobs = Database(database.url(roles.JOBS), pool_size=2)
        async with api.account(account_id) as connection:
            await request_erasure(connection, database.keys, "eu-west-1")
        eraser = Eraser(NoSubscriptions(), database.settings.data_dir / "mail")
        await eraser.carry_on(as_jobs)
        for mail in await take_mails(as_jobs, 10):
            await finish(as_jobs, mail, was_sent=True)
        async with api.account(account_id):
            pass
        await as_jobs.close()

    return run


def keep_mail(database, name: str, recipient: str) -> None:
    folder = database.settings.data_dir / "mail"
    folder.mkdir(exist_ok=True)
    mail = EmailMessage()
    mail["To"] = recipient
    mail.set_content("hello")
    (folder / name).write_bytes(mail.as_bytes())


async def test_nothing_of_somebody_who_never_was(search):
    assert await search() == ({}, {})


async def test_a_living_account_is_found_everywhere(
    api, database, search, writer, log_row, new_account
):
    other = await new_account()
    ada = await create_account(api, database.keys, ADA)
    writer.write([log_row(ada.id, requester=ADA), log_row(other.id, model=f"of {ADA}")])
    async with api.system() as connection:
        await issue_code(connection, database.keys, "sign_in", ADA)
    keep_mail(database, "1.eml", f"Ada <{ADA.upper()}>")
    left, told = await search()
    assert left["accounts"].startswith("an account since ")
    assert left.keys() >= {"request_logs.requester", "usage_days.requester", "mail/1.eml"}
    assert told["request_logs.model"] == "another account uses it, in its own data"
    assert "codes.address" in told
    by_id, _ = await search(str(ada.id))
    assert "accounts" in by_id


async def test_after_an_erasure_only_the_numbers_are_there(
    api, database, search, erase, administrator, writer, log_row
):
    ada = await create_account(api, database.keys, ADA)
    writer.write([log_row(ada.id, requester=ADA)])
    keep_mail(database, "1.eml", ADA)
    await erase(ada.id)
    left, _ = await search()
    assert left["erasures"].startswith("is being erased since ")
    administrator.execute("UPDATE metrion.erasures SET due_at = now()")
    as_jobs = Database(database.url(roles.JOBS), pool_size=2)
    await Eraser(NoSubscriptions(), database.settings.data_dir / "mail").carry_on(as_jobs)
    await as_jobs.close()
    [receipt] = administrator.execute("SELECT id FROM metrion.erasures").fetchall()
    keep_mail(database, f"2-{receipt['id']}.eml", ADA)
    left, told = await search()
    assert left == {}
    assert told.keys() == {"erasures", f"mail/2-{receipt['id']}.eml"}
    assert "only counts are kept" in told["erasures"]
    assert await search(str(ada.id)) == ({}, {})

    await create_account(api, database.keys, ADA)
    left, told = await search()
    assert left == {}
    assert told["accounts"].endswith(": signed up again")


async def test_what_was_forgotten_is_found(
    database, search, administrator, new_account, writer, log_row
):
    """Rows without an account, and its records on a proxy's disk."""
    ada = await new_account()
    writer.write([log_row(ada.id)])
    administrator.execute("DELETE FROM metrion.accounts")
    folder = database.settings.data_dir / "journal"
    journal = Journal(folder)
    journal.append(b"x" * 200_000 + f'{{"account_id":"{ada.id}"}}'.encode())
    journal.append(f'{{"requester":"{ADA}"}}'.encode())
    RejectedRecords(folder / "rejected").keep(f'{{"account_id": "{ada.id}"}}'.encode(), "bad")
    left, _ = await search()
    journal.close()
    [segment] = [path.name for path in folder.glob("*.journal")]
    [rejected] = [path.name for path in (folder / "rejected").iterdir()]
    assert left["request_logs"] == "rows of accounts that do not exist"
    assert left.keys() >= {"usage_days", "usage_hours", f"journal/{segment}"}
    assert left[f"journal/rejected/{rejected}"] == "of an account that does not exist"


async def test_a_receipt_that_waits_is_told(api, database, search, erase, administrator):
    ada = await create_account(api, database.keys, ADA)
    administrator.execute(
        "INSERT INTO metrion.outbox (id, key, recipient, subject, text_body)"
        " VALUES (gen_random_uuid(), 'x', %s, 's', 't')",
        [ADA],
    )
    administrator.execute("DELETE FROM metrion.accounts WHERE id = %s", [ada.id])
    left, _ = await search()
    assert left == {"outbox.recipient": "a mail that waits to be sent"}
