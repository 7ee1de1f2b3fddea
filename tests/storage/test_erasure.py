"""Erasures, from the request to the receipt, whatever happens in between."""

import asyncio
import re
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from storage import erasure, roles
from storage.accounts import create_account, find_account, get_account
from storage.codes import issue_code
from storage.database import Database
from storage.erasure import Eraser, NoSubscriptions, request_erasure
from storage.errors import BillingUnavailable, DatabaseUnavailable, NotFound
from storage.kept_mails import file_name
from storage.keys import set_key
from storage.outbox import finish, put_mail, take_mails
from storage.sessions import create_session, find_session

ADA = "Ada@example.com"
REGION = "eu-west-1"


class Stripe:
    """Cancels subscriptions, or says that it cannot now."""

    def __init__(self) -> None:
        self.cancelled: list[uuid.UUID] = []
        self.failures = 0

    async def cancel_subscription(self, account_id: uuid.UUID) -> None:
        if self.failures:
            self.failures -= 1
            raise BillingUnavailable("Stripe does not answer")
        self.cancelled.append(account_id)


@pytest.fixture
async def as_jobs(database) -> AsyncIterator[Database]:
    opened = Database(database.url(roles.JOBS), pool_size=2)
    yield opened
    await opened.close()


@pytest.fixture
def mail_folder(database) -> Path:
    folder = database.settings.data_dir / "mail"
    folder.mkdir()
    return folder


@pytest.fixture
def stripe() -> Stripe:
    return Stripe()


@pytest.fixture
def eraser(stripe, mail_folder) -> Eraser:
    return Eraser(stripe, mail_folder)


def keep_mail(
    folder: Path, recipient: str, at: datetime | None = None, name: str | None = None
) -> Path:
    mail = EmailMessage()
    mail["To"] = recipient
    mail["Date"] = format_datetime(at or datetime.now(UTC) - timedelta(minutes=1))
    mail.set_content("Your code is 123456")
    path = folder / (name or f"{uuid.uuid4()}.eml")
    path.write_bytes(mail.as_bytes())
    return path


@pytest.fixture
async def ada(api, database, administrator, log_row, writer, mail_folder):
    """An account with something of everything; its old token is `ada.token`."""
    new = await create_account(api, database.keys, ADA, "pro")
    fill(administrator, new.id)
    async with api.account(new.id) as connection:
        await set_key(connection, database.keys, new.id, "openai", "sk-" + "a" * 40)
        await create_session(connection, database.keys, new.id, "a browser")
        await put_mail(
            connection,
            account_id=new.id,
            key="alert:1",
            recipient=ADA,
            subject="An alert",
            text="90 %",
        )
    async with api.system() as connection:
        await issue_code(connection, database.keys, "sign_in", ADA)
        await issue_code(connection, database.keys, "deletion", ADA)
    # the code of a first sign-in belongs to nobody
    administrator.execute("UPDATE metrion.codes SET account_id = NULL WHERE purpose = 'sign_in'")
    now = datetime.now(UTC)
    moments = [now - timedelta(days=age) for age in (0, 0, 1, 20)]
    assert writer.write([log_row(new.id, at, requester=ADA) for at in moments]) == 4
    keep_mail(mail_folder, ADA.upper())
    keep_mail(mail_folder, f"Ada <{ADA}>")
    return new


def fill(administrator, account_id: uuid.UUID) -> None:
    """Rows of the account in every table that the erasure has to know of."""
    rule = uuid.uuid4()
    administrator.execute(
        "INSERT INTO metrion.alert_rules (id, account_id, name, type, unit, threshold, providers,"
        " period, spent_before) VALUES (%s, %s, %s, 'budget', 'usd', 5, '{}', 'month', '{}')",
        [rule, account_id, ADA],
    )
    administrator.execute(
        "INSERT INTO metrion.alert_mails (id, account_id, rule_id, level, at_least, threshold,"
        " unit, created_at) VALUES (%s, %s, %s, 'test', false, 5, 'usd', now())",
        [rule, account_id, rule],
    )
    administrator.execute(
        "INSERT INTO metrion.response_cache (account_id, id, digest, sealed, expires_at)"
        " VALUES (%s, %s, %s, 'x', now() + '1 d')",
        [account_id, rule, b"x" * 32],
    )
    administrator.execute(
        "INSERT INTO metrion.billing (account_id, customer_id) VALUES (%s, %s)",
        [account_id, f"cus_{account_id}"],
    )
    administrator.execute(
        "INSERT INTO metrion.billing_events (account_id, id) VALUES (%s, 'evt_1')", [account_id]
    )


def tables(administrator) -> list[str]:
    """All tables with account data, from the catalogue; partitions are read through their table."""
    rows = administrator.execute("""
        SELECT c.relname FROM pg_class AS c
        WHERE c.relnamespace = 'metrion'::regnamespace AND c.relkind IN ('r', 'p')
          AND NOT c.relispartition AND c.relname NOT IN ('alembic_version', 'erasures')
        ORDER BY 1
    """).fetchall()
    return [row["relname"] for row in rows]


def rows_with(administrator, needle: str, places: list[str]) -> dict[str, int]:
    """Tables → rows that have it anywhere in them, in any column that can be written as text."""
    found: dict[str, int] = {}
    for table in places:
        query = sql.SQL(
            "SELECT count(*) AS hits FROM {} AS t WHERE strpos(lower(to_jsonb(t)::text), lower(%s)) > 0"
        ).format(sql.Identifier("metrion", table))
        if hits := administrator.execute(query, [needle]).fetchone()["hits"]:
            found[table] = hits
    return found


def state(administrator, erasure_id: uuid.UUID) -> dict:
    return administrator.execute(
        "SELECT * FROM metrion.erasures WHERE id = %s", [erasure_id]
    ).fetchone()


async def ask(api: Database, database, account_id: uuid.UUID) -> uuid.UUID:
    async with api.account(account_id) as connection:
        return await request_erasure(connection, database.keys, REGION)


async def send_receipt(as_jobs: Database) -> str:
    """What the outbox's sender does; returns the mail's text."""
    [mail] = await take_mails(as_jobs, 5)
    await finish(as_jobs, mail, was_sent=True)
    return mail.text


# ---------------------------------------------------------------------------- the request


async def test_the_test_account_has_something_everywhere(administrator, ada):
    """Otherwise the tests below would show nothing of a new table."""
    everywhere = set(tables(administrator))
    assert set(rows_with(administrator, str(ada.id), tables(administrator))) == everywhere


async def test_a_request_shuts_the_account_at_once_and_deletes_nothing_else(
    api, lookups, database, administrator, ada
):
    before = rows_with(administrator, str(ada.id), tables(administrator))
    async with api.account(ada.id) as connection:
        secret = (await create_session(connection, database.keys, ada.id, None)).secret
    erasure_id = await ask(api, database, ada.id)
    assert administrator.execute(
        "SELECT (SELECT count(*) FROM metrion.tokens) + (SELECT count(*) FROM metrion.sessions)"
        " + (SELECT count(*) FROM metrion.codes) AS live"
    ).fetchone() == {"live": 0}
    assert await find_session(lookups, database.keys, secret) is None
    async with api.system() as connection:
        assert await find_account(connection, ADA) is None
    after = rows_with(administrator, str(ada.id), tables(administrator))
    assert before.items() - after.items() == {("tokens", 1), ("sessions", 1), ("codes", 1)}
    noted = state(administrator, erasure_id)
    assert (noted["state"], noted["email"], noted["region"]) == ("requested", ADA, REGION)
    assert noted["deleted"] == {"tokens": 1, "sessions": 2, "codes": 2}


async def test_asking_twice_is_asking_once(api, database, ada):
    assert await ask(api, database, ada.id) == await ask(api, database, ada.id)


async def test_there_must_be_an_account(api, database):
    with pytest.raises(NotFound):
        await ask(api, database, uuid.uuid4())


async def test_nobody_signs_in_to_an_account_that_is_being_erased(api, database, ada):
    await ask(api, database, ada.id)
    with pytest.raises(NotFound):
        async with api.account(ada.id) as connection:
            await create_session(connection, database.keys, ada.id, None)


async def test_a_session_that_is_being_made_meanwhile_dies_too(api, database, administrator, ada):
    """Its code was right, its account was found; then the erasure is asked for."""
    async with api.account(ada.id) as connection:
        await create_session(connection, database.keys, ada.id, None)
        asking = asyncio.ensure_future(ask(api, database, ada.id))
        await asyncio.sleep(0.3)
        assert not asking.done()
    await asking
    assert rows_with(administrator, str(ada.id), ["sessions"]) == {}


async def test_a_session_that_comes_while_the_request_is_committed_is_refused(api, database, ada):
    async def sign_in() -> None:
        async with api.account(ada.id) as connection:
            await create_session(connection, database.keys, ada.id, None)

    async with api.account(ada.id) as connection:
        await request_erasure(connection, database.keys, REGION)
        signing_in = asyncio.ensure_future(sign_in())
        await asyncio.sleep(0.3)
        assert not signing_in.done()
    with pytest.raises(NotFound):
        await signing_in


async def test_nothing_is_mailed_about_an_account_that_is_being_erased(
    api, database, administrator, ada, new_account
):
    other = await new_account()
    await ask(api, database, ada.id)
    for account in (ada, other):
        async with api.account(account.id) as connection:
            is_new = await put_mail(
                connection,
                account_id=account.id,
                key=f"alert:{account.id}",
                recipient="x@erased.invalid",
                subject="An alert",
                text="100 %",
            )
        assert is_new == (account is other)


async def test_the_address_can_sign_up_again_while_the_old_account_is_being_erased(
    api, database, administrator, as_jobs, eraser, mail_folder, ada
):
    await ask(api, database, ada.id)
    again = await create_account(api, database.keys, ADA)
    code = keep_mail(mail_folder, ADA, datetime.now(UTC) + timedelta(seconds=1))
    await eraser.carry_on(as_jobs)
    assert rows_with(administrator, str(ada.id), tables(administrator)) == {}
    async with api.account(again.id) as connection:
        assert (await get_account(connection)).email == ADA
    assert list(mail_folder.iterdir()) == [code]


async def test_mails_of_the_second_of_the_request_are_told_apart(
    api, administrator, database, as_jobs, eraser, mail_folder, ada
):
    """And the receipt stays, even if a clock was set back."""
    erasure_id = await ask(api, database, ada.id)
    requested_at = state(administrator, erasure_id)["requested_at"].astimezone(UTC)
    later = requested_at + timedelta(microseconds=1)
    earlier = requested_at - timedelta(seconds=1)
    keep_mail(mail_folder, ADA, requested_at, file_name(requested_at, "code"))
    code = keep_mail(mail_folder, ADA, later, file_name(later, "code"))
    receipt = keep_mail(mail_folder, ADA, earlier, file_name(earlier, str(erasure_id)))
    await eraser.carry_on(as_jobs)
    await send_receipt(as_jobs)
    administrator.execute("UPDATE metrion.erasures SET due_at = now()")
    await eraser.carry_on(as_jobs)
    assert state(administrator, erasure_id)["state"] == "done"
    assert set(mail_folder.iterdir()) == {code, receipt}


# ---------------------------------------------------------------------------- all of it


async def test_everything_goes_and_the_receipt_says_so(
    api,
    database,
    administrator,
    as_jobs,
    eraser,
    stripe,
    mail_folder,
    ada,
    new_account,
    log_row,
    writer,
):
    other = await new_account(email="bob@example.com")
    writer.write([log_row(other.id)])
    keep_mail(mail_folder, "bob@example.com")
    others = rows_with(administrator, str(other.id), tables(administrator))
    erasure_id = await ask(api, database, ada.id)
    assert await eraser.carry_on(as_jobs) == 1
    assert stripe.cancelled == [ada.id]

    # the receipt waits; it and whoever looks after it are all that has the address
    assert rows_with(administrator, str(ada.id), tables(administrator)) == {}
    assert rows_with(administrator, ADA, tables(administrator)) == {"outbox": 1}
    late = keep_mail(mail_folder, ADA)  # it was just being written
    assert state(administrator, erasure_id)["state"] == "receipt"
    assert await eraser.carry_on(as_jobs) == 0
    text = await send_receipt(as_jobs)
    administrator.execute("UPDATE metrion.erasures SET due_at = now()")
    assert await eraser.carry_on(as_jobs) == 1
    done = state(administrator, erasure_id)
    assert (done["state"], done["account_id"], done["email"]) == ("done", None, None)
    assert not late.exists()
    assert rows_with(administrator, ADA, [*tables(administrator), "erasures"]) == {}
    assert rows_with(administrator, str(ada.id), [*tables(administrator), "erasures"]) == {}
    assert await eraser.carry_on(as_jobs) == 0

    assert done["deleted"]["request_logs"] == 4
    assert done["deleted"]["mails"] == 2
    assert set(done["deleted"]) == {*tables(administrator), "mails"}
    assert str(erasure_id) in text
    assert REGION in text
    assert re.search(r"^ +4  requests in the log$", text, re.MULTILINE)
    assert re.search(r"^ +2  mails that were kept$", text, re.MULTILINE)
    assert f"{done['purged_at']:%Y-%m-%d %H:%M:%S} UTC" in text

    assert rows_with(administrator, str(other.id), tables(administrator)) == others
    assert len(list(mail_folder.iterdir())) == 1


async def test_rows_go_in_chunks_and_are_counted(
    api, database, administrator, as_jobs, eraser, ada, log_row, writer, monkeypatch
):
    monkeypatch.setattr(erasure, "CHUNK_ROWS", 30)
    now = datetime.now(UTC)
    rows = [log_row(ada.id, now - timedelta(minutes=20 * n), model=f"m{n}") for n in range(200)]
    writer.write(rows)
    in_days = rows_with(administrator, str(ada.id), ["usage_days"])["usage_days"]
    erasure_id = await ask(api, database, ada.id)
    await eraser.carry_on(as_jobs)
    deleted = state(administrator, erasure_id)["deleted"]
    assert (deleted["request_logs"], deleted["usage_days"]) == (204, in_days)


async def test_others_write_while_rows_go(
    api, database, as_jobs, eraser, ada, log_row, writer, new_account, monkeypatch
):
    """Also for the account itself: what comes before its end goes too, what comes later is dropped."""
    monkeypatch.setattr(erasure, "CHUNK_ROWS", 50)
    other = await new_account()
    writer.write([log_row(ada.id) for _ in range(100)])
    await ask(api, database, ada.id)
    carrying = asyncio.ensure_future(eraser.carry_on(as_jobs))
    written = 0
    while not carrying.done():
        rows = [log_row(other.id), log_row(ada.id)]
        written += 1
        await asyncio.to_thread(writer.write, rows)
    assert written > 3
    writer.write([log_row(ada.id)])
    assert writer.gone >= 1
    with psycopg.connect(database.administrator_url.get_secret_value()) as connection:
        left = connection.execute(
            "SELECT account_id, count(*) FROM metrion.request_logs GROUP BY 1"
        ).fetchall()
    assert left == [(other.id, written)]


async def test_nothing_is_deleted_before_the_subscription_is_cancelled(
    api, database, administrator, as_jobs, eraser, stripe, ada
):
    stripe.failures = 2
    erasure_id = await ask(api, database, ada.id)
    before = rows_with(administrator, str(ada.id), tables(administrator))
    for attempt in (1, 2):
        assert await eraser.carry_on(as_jobs) == 1
        assert await eraser.carry_on(as_jobs) == 0  # not due
        waiting = state(administrator, erasure_id)
        assert (waiting["state"], waiting["failures"]) == ("requested", attempt)
        assert waiting["last_error"] == "Stripe does not answer"
        seconds = (waiting["due_at"] - datetime.now(UTC)).total_seconds()
        assert 2**attempt - 2 < seconds <= 2**attempt
        assert rows_with(administrator, str(ada.id), tables(administrator)) == before
        administrator.execute("UPDATE metrion.erasures SET due_at = now()")
    await eraser.carry_on(as_jobs)
    assert stripe.cancelled == [ada.id]
    assert rows_with(administrator, str(ada.id), tables(administrator)) == {}
    assert state(administrator, erasure_id)["failures"] == 0


async def test_the_database_itself_keeps_the_order(api, database, jobs, administrator, ada):
    erasure_id = await ask(api, database, ada.id)
    for place in ("request_logs", "tokens", "provider_keys"):
        purge = "SELECT metrion.purge_chunk(%s, %s, 100)"
        assert jobs.execute(purge, [erasure_id, place]).fetchone() == (0,)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        jobs.execute("SELECT metrion.purge_chunk(%s, 'accounts', 100)", [erasure_id])
    jobs.execute("SELECT metrion.finish_purge(%s)", [erasure_id])
    assert rows_with(administrator, str(ada.id), ["accounts"]) == {"accounts": 1}
    for step in (("requested", "purged"), ("requested", "done"), ("cancelled", "receipt")):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            jobs.execute("SELECT metrion.reach_erasure_state(%s, %s, %s)", [erasure_id, *step])


async def test_one_that_fails_holds_up_no_other(
    api, database, administrator, as_jobs, mail_folder, ada, new_account
):
    class Unlucky(NoSubscriptions):
        async def cancel_subscription(self, account_id: uuid.UUID) -> None:
            if account_id == ada.id:
                raise RuntimeError("a defect, with sk-secret in it")

    other = await new_account()
    first = await ask(api, database, ada.id)
    second = await ask(api, database, other.id)
    assert await Eraser(Unlucky(), mail_folder).carry_on(as_jobs) == 2
    assert state(administrator, first)["last_error"] == "RuntimeError"
    assert state(administrator, second)["state"] == "receipt"


async def test_a_step_that_takes_long_keeps_its_lock(
    api, database, administrator, as_jobs, mail_folder, ada, jobs
):
    """Whoever holds it asks nothing meanwhile, and servers end transactions that are idle."""
    name = administrator.info.dbname
    administrator.execute(
        sql.SQL("ALTER DATABASE {} SET idle_in_transaction_session_timeout = '2s'").format(
            sql.Identifier(name)
        )
    )
    erasure_id = await ask(api, database, ada.id)
    claimed: list[object] = []

    class SlowStripe(Stripe):
        async def cancel_subscription(self, account_id: uuid.UUID) -> None:
            await asyncio.sleep(2.5)
            claimed.extend(jobs.execute("SELECT * FROM metrion.claim_erasure(NULL)"))

    assert await Eraser(SlowStripe(), mail_folder).erase(as_jobs, erasure_id)
    assert claimed == []
    [erasure] = administrator.execute("SELECT state FROM metrion.erasures").fetchall()
    assert erasure["state"] == "receipt"


async def test_one_process_at_a_time(api, database, as_jobs, mail_folder, ada, administrator):
    begun, go_on = asyncio.Event(), asyncio.Event()
    calls: list[uuid.UUID] = []

    class Slow(NoSubscriptions):
        async def cancel_subscription(self, account_id: uuid.UUID) -> None:
            calls.append(account_id)
            begun.set()
            await go_on.wait()

    erasure_id = await ask(api, database, ada.id)
    working = asyncio.ensure_future(Eraser(Slow(), mail_folder).carry_on(as_jobs))
    await begun.wait()
    another = Database(database.url(roles.JOBS), pool_size=2)
    try:
        assert await Eraser(Slow(), mail_folder).carry_on(another) == 0
        assert not await Eraser(Slow(), mail_folder).erase(another, erasure_id)
    finally:
        await another.close()
    go_on.set()
    await working
    assert calls == [ada.id]


async def test_erase_does_not_wait_until_one_is_due(
    api, database, as_jobs, eraser, stripe, ada, administrator
):
    stripe.failures = 1
    erasure_id = await ask(api, database, ada.id)
    assert not await eraser.erase(as_jobs, erasure_id)
    assert await eraser.erase(as_jobs, erasure_id)
    assert state(administrator, erasure_id)["state"] == "receipt"


async def test_without_a_database_it_is_for_later(database, mail_folder):
    away = Database(database.url(roles.JOBS).__class__("postgresql://metrion_jobs:x@127.0.0.1:1/x"))
    with pytest.raises(DatabaseUnavailable):
        await Eraser(NoSubscriptions(), mail_folder).carry_on(away)
    await away.close()


async def test_in_time_the_numbers_and_a_kept_receipt_go_too(
    api, database, administrator, as_jobs, eraser, mail_folder, ada
):
    erasure_id = await ask(api, database, ada.id)
    await eraser.carry_on(as_jobs)
    await send_receipt(as_jobs)
    receipt = mail_folder / f"20260101T000000.000000Z-{erasure_id}.eml"
    receipt.write_text(f"To: {ADA}\n\nYour account is deleted")
    administrator.execute("UPDATE metrion.erasures SET due_at = now()")
    await eraser.carry_on(as_jobs)
    assert receipt.exists()
    administrator.execute("UPDATE metrion.erasures SET done_at = now() - interval '91 days'")
    await eraser.carry_on(as_jobs)
    assert state(administrator, erasure_id) is None
    assert list(mail_folder.iterdir()) == []


# ---------------------------------------------------------------------------- kill -9

# A child after the other goes on with the erasure and dies, before or after the number-th thing
# that lasts: a commit, a call of Stripe, the deleting of files.  In each state the number begins
# with 1 and goes up, until there is no such thing any more and a child lives.  What Stripe was told
# is in a file, as it would be at Stripe: what is cancelled already is not cancelled again.
DIES = """
import asyncio, os, pathlib, psycopg, signal, sys, uuid
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection
from storage import erasure
from storage.database import Database
from storage.erasure import Eraser

url, folder, stripe, erasure_id, when = sys.argv[1:]
erasure.CHUNK_ROWS = 20
dies_at = lasting = 0

def counted(work):
    async def wrapped(*arguments):
        global lasting
        lasting += 1
        mine = lasting == dies_at
        if mine and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = await work(*arguments)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

class Stripe:
    @counted
    async def cancel_subscription(self, account_id):
        file = pathlib.Path(stripe)
        if not file.exists():
            with file.open("a") as told:
                told.write(f"{account_id}\\n")

AsyncConnection.commit = counted(AsyncConnection.commit)
erasure.delete_mails = counted(erasure.delete_mails)

async def erase():
    database = Database(SecretStr(url), pool_size=2)
    eraser = Eraser(Stripe(), pathlib.Path(folder))
    for _ in range(200):  # the lock of a child that died may last a moment longer than the child
        if await eraser.erase(database, uuid.UUID(erasure_id)):
            return
        await asyncio.sleep(0.02)

def state():
    with psycopg.connect(url) as connection:
        claim = "SELECT state FROM metrion.claim_erasure(%s)"
        return (connection.execute(claim, [erasure_id]).fetchone() or ["in use"])[0]

last = None
while True:
    now = state()
    dies_at, last = dies_at + 1 if now == last else 1, now
    child = os.fork()
    if not child:
        asyncio.run(erase())
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(now, os.WTERMSIG(status), flush=True)
    if not os.WIFSIGNALED(status):
        break
"""


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_every_step_it_is_gone_on_with(
    api, database, administrator, as_jobs, mail_folder, ada, log_row, writer, tmp_path, when
):
    writer.write([log_row(ada.id) for _ in range(40)])
    erasure_id = await ask(api, database, ada.id)
    stripe = tmp_path / "stripe.txt"
    ended = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-P", "-c", DIES, database.url(roles.JOBS).get_secret_value()),
            *(str(mail_folder), str(stripe), str(erasure_id), when),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    *killed, last = [line.rsplit(maxsplit=1) for line in ended.stdout.splitlines()]
    assert {number for _, number in killed} == {str(int(signal.SIGKILL))}
    assert last == ["receipt", "0"], ended.stderr
    counts = Counter(name for name, _ in killed)
    # the tables one by one, and what else lasts in a state
    assert counts["cancelled"] > len(tables(administrator))
    assert min(counts[name] for name in ("requested", "purged", "receipt")) >= 2

    assert stripe.read_text() == f"{ada.id}\n"
    assert rows_with(administrator, str(ada.id), tables(administrator)) == {}
    text = await send_receipt(as_jobs)
    assert re.search(r"^ +44  requests in the log$", text, re.MULTILINE)
    assert re.search(r"^ +2  mails that were kept$", text, re.MULTILINE)
    assert list(mail_folder.iterdir()) == []
