import asyncio
import gc
import os
import signal
import subprocess
import sys

import pytest

from scripts import jobs
from scripts.child_environment import base_environment, child_environment
from scripts.jobs import Job, repeat
from storage import roles
from storage.database import Database
from storage.errors import DatabaseUnavailable


def start(database, **changes: str) -> subprocess.Popen[str]:
    environment = child_environment("jobs", database.settings, database.url(roles.JOBS))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "scripts.jobs"],
        env=environment | changes,
        cwd=database.settings.data_dir,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_does_its_jobs_and_ends_when_told_to(database):
    process = start(database)
    said = ""
    while not all(job.name in said for job in jobs.JOBS):
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), rest) == (0, "")


def test_says_why_it_cannot_begin(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "scripts.jobs"],
        env=base_environment() | {"METRION_DATA_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("metrion jobs: the database of")
    assert ended.stderr.count("\n") == 1


async def test_a_job_that_fails_is_tried_again_and_stops_no_other(
    database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jobs, "_FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(jobs, "_LAST_RETRY_SECONDS", 0.02)
    done: list[str] = []
    enough = asyncio.Event()

    async def fail_twice(_: Database) -> None:
        done.append("failing")
        if done.count("failing") <= 2:
            raise DatabaseUnavailable("away")

    async def work(_: Database) -> None:
        done.append("working")
        if done.count("working") == 20:
            enough.set()

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(repeat(Job("failing", fail_twice, 0.01), database)),
            group.create_task(repeat(Job("working", work, 0.01), database)),
        ]
        await enough.wait()
        for task in tasks:
            task.cancel()
    assert done.count("failing") > 3


async def test_a_signal_cancels_what_is_under_way(database, monkeypatch: pytest.MonkeyPatch):
    begun = asyncio.Event()

    async def forever(_: Database) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        working = group.create_task(jobs.work([Job("forever", forever, 1)], database.settings))
        await begun.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await working
    gc.collect()  # closes connections whose log-in was cancelled; a process's end does it otherwise


def test_subscriptions_are_looked_after_where_payments_are_taken(database):
    process = start(
        database,
        METRION_STRIPE_SECRET_KEY="sk_test_of_metrion",
        METRION_STRIPE_WEBHOOK_SECRET="whsec_of_metrion",
        METRION_STRIPE_PRICE_ID="price_pro",
        METRION_STRIPE_API_BASE="http://127.0.0.1:9",
    )
    said = ""
    while "check subscriptions: 0" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGTERM)
    said += process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert "of_metrion" not in said
