"""What the measurements are held against: one line for each thing that was promised."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.benchmarks.contestants import EVENTS

_JSON = ("JSON, 1 connection", "JSON, 8 connections", "JSON, 64 connections")
_PACED = "stream of 32 events, paced"
_STEADY = "JSON, 300 a second"

type _Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """Something measured, and how much it may be at most.

    Attributes:
        measured: None if this run did not measure it.
        is_bold: hoped for, not promised.
    """

    name: str
    most: float
    measured: float | None
    is_bold: bool = False

    @property
    def verdict(self) -> str:
        """Whether it was reached."""
        if self.measured is None:
            return "not measured"
        return "reached" if self.measured <= self.most else "not reached"


def goals(found: _Found) -> list[Goal]:
    """All of them.

    Args:
        found: what `scripts/bench --json` writes, as far as it is there.
    """
    return [
        Goal("start, s", 2.0, found.get("start_seconds")),
        *_cpu(found),
        Goal("paced stream, of mitmdump", 0.5, _ratio(found, _PACED, "mitmdump")),
        Goal("paced stream, CPU ms an event", 0.2, _of(found, _event_ms)),
        *_first_byte(found),
        Goal("PostgreSQL ms a request, at 300/s", 0.15, _of(found, _postgres_ms)),
        *_memory(found),
        Goal("provider's connections per 100 requests", 5.0, _of(found, _connections)),
        Goal("CPU a request, two workers to one", 1 / 0.9, _of(found, _workers)),
    ]


def _cpu(found: _Found) -> Iterator[Goal]:
    for scenario in _JSON:
        of_mitmdump = _ratio(found, scenario, "mitmdump")
        yield Goal(f"{scenario}, of mitmdump", 0.5, of_mitmdump)
        yield Goal(f"{scenario}, of LiteLLM", 1 / 15, _ratio(found, scenario, "litellm"))
        yield Goal(f"{scenario}, of mitmdump", 0.15, of_mitmdump, is_bold=True)


def _first_byte(found: _Found) -> Iterator[Goal]:
    def added(scenario: str) -> Callable[[_Found], float]:
        def compare(found: _Found) -> float:
            contestants = found["requests"][scenario]
            return contestants["metrion"]["first_byte_ms"] - contestants["direct"]["first_byte_ms"]

        return compare

    for scenario in (_JSON[0], _STEADY, _PACED):
        yield Goal(f"{scenario}: ms to first byte", 2.0, _of(found, added(scenario)))


def _memory(found: _Found) -> Iterator[Goal]:
    sizes = list(found.get("memory", {}).values())
    yield Goal("memory at the end, MB", 150.0, sizes[-1] / 1e6 if sizes else None)
    yield Goal("memory, end to a fifth", 1.05, sizes[-1] / sizes[0] if sizes else None)


def _ratio(found: _Found, scenario: str, other: str) -> float | None:
    def ratio(found: _Found) -> float:
        contestants = found["requests"][scenario]
        return contestants["metrion"]["cpu_us"] / contestants[other]["cpu_us"]

    return _of(found, ratio)


def _event_ms(found: _Found) -> float:
    # all of the stream's cost, also of its request
    return found["requests"][_PACED]["metrion"]["cpu_us"] / EVENTS / 1000


def _postgres_ms(found: _Found) -> float:
    return found["requests"][_STEADY]["metrion"]["postgres_us"] / 1000


def _connections(found: _Found) -> float:
    return found["connecting"]["metrion"]["connections_per_100"]


def _workers(found: _Found) -> float:
    one, several = found["workers"]
    return one["per_cpu_second"] / several["per_cpu_second"]


def _of(found: _Found, figure: Callable[[_Found], float]) -> float | None:
    """A figure; None if what it is made of was not measured."""
    try:
        return figure(found)
    except KeyError:
        return None


def goal_table(goals: Sequence[Goal]) -> str:
    """For a person."""
    return "\n".join(
        f"{goal.name:45} {'—' if goal.measured is None else f'{goal.measured:.3f}':>8}  "
        f"{'hoped' if goal.is_bold else 'at most'} {goal.most:.3f}: {goal.verdict}"
        for goal in goals
    )
