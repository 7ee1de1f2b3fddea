"""`scripts/bench`: the measurements, a table, and JSON for other programs."""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.benchmarks import connecting, report
from scripts.benchmarks.contestants import Field, started
from scripts.benchmarks.dashboard import measure_dashboard, page_table
from scripts.benchmarks.goals import goal_table, goals
from scripts.benchmarks.instructions import count_instructions, is_possible
from scripts.benchmarks.peers import absent_peers
from scripts.benchmarks.processes import cores
from scripts.benchmarks.requests import SCENARIOS, measure, soak, warm_up
from scripts.benchmarks.rows import measure_rows
from scripts.benchmarks.workers import measure_workers, worker_lines
from scripts.installation import DEMO_EMAIL
from storage import accounts, roles
from storage.database import Database
from storage.database_url import service_url

_CONTESTANTS = 3


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parse(arguments)
    if options.dashboard:
        return _dashboard(options)
    core, others = cores()
    if core is not None:
        os.sched_setaffinity(0, others)
    with tempfile.TemporaryDirectory(prefix="metrion-bench-") as name:
        folder = Path(name)
        with started(folder) as field:
            found = _measure(options, field, folder)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _dashboard(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="metrion-bench-") as name:
        pages = measure_dashboard(Path(name), options.rows, options.models, rounds=20)
    print(page_table(pages))
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in pages], indent=2) + "\n")
    return 0


def _measure(options: argparse.Namespace, field: Field, folder: Path) -> dict[str, Any]:
    """Measure, and print each part as soon as it is known."""
    found: dict[str, Any] = {"machine": platform.platform(), "python": platform.python_version()}
    warm_up(field, options.warm_up)
    seconds = options.seconds / (len(SCENARIOS) * _CONTESTANTS * options.rounds)
    found["start_seconds"] = field.contestants["metrion"].process.start_seconds
    found["requests"] = {}
    for scenario, figures in measure(field, seconds, options.rounds):
        found["requests"][scenario] = {name: asdict(each) for name, each in figures.items()}
        print(report.request_table(scenario, figures), flush=True)
    found["connecting"] = connecting.measure_connecting(field, folder, seconds, options.rounds)
    print(connecting.connecting_table(found["connecting"]), flush=True)
    if options.rows:
        account_id = asyncio.run(_account_id(field))
        rows = measure_rows(field.metrion, account_id, field.postgres_pid, folder, options.rows)
        found["rows"] = asdict(rows)
        print(report.row_lines(rows), flush=True)
    if options.workers:
        workers = measure_workers(field, folder, options.workers, seconds, options.rounds)
        found["workers"] = [asdict(each) for each in workers]
        print(worker_lines(workers), flush=True)
    if options.soak:
        found["memory"] = soak(field.contestants["metrion"], options.soak)
        for when, size in found["memory"].items():
            print(f"memory {when}: {size / 2**20:.1f} MiB", flush=True)
    if options.instructions and is_possible():
        metrion = field.contestants["metrion"]
        counted = count_instructions(field.metrion, metrion.path, metrion.key, folder)
        found["instructions"] = asdict(counted)
        print(f"instructions: {counted.json:,} a JSON request, {counted.event:,} an event")
    elif options.instructions:
        print("instructions per request are not counted: valgrind is not installed")
    print(goal_table(goals(found)))
    print(f"not installed here, so not compared: {', '.join(absent_peers()) or 'nothing'}")
    return found


async def _account_id(field: Field) -> Any:
    database = Database(service_url(field.metrion, roles.API), pool_size=1)
    try:
        async with database.system() as connection:
            return await accounts.find_account(connection, DEMO_EMAIL)
    finally:
        await database.close()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="for all requests together (default: 60)"
    )
    parser.add_argument("--warm-up", type=int, default=100, help="requests of each kind before")
    parser.add_argument("--rounds", type=int, default=3, help="of all contestants in turn")
    parser.add_argument("--rows", type=int, default=100_000, help="that wait; 0: none")
    parser.add_argument("--workers", type=int, default=0, help="to compare with one; 0: none")
    parser.add_argument(
        "--dashboard", action="store_true", help="only its pages, over --rows requests in 90 days"
    )
    parser.add_argument("--models", type=int, default=8, help="among those (default: 8)")
    parser.add_argument("--soak", type=int, default=0, help="requests, and memory meanwhile")
    parser.add_argument("--instructions", action="store_true", help="count them (minutes)")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
