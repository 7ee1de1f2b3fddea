import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from psycopg.rows import dict_row
from pydantic import SecretStr

from addons.recorder import (
    BATCH_ROWS,
    BEHIND_ROWS,
    GROUP_SECONDS,
    STEADY_ROWS,
    STEADY_SECONDS,
    Recorder,
)
from storage import migrate, roles
from storage.database_url import service_url
from storage.embedded import EmbeddedPostgres
from storage.identifiers import uuid7
from storage.ingest import LogWriter
from storage.journal import Journal
from storage.pricing import PriceBook, TokenUsage
from storage.settings import Settings

PATIENCE_SECONDS = 30.0
ONE_CALL = TokenUsage(2006, 1920, None, 300, 256, "default")
ONE_COST = Decimal(86 * 125 + 1920 * Decimal("12.5") + 300 * 1000) / 100 / 1_000_000


def eventually(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def row(account_id: uuid.UUID, **changes: object) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "id": str(uuid7(now.timestamp())),
        "account_id": str(account_id),
        "created_at": now.isoformat(),
        "provider": "openai",
        "endpoint": "chat/completions",
        "model": "gpt-5-2025-08-07",
        "requester": None,
        "mode": "stored",
        "status": 200,
        "outcome": "ok",
        "streamed": False,
        "cached": False,
        "usage": ONE_CALL,
        "latency_ms": 250.5,
        "ttfb_ms": 80.25,
        "overhead_ms": 0.75,
        "error": None,
        "left_out": 0,
    } | changes


@pytest.fixture
def administrator(database) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(
        database.administrator_url.get_secret_value(), autocommit=True, row_factory=dict_row
    ) as connection:
        yield connection


@pytest.fixture
def account_id(administrator) -> uuid.UUID:
    made = uuid7()
    administrator.execute(
        "INSERT INTO metrion.accounts (id, email, plan) VALUES (%s, 'a@example.com', 'pro')", [made]
    )
    return made


@pytest.fixture
def journal_folder(tmp_path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def recorder(database, journal_folder) -> Iterator[Recorder]:
    made = Recorder(Journal(journal_folder), database.url(roles.PROXY), PriceBook())
    made.start()
    yield made
    made.close(10)


def rows_of(connection) -> list[dict[str, Any]]:
    return connection.execute("SELECT * FROM metrion.request_logs ORDER BY id").fetchall()


def count(connection) -> int:
    return connection.execute("SELECT count(*) FROM metrion.request_logs").fetchone()["count"]


def check_sums(connection) -> None:
    """The daily and hourly records are the sums of the rows."""
    rows = rows_of(connection)
    for table in ("usage_days", "usage_hours"):
        sums = connection.execute(
            f"SELECT sum(requests) AS requests, sum(total_tokens) AS total_tokens,"
            f" sum(cost_usd) AS cost_usd, sum(unpriced) AS unpriced,"
            f" sum(unreported) AS unreported FROM metrion.{table}"
        ).fetchone()
        assert sums == {
            "requests": len(rows),
            "total_tokens": sum(r["total_tokens"] or 0 for r in rows),
            "cost_usd": sum(r["cost_usd"] or 0 for r in rows),
            "unpriced": sum(r["total_tokens"] is not None and r["cost_usd"] is None for r in rows),
            "unreported": sum(r["total_tokens"] is None and r["outcome"] == "ok" for r in rows),
        }


def test_a_row_arrives_with_tokens_and_cost(recorder, administrator, account_id, caplog):
    sent = row(account_id, requester="ann", left_out=3, error="\x00odd \udc80")
    recorder.record(sent)
    eventually(lambda: count(administrator) == 1)
    [found] = rows_of(administrator)
    assert (found["input_tokens"], found["cache_read_tokens"]) == (2006, 1920)
    assert (found["cache_write_tokens"], found["output_tokens"]) == (None, 300)
    assert (found["reasoning_tokens"], found["total_tokens"]) == (256, 2306)
    assert found["cost_usd"] == ONE_COST
    assert found["price_source"].startswith("genai-prices ")
    assert str(found["id"]) == sent["id"]
    assert found["created_at"].isoformat() == sent["created_at"]
    for name in ("requester", "status", "latency_ms", "overhead_ms", "left_out", "mode"):
        assert found[name] == sent[name]
    check_sums(administrator)
    assert not caplog.records


def test_zero_not_reported_and_not_known_stay_apart(recorder, administrator, account_id):
    for changes in (
        {"requester": "cut off", "usage": None},
        {"requester": "new model", "model": "gpt-of-the-future"},
        {"requester": "no model", "usage": TokenUsage(0, 0, 0, 0, 0), "model": None},
        {"requester": "cached", "usage": None, "cached": True},
        {"requester": "refused", "usage": None, "outcome": "refused", "status": 429},
        {"requester": "half", "usage": TokenUsage(input_tokens=7)},
    ):
        recorder.record(row(account_id, **changes))
    eventually(lambda: count(administrator) == 6)
    found = {
        each["requester"]: (each["input_tokens"], each["total_tokens"], each["cost_usd"])
        for each in rows_of(administrator)
    }
    assert found == {
        "cut off": (None, None, None),
        "new model": (2006, 2306, None),
        "no model": (0, 0, 0),
        "cached": (0, 0, 0),
        "refused": (None, None, None),
        "half": (7, None, None),
    }
    eventually(lambda: recorder.counts.written == 6)
    assert (recorder.counts.unpriced, recorder.counts.unreported) == (1, 2)
    check_sums(administrator)


def test_what_a_cached_answer_saved_is_what_its_original_used(recorder, administrator, account_id):
    spent = row(account_id)["usage"].to_json()
    for requester, changes in {
        "known": {"usage": spent},
        "free": {"usage": {"input_tokens": 0, "output_tokens": 0}, "model": None},
        "not said": {"usage": None},
        "unpriced": {"usage": spent, "model": "gpt-of-the-future"},
        "newer": {"usage": {**spent, "tokens_of_tomorrow": 1}},
    }.items():
        recorder.record(row(account_id, requester=requester, cached=True, **changes))
    recorder.record(row(account_id, requester="asked"))
    eventually(lambda: count(administrator) == 6)
    found = {each["requester"]: each for each in rows_of(administrator)}
    assert {name: each["saved_usd"] for name, each in found.items()} == {
        "known": ONE_COST,
        "free": 0,
        "not said": None,
        "unpriced": None,
        "newer": None,
        "asked": None,
    }
    for name, each in found.items():
        if name != "asked":
            assert (each["total_tokens"], each["cost_usd"]) == (0, 0), name
    eventually(lambda: recorder.counts.written == 6)
    assert (recorder.counts.unpriced, recorder.counts.unreported) == (0, 0)
    check_sums(administrator)


def test_many_rows_go_in_batches(recorder, administrator, account_id):
    for _ in range(1500):
        recorder.record(row(account_id))
    eventually(lambda: count(administrator) == 1500)
    eventually(lambda: recorder.counts.written == 1500)
    assert recorder.counts.recorded == 1500
    assert recorder.counts.batches < 50
    check_sums(administrator)


def test_steady_rows_go_in_fewer_batches(recorder, administrator, account_id):
    begun, sent = time.monotonic(), 0
    while time.monotonic() - begun < 6 * STEADY_SECONDS:
        for _ in range(STEADY_ROWS):
            recorder.record(row(account_id))
        sent += STEADY_ROWS
        time.sleep(GROUP_SECONDS / 4)
    eventually(lambda: recorder.counts.written == sent)
    # one after each pause, and some at the ends; with short pauses it would be 15
    assert recorder.counts.batches <= (time.monotonic() - begun) / STEADY_SECONDS + 4


def test_rows_that_have_piled_up_do_not_wait_for_more(
    database, administrator, account_id, tmp_path
):
    asked: list[float | None] = []

    class Pauses(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            asked.append(timeout)
            return super().wait(timeout)

    number = 10 * BEHIND_ROWS
    behind = Recorder(
        Journal(tmp_path / "behind"), service_url(database.settings, roles.PROXY), PriceBook()
    )
    behind._closing = Pauses()
    for _ in range(number):
        behind.record(row(account_id))
    behind.start()
    eventually(lambda: count(administrator) == number)
    behind.close(10)
    assert behind.counts.batches >= 4
    assert asked.count(STEADY_SECONDS) <= 2  # with less than that left, and with nothing


def test_close_writes_what_is_there_and_leaves_no_files(
    database, administrator, account_id, journal_folder
):
    recorder = Recorder(Journal(journal_folder), database.url(roles.PROXY), PriceBook())
    recorder.start()
    for _ in range(BATCH_ROWS + 7):
        recorder.record(row(account_id))
    recorder.close(30)
    assert count(administrator) == BATCH_ROWS + 7
    assert not list(journal_folder.glob("*.journal"))


def allow_connections(database, name: str, answer: str) -> None:
    server = database.administrator_url.get_secret_value().replace(f"/{name}", "/postgres")
    with psycopg.connect(server, autocommit=True) as elsewhere:
        elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {answer}')


def away(connection, database) -> None:
    """Nobody gets into the database any more, and who is in is thrown out."""
    name = connection.info.dbname
    allow_connections(database, name, "false")
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_backend_pid()",
        [name],
    )


def back(connection, database) -> None:
    allow_connections(database, connection.info.dbname, "true")


def test_an_hour_without_a_database(recorder, database, administrator, account_id, caplog):
    recorder.record(row(account_id))
    eventually(lambda: recorder.counts.written == 1)
    away(administrator, database)
    start = datetime.now(UTC) - timedelta(hours=1)
    for second in range(3600):
        moment = start + timedelta(seconds=second)
        identifier = str(uuid7(moment.timestamp()))
        recorder.record(row(account_id, id=identifier, created_at=moment.isoformat()))
    eventually(lambda: recorder.counts.failures >= 2)
    assert recorder.counts.recorded == 3601
    assert recorder.counts.written == 1
    back(administrator, database)
    eventually(lambda: recorder.counts.written == 3601)
    assert count(administrator) == 3601
    assert recorder.counts.rejected == 0
    check_sums(administrator)
    eventually(lambda: "Rows are written again" in caplog.text)


def test_closed_without_a_database_it_keeps_its_rows_for_the_next(
    database, administrator, account_id, journal_folder
):
    url = database.url(roles.PROXY)
    away(administrator, database)
    recorder = Recorder(Journal(journal_folder), url, PriceBook())
    recorder.start()
    for _ in range(10):
        recorder.record(row(account_id))
    started = time.monotonic()
    recorder.close(20)
    assert time.monotonic() - started < 15  # it does not try until the very end
    recorder.record(row(account_id))  # of a request that ended after all
    back(administrator, database)
    os.close(recorder._journal._segments[0].descriptor)  # as the end of the process does
    following = Recorder(Journal(journal_folder), url, PriceBook())
    following.start()
    eventually(lambda: following.counts.written == 11)
    following.close(10)
    assert count(administrator) == 11
    check_sums(administrator)


def test_a_hanging_database_does_not_hold_up_the_end(
    database, administrator, account_id, journal_folder, caplog
):
    recorder = Recorder(Journal(journal_folder), database.url(roles.PROXY), PriceBook())
    recorder.start()
    with psycopg.connect(database.administrator_url.get_secret_value()) as other:
        other.execute("SELECT metrion.lock_log()")
        recorder.record(row(account_id))
        time.sleep(0.3)
        started = time.monotonic()
        recorder.close(0.2)
        assert time.monotonic() - started < 10
        assert "rows stay in the journal" in caplog.text
    eventually(lambda: count(administrator) == 1)
    for thread in recorder._threads:
        thread.join(PATIENCE_SECONDS)
    assert not list(journal_folder.glob("*.journal"))


def test_without_the_right_to_write_rows_wait(
    recorder, administrator, account_id, journal_folder, caplog
):
    administrator.execute("REVOKE EXECUTE ON FUNCTION metrion.ingest(jsonb) FROM metrion_proxy")
    recorder.record(row(account_id))
    eventually(lambda: recorder.counts.failures >= 1)
    administrator.execute("GRANT EXECUTE ON FUNCTION metrion.ingest(jsonb) TO metrion_proxy")
    eventually(lambda: count(administrator) == 1)
    assert recorder.counts.rejected == 0
    assert "permission denied" in caplog.text


def test_rows_of_an_account_that_was_erased_meanwhile_do_not_bring_it_back(
    recorder, administrator, account_id
):
    recorder.record(row(account_id))
    eventually(lambda: count(administrator) == 1)
    administrator.execute("DELETE FROM metrion.request_logs")
    administrator.execute("DELETE FROM metrion.accounts")  # what an erasure does besides
    for _ in range(3):
        recorder.record(row(account_id))
    eventually(lambda: recorder._writer.gone == 3)
    assert count(administrator) == 0
    assert administrator.execute("SELECT count(*) FROM metrion.accounts").fetchone() == {"count": 0}
    sums = administrator.execute("SELECT sum(requests) AS requests FROM metrion.usage_days")
    assert sums.fetchone() == {"requests": 1}
    eventually(lambda: recorder._journal.queued == 0)


def test_of_an_erased_account_nothing_stays_on_the_disk(
    database, administrator, account_id, journal_folder, monkeypatch
):
    """Neither rows that were written, nor those that came too late, nor what was put aside."""
    monkeypatch.setattr("addons.recorder._ADOPT_SECONDS", 0.2)
    monkeypatch.setattr("storage.journal._SEGMENT_SECONDS", 0.2)
    recorder = Recorder(Journal(journal_folder), database.url(roles.PROXY), PriceBook())
    recorder.start()
    recorder.record(row(account_id))
    recorder.record(row(account_id, status=10**6))
    eventually(lambda: recorder.counts.rejected and count(administrator))
    administrator.execute("DELETE FROM metrion.accounts")
    recorder.record(row(account_id))
    recorder.record(row(account_id, status=10**6))
    needle = str(account_id).encode()

    def kept() -> list[Path]:
        found: list[Path] = []
        for path in journal_folder.rglob("*"):
            # a segment goes when its rows are written
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                found += [path] * (needle in path.read_bytes())
        return found

    eventually(lambda: recorder.counts.rejected == 2 and not kept())
    recorder.close(10)


def test_rows_that_cannot_be_written_are_put_aside_and_hold_up_nobody(
    recorder, administrator, account_id, journal_folder, caplog
):
    bad = [
        row(account_id, id="not an id"),
        row(account_id, created_at="yesterday"),
        row(account_id, status=10**6),
        row(account_id, provider=None),
        row(account_id, usage={"thought_about": 7}),
    ]
    for each in bad:
        for _ in range(60):
            recorder.record(row(account_id))
        recorder.record(each)
    recorder._journal.append(b"no JSON")
    for _ in range(60):
        recorder.record(row(account_id))
    eventually(lambda: recorder.counts.rejected == len(bad) + 1)
    eventually(lambda: count(administrator) == 360)
    check_sums(administrator)
    eventually(lambda: recorder._journal.queued == 0)
    (path,) = (journal_folder / "rejected").iterdir()
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(kept) == len(bad) + 1
    assert {each["record"] for each in kept} >= {"no JSON"}
    assert all(each["reason"] for each in kept)


def test_what_is_not_for_a_row_is_dropped_and_counted(recorder, administrator, account_id, caplog):
    recorder.record(row(account_id, error=object()))
    recorder.record(row(account_id, id=uuid7(), created_at=datetime.now(UTC)))
    eventually(lambda: count(administrator) == 1)
    assert (recorder.counts.recorded, recorder.counts.unwritable) == (1, 1)
    assert "Object of type object is not JSON" in caplog.text


def test_a_row_that_is_sent_twice_counts_once(database, recorder, administrator, account_id):
    sent = row(account_id)
    recorder.record(sent)
    eventually(lambda: count(administrator) == 1)
    administrator.execute("UPDATE metrion.accounts SET plan = 'free'")
    # the answer to a batch was lost, and the plan changed before it is sent again
    for _ in range(3):
        recorder.record(sent)
    recorder.record(row(account_id))
    eventually(lambda: count(administrator) == 2)
    eventually(lambda: recorder._journal.queued == 0)
    assert recorder.counts.written == 2
    check_sums(administrator)


CHILD = """
import json, sys, time, uuid
from datetime import UTC, datetime
from pathlib import Path
from pydantic import SecretStr
from addons.recorder import Recorder
from storage.identifiers import uuid7
from storage.journal import Journal
from storage.pricing import PriceBook, TokenUsage
from storage.settings import Settings
job = json.loads(sys.stdin.readline())
recorder = Recorder(Journal(Path(job["folder"])), SecretStr(job["url"]), PriceBook())
recorder.start()
usage = TokenUsage(2006, 1920, None, 300, 256, "default")
while True:
    row = job["row"] | {
        "id": str(uuid7()), "created_at": datetime.now(UTC).isoformat(), "usage": usage
    }
    recorder.record(row)
    print(row["id"], flush=True)
    time.sleep(0.0002)
"""


def killed_writer(url: SecretStr, folder: Path, example: dict[str, Any], lines: int) -> list[str]:
    """Run a recorder in a process until it is killed; return the ids it has told."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    job = {"url": url.get_secret_value(), "folder": str(folder), "row": example | {"usage": None}}
    child.stdin.write(json.dumps(job) + "\n")
    child.stdin.flush()
    told = [child.stdout.readline() for _ in range(lines)]
    child.send_signal(signal.SIGKILL)
    told += child.stdout.readlines()
    child.wait(PATIENCE_SECONDS)
    child.stdin.close()
    child.stdout.close()
    return [line.strip() for line in told if line.endswith("\n")]


def test_kill_9_in_the_middle_loses_nothing_and_counts_nothing_twice(
    database, administrator, account_id, journal_folder
):
    url = database.url(roles.PROXY)
    told: list[str] = []
    for lines in (100, 700, 1500):
        told += killed_writer(url, journal_folder, row(account_id), lines)
    recorder = Recorder(Journal(journal_folder), url, PriceBook())
    recorder.start()
    recorder.close(PATIENCE_SECONDS)
    found = [str(each["id"]) for each in rows_of(administrator)]
    assert len(found) == len(set(found))
    assert set(told) <= set(found)
    # at most the one that was recorded and not told, per life
    assert len(set(found) - set(told)) <= 3
    assert not list(journal_folder.glob("*.journal"))
    check_sums(administrator)


def test_a_row_that_was_written_and_not_acknowledged_is_not_written_twice(
    database, administrator, account_id, journal_folder
):
    # as if the process had died between the commit and the note of it
    sent = row(account_id)
    url = database.url(roles.PROXY)
    writer = LogWriter(url)
    complete = Recorder(Journal(journal_folder), url, PriceBook())._complete(
        json.dumps(sent | {"usage": ONE_CALL.to_json()}).encode()
    )
    assert writer.write([complete]) == 1
    writer.close()
    recorder = Recorder(Journal(journal_folder), url, PriceBook())
    recorder.record(sent)
    recorder.start()
    recorder.close(PATIENCE_SECONDS)
    assert (recorder.counts.written, recorder.counts.batches) == (0, 1)
    check_sums(administrator)


def test_a_row_can_be_looked_at_before_it_is_written(
    recorder, administrator, account_id, journal_folder, caplog
):
    sent = row(account_id)
    shown = recorder.complete(sent)
    assert (shown["total_tokens"], Decimal(shown["cost_usd"])) == (2306, ONE_COST)
    assert recorder.complete(row(account_id, created_at="yesterday")) is None
    assert "A row cannot be shown" in caplog.text
    assert count(administrator) == 0
    recorder.record(sent)
    assert recorder.flush(PATIENCE_SECONDS) == 0
    assert rows_of(administrator)[0]["cost_usd"] == Decimal(shown["cost_usd"])


def test_a_flush_says_what_is_left(journal_folder):
    nowhere = SecretStr("postgresql://nobody@127.0.0.1:1/nothing")
    idle = Recorder(Journal(journal_folder), nowhere, PriceBook())
    idle.record(row(uuid.uuid4()))
    assert idle.flush(0.05) == 1
    idle.close(0)


def test_a_full_journal_costs_rows_and_no_request(database, account_id, journal_folder, caplog):
    metrics = CollectorRegistry()
    journal = Journal(journal_folder, max_bytes=10_000)
    recorder = Recorder(journal, database.url(roles.PROXY), PriceBook(), metrics=metrics)
    for _ in range(100):
        recorder.record(row(account_id))
    assert 0 < recorder.counts.recorded < 40
    assert recorder.counts.recorded + journal.dropped == 100
    assert "traffic goes on" in caplog.text
    shown = metrics.get_sample_value("metrion_recorder_dropped_total")
    assert shown == journal.dropped
    recorder.start()
    recorder.close(PATIENCE_SECONDS)


def test_metrics(database, administrator, account_id, journal_folder):
    metrics = CollectorRegistry()
    recorder = Recorder(
        Journal(journal_folder), database.url(roles.PROXY), PriceBook(), metrics=metrics
    )

    def shown(name: str) -> float | None:
        return metrics.get_sample_value(f"metrion_recorder_{name}")

    for changes in ({}, {"model": "gpt-of-the-future"}, {"usage": None}):
        recorder.record(row(account_id, **changes))
    assert (shown("recorded_total"), shown("queued"), shown("written_total")) == (3, 3, 0)
    assert (shown("journal_bytes") or 0) > 1000
    recorder.start()
    recorder.close(PATIENCE_SECONDS)
    assert (shown("written_total"), shown("queued"), shown("batches_total")) == (3, 0, 1)
    assert (shown("unpriced_total"), shown("unreported_total")) == (1, 1)
    assert (shown("failures_total"), shown("rejected_total"), shown("gone_total")) == (0, 0, 0)
    assert b"metrion_recorder_sync_failures_total 0.0" in generate_latest(metrics)


async def test_recording_does_not_wait_for_the_database(
    recorder, database, administrator, account_id
):
    away(administrator, database)
    loop = asyncio.get_running_loop()
    slowest = 0.0
    for _ in range(300):
        started = loop.time()
        recorder.record(row(account_id))
        slowest = max(slowest, loop.time() - started)
        await asyncio.sleep(0)
    assert slowest < 1  # a connection attempt alone would take longer in the worst case
    back(administrator, database)
    eventually(lambda: recorder.counts.written == 300)


def test_the_threads_end(database, journal_folder):
    before = set(threading.enumerate())
    recorder = Recorder(Journal(journal_folder), database.url(roles.PROXY), PriceBook())
    recorder.start()
    recorder.close(10)
    assert set(threading.enumerate()) <= before


@pytest.fixture
def own_server(tmp_path) -> Iterator[EmbeddedPostgres]:
    """A server that a test may kill."""
    server = EmbeddedPostgres(tmp_path / "own", options={"fsync": "off"})
    server.start(stop_with_thread=True)
    yield server
    server.release()


def test_kill_9_of_the_database_under_load(own_server, tmp_path, journal_folder):
    url = own_server.url
    roles_folder = tmp_path / "roles"
    migrate.migrate(url, roles_folder)
    settings = Settings(data_dir=tmp_path, database_url=url)
    account_id = uuid7()
    with psycopg.connect(url.get_secret_value()) as connection:
        connection.execute(
            "INSERT INTO metrion.accounts (id, email, plan) VALUES (%s, 'a@example.com', 'pro')",
            [account_id],
        )
    recorder = Recorder(Journal(journal_folder), service_url(settings, roles.PROXY), PriceBook())
    recorder.start()
    sent: list[str] = []
    done = threading.Event()

    def load() -> None:
        while not done.wait(0.001):
            each = row(account_id)
            recorder.record(each)
            sent.append(each["id"])

    loader = threading.Thread(target=load)
    loader.start()
    for _ in range(2):
        written = recorder.counts.written
        eventually(lambda before=written: recorder.counts.written > before + 100)
        assert own_server.pid is not None
        os.kill(own_server.pid, signal.SIGKILL)
        failures = recorder.counts.failures
        eventually(lambda before=failures: recorder.counts.failures > before)
        own_server.start(stop_with_thread=True)
    eventually(lambda: recorder._outage is None)
    done.set()
    loader.join()
    recorder.close(PATIENCE_SECONDS)
    with psycopg.connect(url.get_secret_value(), row_factory=dict_row) as connection:
        assert [str(each["id"]) for each in rows_of(connection)] == sorted(sent)
        check_sums(connection)
    assert recorder.counts.rejected == 0
