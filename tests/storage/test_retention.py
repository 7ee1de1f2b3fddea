from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from storage import accounts, retention, roles
from storage.database import Database
from storage.errors import DatabaseUnavailable


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
