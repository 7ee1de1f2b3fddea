"""Rows that are measured arrive."""

import asyncio

import psycopg

from scripts.benchmarks.rows import measure_rows
from storage import roles
from storage.accounts import create_account
from storage.database import Database


async def test_all_rows_arrive_and_are_timed(database, tmp_path):
    api = Database(database.url(roles.API))
    account = await create_account(api, database.keys, "a@example.com", "pro")
    await api.close()
    with psycopg.connect(
        database.administrator_url.get_secret_value(), autocommit=True
    ) as administrator:
        pid = administrator.info.backend_pid
        figures = await asyncio.to_thread(
            measure_rows, database.settings, account.id, pid, tmp_path, 300
        )
        found = administrator.execute("SELECT count(*) FROM metrion.request_logs").fetchone()
    assert found == (300,)
    assert figures.rows == 300
    assert min(figures.record_us, figures.rows_per_second, figures.recorder_us) > 0
    assert not list(tmp_path.glob("rows/*.journal"))
