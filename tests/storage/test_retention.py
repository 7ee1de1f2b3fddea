import asyncio
import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text

from storage import accounts, logs, retention, roles
from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.export import write_document
from storage.filters import DAY, HOUR, Window


@pytest.fixture
async def jobs(database):
    """The database as the jobs process sees it."""
    opened = Database(database.url(roles.JOBS), pool_size=2)
    yield opened
    await opened.close()


def partitions(database) -> set[str]:
    with psycopg.connect(database.administrator_url.get_secret_value()) as administrator:
        rows = administrator.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent IN ('metrion.request_logs_7'::regclass, "
            "'metrion.request_logs_90'::regclass)"
        ).fetchall()
    return {row[0] for row in rows}


async def test_partitions_are_there_ahead_of_their_day(jobs: Database, database):
    made = await retention.ensure_partitions(jobs)
    assert made > 0
    last = datetime.now(UTC).date() + retention.AHEAD
    assert f"metrion.request_logs_7_{last:%Y%m%d}" in partitions(database)
    assert await retention.ensure_partitions(jobs) == 0


async def test_only_partitions_that_nobody_may_see_are_dropped(jobs: Database, database):
    await retention.ensure_partitions(jobs)
    kept = partitions(database)
    today = datetime.now(UTC).date()
    with psycopg.connect(database.administrator_url.get_secret_value()) as administrator:
        administrator.execute(
            "SELECT metrion.ensure_partitions(%s, %s)",
            [today - timedelta(days=120), today - timedelta(days=100)],
        )
    old = partitions(database) - kept
    assert len(old) >= 21
    dropped = await retention.drop_expired_partitions(jobs)
    assert {f"metrion.{name}" for name in dropped} == old
    assert partitions(database) == kept
    assert await retention.drop_expired_partitions(jobs) == []


async def test_a_reader_that_holds_the_log_is_not_waited_for(jobs: Database, database):
    today = datetime.now(UTC).date()
    with psycopg.connect(database.administrator_url.get_secret_value()) as administrator:
        long_ago = today - timedelta(days=120)
        administrator.execute("SELECT metrion.ensure_partitions(%s, %s)", [long_ago, long_ago])
        administrator.commit()
        administrator.execute("SELECT count(*) FROM metrion.request_logs")
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            await retention.drop_expired_partitions(jobs)


async def test_rows_too_old_for_the_plan_are_deleted_in_chunks(
    jobs: Database, api, writer, new_account, log_row, administrator, monkeypatch
):
    monkeypatch.setattr(retention, "_CHUNK_ROWS", 2)
    account = await new_account("pro")
    now = datetime.now(UTC)
    writer.write(
        [log_row(account.id, now - timedelta(days=age)) for age in (1, 20, 30, 40, 50, 60)]
    )
    assert await retention.delete_expired_rows(jobs) == 0
    async with api.account(account.id) as connection:
        await accounts.set_plan(connection, "free")
    assert await retention.delete_expired_rows(jobs) == 5
    left = administrator.execute("SELECT count(*) FROM metrion.request_logs").fetchone()
    assert left == {"count": 1}


# ---------------------------------------------------------------------------- changes of plan

# Also in the hour in which the log of seven days begins, on either side of its beginning.
AGES = [
    *(timedelta(minutes=minutes) for minutes in (1, 2, 200)),
    *(timedelta(days=7, minutes=minutes) for minutes in (-4000, -50, -11, 9, 10, 47, 3000)),
    *(timedelta(days=days) for days in (20, 30, 59.9, 60, 89, 91)),
]
SHORT, LONG = 6, 15  # how many of them seven days hold, and ninety


async def clean_up(jobs: Database) -> None:
    await retention.drop_expired_partitions(jobs)
    await retention.delete_expired_rows(jobs)


async def visible(api: Database, account, now: datetime) -> int:
    """Return how many rows the account sees, after the total was compared for several ranges."""
    windows = [
        Window.last(30 * DAY, now),
        Window.last(90 * DAY, now),
        Window.between(now - 20 * DAY, now - 3 * DAY),
        Window.between(now - 7 * DAY - 2 * HOUR, now - 6 * DAY),
        Window.between(now - 40 * DAY, now - 10 * DAY),
        None,
    ]
    found = 0
    for window in windows:
        found, cursor, more = 0, None, True
        async with api.account(account.id) as connection:
            while more:
                page = await logs.list_logs(connection, limit=4, cursor=cursor, window=window)
                found, cursor = found + len(page.rows), page.next_cursor
                more = cursor is not None
            assert await logs.count_logs(connection, window=window) == found, window
    async with api.snapshot(account.id) as connection:
        document = b"".join([part async for part in write_document(connection, "eu-west-1")])
    assert len(json.loads(document)["request_logs"]) == found
    return found


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("free clean pro free clean pro", [SHORT] * 6),
        # what is not deleted yet, of any age, does not come back for a while either
        ("free pro clean free pro", [SHORT] * 5),
        ("pro clean free pro clean", [LONG, LONG, SHORT, SHORT, SHORT]),
    ],
)
async def test_the_total_is_of_the_rows_that_there_are_whatever_the_plan_was(
    jobs: Database, api, writer, new_account, log_row, administrator, steps, expected
):
    first, *others = steps.split()
    account, neighbour = await new_account(first), await new_account("pro")
    now = datetime.now(UTC)
    for owner in (account, neighbour):
        writer.write([log_row(owner.id, now - age) for age in AGES])
    found = [await visible(api, account, now)]
    for step in others:
        if step == "clean":
            await clean_up(jobs)
        else:
            async with api.account(account.id) as connection:
                await accounts.set_plan(connection, step)
        found.append(await visible(api, account, now))
    assert found == expected
    assert await visible(api, neighbour, now) == LONG
    # a row that a proxy kept for long, and that would be gone had it come in time
    assert writer.write([log_row(account.id, now - 10 * DAY)]) == 1
    assert await visible(api, account, now) == SHORT
    await clean_up(jobs)
    left = administrator.execute(
        "SELECT count(*), min(retention) FROM metrion.request_logs WHERE account_id = %s",
        [account.id],
    ).fetchone()
    assert left == {"count": SHORT, "min": 90}


async def test_nothing_is_deleted_of_an_account_while_it_is_upgraded(
    jobs: Database, api, writer, new_account, log_row
):
    """Each goes by its own clock: what is deleted meanwhile might have been kept."""
    account = await new_account()
    writer.write([log_row(account.id, datetime.now(UTC) - 20 * DAY)])

    async def upgrade() -> None:
        async with api.account(account.id) as connection:
            await connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
            await accounts.set_plan(connection, "pro")

    async with jobs.system() as deleting:
        assert (await deleting.execute(retention._DELETE, {"chunk": 10})).scalar_one() == 1
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            await upgrade()
        await deleting.rollback()
    async with api.account(account.id) as connection:
        await accounts.set_plan(connection, "pro")
        assert await asyncio.wait_for(retention.delete_expired_rows(jobs), 20) == 0
    assert await retention.delete_expired_rows(jobs) == 1
