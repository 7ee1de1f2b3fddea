"""Several workers beside one: requests per second of processor time, all of it counted.

Several count their limits together in a Valkey, which one alone does not: what that costs is in
their figure. The Valkey's own processor time is shown apart, as PostgreSQL's is.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from scripts import valkey_server
from scripts.benchmarks.contestants import Contestant, Field, chat_request, metrion_environment
from scripts.benchmarks.load import send_for, send_number
from scripts.benchmarks.processes import MeasuredProcess, tree_cpu_seconds
from scripts.child_environment import base_environment
from scripts.ports import claim_port

CONNECTIONS = 64
_WARM_REQUESTS = 400
_SETTLE_SECONDS = 0.7
_MOST_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """What some workers did; the middle of the rounds.

    Attributes:
        workers: how many.
        per_cpu_second: requests per second of the workers' processor time.
        per_second: requests per second of the clock.
        valkey_us: the Valkey's processor time per request, in microseconds.
    """

    workers: int
    per_cpu_second: float
    per_second: float
    valkey_us: float


def measure_workers(
    field: Field, folder: Path, count: int, seconds: float, rounds: int
) -> list[WorkerFigures]:
    """Measure one worker and `count`, in turn, each with the same clients.

    Args:
        field: has the database and the provider.
        folder: for what they write.
        count: of workers.
        seconds: how long each measurement lasts.
        rounds: of both in turn.
    """
    with _valkey(folder) as (valkey, url), contextlib.ExitStack() as stack:
        teams: dict[int, Contestant] = {}
        for number in (1, count):
            environment = metrion_environment(field.metrion)
            if number > 1:
                environment |= {"METRION_VALKEY_URL": url}
            command = [sys.executable, "-P", "-m", "scripts.proxy", "--port", "{port}"]
            command += ["--workers", str(number)] if number > 1 else []
            team = stack.enter_context(MeasuredProcess(command, environment, folder))
            # whoever measures is pinned to the other processors, and these would inherit it
            _free(team.pid)
            metrion = field.contestants["metrion"]
            teams[number] = Contestant(f"{number}", team, metrion.path, metrion.key)
            _warm(teams[number])
            _free(team.pid)
        taken: dict[int, list[WorkerFigures]] = {number: [] for number in teams}
        for _ in range(rounds):
            for number, team in teams.items():
                taken[number].append(_measure_once(number, team, valkey, seconds))
    return [_middle(figures) for figures in taken.values()]


@contextlib.contextmanager
def _valkey(folder: Path) -> Generator[tuple[MeasuredProcess, str]]:
    configuration, url = valkey_server.configure(folder / "valkey", port := claim_port(0, ""))
    server = MeasuredProcess(
        [str(valkey_server.server_binary()), str(configuration)], base_environment(), folder
    )
    server.port = port
    with server:
        _free(server.pid)
        yield server, url.get_secret_value()


def _free(pid: int) -> None:
    """Let a process and what it has started run on every processor."""
    everywhere = set(range(os.cpu_count() or 1))
    for each in (pid, *_started_by(pid)):
        with contextlib.suppress(OSError):  # it has ended, or may not
            os.sched_setaffinity(each, everywhere)


def _started_by(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    children = [int(child) for child in text.split()]
    return [*children, *(each for child in children for each in _started_by(child))]


def _warm(team: Contestant) -> None:
    """Wait until all of its workers serve; the first connections wait for them in the queue."""
    deadline = time.monotonic() + _MOST_START_SECONDS
    request = chat_request(team, streamed=False)
    while True:
        try:
            asyncio.run(send_number(team.process.port, request, CONNECTIONS, _WARM_REQUESTS))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_SETTLE_SECONDS)
        else:
            time.sleep(_SETTLE_SECONDS)
            return


def _measure_once(
    number: int, team: Contestant, valkey: MeasuredProcess, seconds: float
) -> WorkerFigures:
    request = chat_request(team, streamed=False)
    cpu, counting = tree_cpu_seconds(team.process.pid), tree_cpu_seconds(valkey.pid)
    begun = time.monotonic()
    sample = asyncio.run(send_for(team.process.port, request, CONNECTIONS, seconds))
    took = time.monotonic() - begun
    time.sleep(_SETTLE_SECONDS)
    return WorkerFigures(
        number,
        sample.requests / (tree_cpu_seconds(team.process.pid) - cpu),
        sample.requests / took,
        (tree_cpu_seconds(valkey.pid) - counting) / sample.requests * 1e6,
    )


def _middle(figures: list[WorkerFigures]) -> WorkerFigures:
    return WorkerFigures(
        figures[0].workers,
        median(each.per_cpu_second for each in figures),
        median(each.per_second for each in figures),
        median(each.valkey_us for each in figures),
    )


def worker_lines(figures: list[WorkerFigures]) -> str:
    """What was measured, in words."""
    one, several = figures
    ratio = several.per_cpu_second / one.per_cpu_second
    lines = [
        f"{each.workers} worker{'s' if each.workers > 1 else ''}: "
        f"{each.per_cpu_second:,.0f} requests per CPU second, {each.per_second:,.0f} per second"
        for each in figures
    ]
    return "\n".join(
        [*lines, f"ratio {ratio:.2f}; Valkey {several.valkey_us:.0f} µs of CPU per request beside"]
    )
