"""What one request costs each contestant, round after round."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from scripts.benchmarks.contestants import EVENTS, Contestant, Field, chat_request
from scripts.benchmarks.load import BadAnswerError, new_loop, send_for, send_number
from scripts.benchmarks.processes import cpu_seconds, resident_bytes, tree_cpu_seconds

# Rows reach PostgreSQL a little after their request.
_SETTLE_SECONDS = 0.7
_SOAK_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load.

    Attributes:
        connections: how many clients send one request after the other.
        pace: seconds between the events of a stream.
        cached: of stored answers, which only Metrion has.
        per_second: requests of all clients together; 0: as many as are answered.
    """

    name: str
    connections: int
    streamed: bool = False
    pace: float = 0.0
    cached: bool = False
    per_second: float = 0.0

    @property
    def interval(self) -> float:
        """Seconds between two requests of a client; 0: the next follows the answer."""
        return self.connections / self.per_second if self.per_second else 0.0


SCENARIOS = (
    Scenario("JSON, 1 connection", 1),
    Scenario("JSON, 8 connections", 8),
    Scenario("JSON, 64 connections", 64),
    Scenario("JSON, 300 a second", 16, per_second=300),
    Scenario("stream of 32 events, burst", 8, streamed=True),
    Scenario("stream of 32 events, paced", 32, streamed=True, pace=0.01),
    Scenario("stored JSON, 1 connection", 1, cached=True),
    Scenario("stored JSON, 8 connections", 8, cached=True),
    Scenario("stored stream of 32 events", 8, streamed=True, cached=True),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one contestant in one scenario; the middle of its rounds.

    Attributes:
        cpu_us: processor time of its process, per request, in microseconds.
        postgres_us: the database's, where it has one.
        first_byte_ms: the client's middle time to the first byte, in milliseconds.
    """

    cpu_us: float
    postgres_us: float
    requests_per_second: float
    first_byte_ms: float
    requests: int


def warm_up(field: Field, requests: int) -> None:
    """Let every contestant do some of each, so that nothing is done for the first time later."""
    for contestant in field.contestants.values():
        for streamed in (False, True) if contestant.streams else (False,):
            request = chat_request(contestant, streamed=streamed, cached=True)
            asyncio.run(send_number(contestant.process.port, request, 1, 2))
            request = chat_request(contestant, streamed=streamed)
            asyncio.run(send_number(contestant.process.port, request, 8, requests))


def measure(field: Field, seconds: float, rounds: int) -> Iterator[tuple[str, dict[str, Figures]]]:
    """Each scenario with its contestants' figures, as soon as they are known.

    Args:
        field: all contestants, warm.
        seconds: how long each measurement lasts.
        rounds: of all contestants in turn.
    """
    for scenario in SCENARIOS:
        asked = {
            name: contestant
            for name, contestant in field.contestants.items()
            if name == "metrion" or not scenario.cached
            if contestant.streams or not scenario.streamed
        }
        taken: dict[str, list[Figures]] = {name: [] for name in asked}
        for _ in range(rounds):
            for name, contestant in asked.items():
                taken[name].append(_measure_once(field, contestant, scenario, seconds))
        yield scenario.name, {name: _middle(figures) for name, figures in taken.items()}


def _measure_once(
    field: Field, contestant: Contestant, scenario: Scenario, seconds: float
) -> Figures:
    request = chat_request(
        contestant, streamed=scenario.streamed, pace=scenario.pace, cached=scenario.cached
    )
    pid = contestant.process.pid
    cpu, postgres, begun = cpu_seconds(pid), tree_cpu_seconds(field.postgres_pid), time.monotonic()
    try:
        sample = asyncio.run(
            send_for(
                contestant.process.port,
                request,
                scenario.connections,
                seconds,
                interval=scenario.interval,
                # streams that begin together send all their events together
                spread=EVENTS * scenario.pace,
            ),
            loop_factory=new_loop,
        )
    except BadAnswerError as error:
        raise BadAnswerError(f"{contestant.name}, {scenario.name}: {error}") from error
    took = time.monotonic() - begun
    per_request = 1e6 / sample.requests
    has_database = contestant.name == "metrion"
    if has_database:
        time.sleep(_SETTLE_SECONDS)
    return Figures(
        cpu_us=(cpu_seconds(pid) - cpu) * per_request,
        postgres_us=(tree_cpu_seconds(field.postgres_pid) - postgres) * per_request
        if has_database
        else 0.0,
        requests_per_second=sample.requests / took,
        first_byte_ms=sample.first_byte_ms,
        requests=sample.requests,
    )


def _middle(figures: list[Figures]) -> Figures:
    rounds = [asdict(each) for each in figures]
    values: dict[str, Any] = {name: median(each[name] for each in rounds) for name in rounds[0]}
    return Figures(**values)


def soak(contestant: Contestant, requests: int) -> dict[str, int]:
    """Memory in use after a fifth of the requests, after half of them, and after all, in bytes."""
    return dict(_soak(contestant, requests))


def _soak(contestant: Contestant, requests: int) -> Iterator[tuple[str, int]]:
    request = chat_request(contestant, streamed=False)
    sent = 0
    for share in (0.2, 0.5, 1.0):
        number = int(requests * share) - sent
        asyncio.run(send_number(contestant.process.port, request, _SOAK_CONNECTIONS, number))
        sent += number
        yield f"after {sent:,} requests", resident_bytes(contestant.process.pid)
