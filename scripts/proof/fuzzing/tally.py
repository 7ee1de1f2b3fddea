"""What a fuzz run counts, how each failure can be made again, and the table of it all."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from scripts.proof.sampling import holding_of

type Fault = Literal["crash", "hang", "not admitted", "wrong"]

_MOST_SHOWN = 20
_LOOKS = (0.1, 0.5, 1.0)
_KIB_PER_MIB = 1024
# From a tenth of the inputs to the half of them, and from there to the end: the biggest inputs
# are of 4 MiB, and may be the first of their kind.
_MOST_GROWTH_KIB = 48 * _KIB_PER_MIB
_MOST_LATER_KIB = 12 * _KIB_PER_MIB
_HEADS = (
    *("kind of input", "inputs", "seed", "forwarded", "not admitted", "crashes", "hangs"),
    *("wrong", "MiB at 10, 50, 100 %"),
)


@dataclass
class Tally:
    """One kind of input.

    Attributes:
        name: of the kind, for people.
        seed: with a number, it makes an input again.
        planned: how many there will be.
        forwarded: requests that reached the provider.
        memory: of the process under test in KiB, after 10, 50 and 100 % of the inputs.
        failures: the first of them: what went wrong, the seed, the number and the bytes.
    """

    name: str
    seed: int
    planned: int
    inputs: int = 0
    forwarded: int = 0
    memory: list[int] = field(default_factory=list[int])
    faults: dict[Fault, int] = field(default_factory=dict[Fault, int])
    failures: list[str] = field(default_factory=list[str])

    def fail(self, fault: Fault, why: object, number: int = -1, data: bytes = b"") -> None:
        """Count a fault, and keep what is needed to make it again."""
        self.faults[fault] = self.faults.get(fault, 0) + 1
        if len(self.failures) < _MOST_SHOWN:
            which = f"{self.name}, seed {self.seed}, number {number}: {data.hex()}"
            self.failures.append(f"{fault}: {why} [{which}]")

    def looks(self, pid: int, done: float | None = None) -> None:
        """Look at a process's memory if it is time to.

        Args:
            pid: the process.
            done: the share that is done, where a time is planned and no number of inputs.
        """
        done = self.inputs / self.planned if done is None else done
        while len(self.memory) < len(_LOOKS) and done >= _LOOKS[len(self.memory)]:
            holding = holding_of(pid)
            self.memory.append(holding.memory_kib if holding else 0)

    def check_growth(self) -> None:
        """Caches fill up and the allocator settles in the first half; what grows on is a leak."""
        if len(self.memory) < len(_LOOKS):
            return
        first, half, end = self.memory
        if half - first > _MOST_GROWTH_KIB or end - half > _MOST_LATER_KIB:
            self.fail("wrong", f"memory grew: {self.memory} KiB")

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        count: Callable[[Fault], str] = lambda fault: f"{self.faults.get(fault, 0):,}"  # noqa: E731
        return (
            self.name,
            f"{self.inputs:,}",
            str(self.seed),
            f"{self.forwarded:,}",
            *(count(fault) for fault in ("not admitted", "crash", "hang", "wrong")),
            " ".join(f"{kib / _KIB_PER_MIB:.0f}" for kib in self.memory) or "-",
        )


def as_table(tallies: Iterable[Tally]) -> str:
    """All of them, with what they have in sum."""
    rows = [_HEADS, *(tally.cells for tally in tallies)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
