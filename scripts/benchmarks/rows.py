"""What a log row costs a request, and how fast rows that wait reach PostgreSQL."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from addons.recorder import Recorder
from scripts.benchmarks.processes import tree_cpu_seconds
from storage import roles
from storage.database_url import service_url
from storage.identifiers import uuid7
from storage.journal import Journal
from storage.pricing import PriceBook, TokenUsage
from storage.settings import Settings

_POLL_SECONDS = 0.02
_USAGE = TokenUsage(2006, 1920, None, 300, 256, "default")


@dataclass(frozen=True, slots=True)
class RowFigures:
    """What was measured.

    Attributes:
        record_us: processor time on the request's way, per row, in microseconds.
        catch_up_seconds: until all rows that waited were in PostgreSQL.
        rows_per_second: meanwhile.
        recorder_us: processor time of the recorder's thread, per row.
        postgres_us: processor time of PostgreSQL, per row.
    """

    rows: int
    record_us: float
    catch_up_seconds: float
    rows_per_second: float
    recorder_us: float
    postgres_us: float


def measure_rows(
    settings: Settings, account_id: UUID, postgres_pid: int, folder: Path, rows: int
) -> RowFigures:
    """Queue rows in a journal of their own, then let a recorder carry them to the database.

    Args:
        settings: of an installation whose database runs.
        account_id: whose rows they are.
        postgres_pid: the database's first process.
        folder: for the journal.
        rows: how many.
    """
    journal = Journal(folder / "rows", max_bytes=1024 * 1024 * 1024)
    recorder = Recorder(journal, service_url(settings, roles.PROXY), PriceBook())
    made = [_row(account_id, number) for number in range(rows)]
    before = time.thread_time()
    for row in made:
        recorder.record(row)
    record_us = (time.thread_time() - before) / rows * 1e6
    cpu, postgres, begun = time.process_time(), tree_cpu_seconds(postgres_pid), time.monotonic()
    recorder.start()
    while recorder.counts.written < rows:
        time.sleep(_POLL_SECONDS)
    seconds = time.monotonic() - begun
    figures = RowFigures(
        rows=rows,
        record_us=record_us,
        catch_up_seconds=seconds,
        rows_per_second=rows / seconds,
        recorder_us=(time.process_time() - cpu) / rows * 1e6,
        postgres_us=(tree_cpu_seconds(postgres_pid) - postgres) / rows * 1e6,
    )
    recorder.close(10)
    return figures


def _row(account_id: UUID, number: int) -> dict[str, Any]:
    return {
        "id": str(uuid7()),
        "account_id": str(account_id),
        "created_at": datetime.now(UTC).isoformat(),
        "provider": "openai",
        "endpoint": "chat/completions",
        "model": ("gpt-4o", "gpt-4o-mini", "gpt-5")[number % 3],
        "requester": f"person {number % 20}",
        "mode": "stored",
        "status": 200,
        "outcome": "ok",
        "streamed": False,
        "cached": False,
        "usage": _USAGE,
        "latency_ms": 250.5 + number % 1000,
        "ttfb_ms": 80.25,
        "overhead_ms": 0.75,
        "error": None,
        "left_out": 0,
    }
