"""An export of many rows over a real socket: whole, true, and in constant memory.

`--export-rows 1000000` measures what is promised; the suite does it with fewer.
"""

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import psycopg
import pytest

MOST_GROWTH_BYTES = 50 * 1024 * 1024
SAMPLE = 997  # each so-manieth row is held against the schema, which takes a millisecond
# Through the one way into the log: so the records are what requests would have left.
INGEST = """
    SELECT metrion.ingest(jsonb_agg(jsonb_build_object(
        'account_id', %(account)s::text, 'id', gen_random_uuid(),
        'created_at', now() - n * (interval '80 days' / %(rows)s),
        'provider', 'openai', 'endpoint', 'chat/completions', 'model', 'gpt-5-' || n %% 3,
        'requester', 'person-' || n %% 2, 'mode', 'stored',
        'status', CASE WHEN n %% 50 = 0 THEN 429 ELSE 200 END,
        'outcome', CASE WHEN n %% 50 = 0 THEN 'provider_error' ELSE 'ok' END,
        'streamed', n %% 2 = 0, 'cached', false, 'input_tokens', n %% 3000,
        'output_tokens', n %% 500, 'total_tokens', n %% 3000 + n %% 500,
        'cost_usd', (n %% 1000) * 0.000001234567, 'latency_ms', 100.5 + n %% 900,
        'overhead_ms', 0.5, 'error', CASE WHEN n %% 50 = 0 THEN repeat('slow down ', 10) END)))
    FROM generate_series(%(first)s::int, %(last)s::int) AS n
"""


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--export-rows")


@pytest.fixture
def person(deployment, eventually) -> Iterator[httpx.Client]:
    """Somebody on Pro who is signed in."""
    account = deployment.create_account("pro", with_keys=False)
    with httpx.Client(base_url=deployment.api_url, timeout=60) as client:
        client.post("/api/v1/auth/codes", json={"email": account.email})
        code = eventually(lambda: deployment.newest_code(account.email))
        credentials = {"email": account.email, "code": code}
        assert client.post("/api/v1/auth/sessions", json=credentials).status_code == 201
        yield client


def fill(database_url: str, account_id: str, rows: int) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for first in range(1, rows + 1, 10_000):
            last = min(first + 9_999, rows)
            values = {"account": account_id, "rows": rows, "first": first, "last": last}
            assert connection.execute(INGEST, values).fetchone()[0] == (str(last - first + 1), "0")
        connection.execute("ANALYZE")


def memory(pid: int) -> int:
    """What a process has in memory, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise AssertionError(pid)


@contextlib.contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """Look at a process's memory all the time."""
    seen = [memory(pid)]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            seen.append(memory(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_many_rows_are_exported_in_constant_memory(
    deployment, person, rows, tmp_path, record_property
):
    account_id = person.get("/api/v1/account").json()["id"]
    person.get("/api/v1/account/export")  # what is loaded once is loaded now
    begun = time.monotonic()
    fill(deployment.ready["database_url"], account_id, rows)
    filled = time.monotonic()
    path = tmp_path / "export.json"
    with watched(deployment.ready["pids"]["api"]) as seen:
        with person.stream("GET", "/api/v1/account/export") as answer, path.open("wb") as file:
            assert answer.status_code == 200
            for part in answer.iter_raw():
                file.write(part)
        # others are served meanwhile and after
        assert person.get("/api/v1/logs").status_code == 200
    seconds = time.monotonic() - filled
    growth = max(seen) - seen[0]
    print(  # noqa: T201 - with -s, for whoever measures
        f"{rows:,} rows: filled in {filled - begun:.1f} s, exported in {seconds:.1f} s, "
        f"{path.stat().st_size / 1e6:.1f} MB, API from {seen[0] / 1e6:.1f} MB, grew by "
        f"{growth / 1e6:.1f} MB"
    )
    record_property("growth_bytes", growth)
    assert growth < MOST_GROWTH_BYTES

    document, sums = read(path)
    schema = person.get("/api/v1/account/export/schema").json()
    assert [e.message for e in jsonschema.Draft202012Validator(schema).iter_errors(document)] == []
    overview = person.get("/api/v1/usage/overview?range=90d").text
    shown = json.loads(overview, parse_float=Decimal)
    for name in ("usage_records", "request_logs"):
        assert sums[name, "cost_usd"] == shown["cost"]["total"], name
        assert sums[name, "total_tokens"] == shown["tokens"]["total"], name
    assert sums["request_logs", "rows"] == rows == shown["requests"]["total"]
    assert sums["usage_records", "requests"] == rows


def read(path: Path) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
    """Read a document by its lines, of which each row is one; give it with a sample of its rows.

    A million rows at once would take the test gigabytes. Every line is parsed, and the lines that
    are left out of the sample are nothing but rows.
    """
    kept: list[str] = []
    sums: dict[tuple[str, str], Any] = {}
    member, numbers = "", itertools.count()
    with path.open() as file:
        for line in file:
            if line.endswith(": [\n"):
                member = line.split('"')[1]
                kept.append(line)
            elif member and line.startswith("]"):
                kept[-1] = kept[-1].rstrip(",\n") + "\n"
                kept.append(line)
                member = ""
            elif member:
                row = json.loads(line.rstrip(",\n"), parse_float=Decimal)
                add(sums, member, row)
                if next(numbers) % SAMPLE == 0:
                    kept.append(line.rstrip(",\n") + ",\n")
            else:
                kept.append(line)
    return json.loads("".join(kept).replace("[,", "[")), sums


def add(sums: dict[tuple[str, str], Any], member: str, row: dict[str, Any]) -> None:
    of_row = {"rows": 1, **{k: row[k] for k in ("cost_usd", "total_tokens")}}
    if member == "usage_records":
        of_row["requests"] = row["requests"]
    for name, value in of_row.items():
        sums[member, name] = sums.get((member, name), 0) + value
