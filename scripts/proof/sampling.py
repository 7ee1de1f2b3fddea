"""What processes hold, looked at again and again: memory, open files, threads, tasks (Linux).

Memory is what a process has of its own and in files (`VmRSS`); of PostgreSQL, which is many
processes, it is the sum of what each has for itself (`Pss_Anon`): its shared buffers fill up to the
size that is configured, once, and are no growth.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Holding:
    """What a process, or a group of them, has at a moment.

    Attributes:
        tasks: of asyncio; None: it has none, or does not say.
    """

    memory_kib: int
    files: int
    threads: int
    tasks: int | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """By how much a process may hold more at the end than at the beginning.

    Attributes:
        share: of the memory and the files that it held; or `memory_kib` and `files`, if more.
    """

    share: float = 0.10
    memory_kib: int = 8 * _KIB
    files: int = 8
    threads: int = 3
    tasks: int = 12


def holding_of(pid: int, count_tasks: Callable[[int], int | None] | None = None) -> Holding | None:
    """Look at a process; None: it is gone, or not to be seen."""
    folder = _PROC / str(pid)
    try:
        status = (folder / "status").read_text()
        files = sum(1 for _ in (folder / "fd").iterdir())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    memory, threads = _field(status, "VmRSS:"), _field(status, "Threads:")
    return Holding(memory, files, threads, count_tasks(pid) if count_tasks else None)


def holding_of_all(pids: Iterable[int]) -> Holding:
    """Look at processes that are one program, such as PostgreSQL's, but for those that are gone."""
    memory = files = threads = 0
    for pid in pids:
        one = holding_of(pid)
        try:
            rollup = (_PROC / str(pid) / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if one is not None:
            memory += _field(rollup, "Pss_Anon:")
            files += one.files
            threads += one.threads
    return Holding(memory, files, threads)


def _field(text: str, name: str) -> int:
    found = text.partition(name)[2].split(None, 1)
    return int(found[0]) if found else 0


def grown(samples: Sequence[Holding], bounds: Bounds) -> list[str]:
    """Say what has grown from the first third of the samples to the last; nothing: it is flat."""
    first, last = thirds(samples)
    found: list[str] = []
    for name, most in (
        ("memory_kib", max(first.memory_kib * bounds.share, bounds.memory_kib)),
        ("files", max(first.files * bounds.share, bounds.files)),
        ("threads", bounds.threads),
        ("tasks", bounds.tasks),
    ):
        before, after = getattr(first, name), getattr(last, name)
        if before is not None and after is not None and after > before + most:
            found.append(f"{name} {before} → {after}")
    return found


def thirds(samples: Sequence[Holding]) -> tuple[Holding, Holding]:
    """The medians of the first third and of the last."""
    third = max(1, len(samples) // 3)
    return _median(samples[:third]), _median(samples[-third:])


def _median(samples: Sequence[Holding]) -> Holding:
    tasks = [each.tasks for each in samples if each.tasks is not None]
    return Holding(
        round(statistics.median(each.memory_kib for each in samples)),
        round(statistics.median(each.files for each in samples)),
        round(statistics.median(each.threads for each in samples)),
        round(statistics.median(tasks)) if tasks else None,
    )


def as_table(samples: Mapping[str, Sequence[Holding]], bounds_of: Callable[[str], Bounds]) -> str:
    """A line for each process: the first third of the time, the last, and the most there was."""
    lines = [f"{'process':<10} {'memory MiB':>22} {'files':>16} {'threads':>13} {'tasks':>16}"]
    for name, held in samples.items():
        first, last = thirds(held)
        cells = [f"{name:<10}"]
        for attribute, width, unit in (
            ("memory_kib", 22, _KIB),
            ("files", 16, 1),
            ("threads", 13, 1),
            ("tasks", 16, 1),
        ):
            values = [v for each in held if (v := getattr(each, attribute)) is not None]
            before, after = getattr(first, attribute), getattr(last, attribute)
            said = "-"
            if values and before is not None:
                numbers = [f"{each / unit:.4g}" for each in (before, after, max(values))]
                said = f"{numbers[0]} → {numbers[1]} ({numbers[2]})"
            cells.append(f"{said:>{width}}")
        verdict = "; ".join(grown(held, bounds_of(name))) or "flat"
        lines.append(" ".join([*cells, verdict]))
    lines += [
        f"{name:<10} memory in MiB, by tenths of the time: {tenths(held)}"
        for name, held in samples.items()
    ]
    return "\n".join(lines)


def tenths(samples: Sequence[Holding]) -> str:
    """The median memory of each tenth of the samples, in MiB: whether it grows on at the end."""
    size = max(1, len(samples) // 10)
    groups = [samples[start : start + size] for start in range(0, len(samples), size)][:10]
    return " ".join(f"{_median(group).memory_kib / _KIB:.1f}" for group in groups)
