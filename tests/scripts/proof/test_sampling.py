"""What grows is found: memory, files, threads and tasks of a process that is made to grow."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from scripts.proof.sampling import (
    Bounds,
    Holding,
    as_table,
    grown,
    holding_of,
    holding_of_all,
    thirds,
)

MIB = 1024
GROWING = """
import sys, threading
kept = []
for line in sys.stdin:
    if line == "memory\\n":
        kept.append(b"x" * 40_000_000)
    if line == "files\\n":
        kept += [open(sys.executable) for _ in range(20)]
    if line == "threads\\n":
        for _ in range(6):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
    print("done", flush=True)
"""


class Program:
    """A program that holds more when it is told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", GROWING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tell("nothing")

    def tell(self, what: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@pytest.fixture
def program() -> Iterator[Program]:
    made = Program()
    with made.process:
        yield made
        assert made.process.stdin is not None
        made.process.stdin.close()


@pytest.mark.parametrize(
    ("what", "said"), [("memory", "memory_kib"), ("files", "files"), ("threads", "threads")]
)
def test_what_a_process_takes_is_seen(program, what, said):
    before = holding_of(program.process.pid)
    assert before is not None
    program.tell(what)
    after = holding_of(program.process.pid)
    assert after is not None
    assert [each.partition(" ")[0] for each in grown([before, after], Bounds())] == [said]
    whole = holding_of_all([program.process.pid])
    assert (whole.files, whole.threads) == (after.files, after.threads)
    assert 0 < whole.memory_kib <= after.memory_kib


def test_tasks_are_asked_for(program):
    held = holding_of(program.process.pid, lambda pid: 7 if pid == program.process.pid else None)
    assert held is not None
    assert held.tasks == 7


def test_who_is_gone_holds_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert holding_of(process.pid) is None
    assert holding_of_all([process.pid]) == Holding(0, 0, 0)


def test_a_peak_in_between_is_no_growth():
    flat, peak = Holding(100 * MIB, 20, 4, 6), Holding(300 * MIB, 90, 9, 70)
    samples = [flat] * 4 + [peak] * 4 + [flat] * 4
    assert grown(samples, Bounds()) == []
    assert thirds(samples) == (flat, flat)


def test_bounds_are_shares_of_what_is_large():
    small, large = Holding(100 * MIB, 20, 4), Holding(400 * MIB, 500, 4)
    bounds = Bounds(share=0.1, memory_kib=8 * MIB, files=8)
    assert grown([small, Holding(109 * MIB, 28, 4)], bounds) == []
    assert grown([small, Holding(111 * MIB, 29, 4)], bounds) == [
        f"memory_kib {100 * MIB} → {111 * MIB}",
        "files 20 → 29",
    ]
    assert grown([large, Holding(439 * MIB, 549, 4)], bounds) == []


def test_tasks_that_pile_up():
    samples = [Holding(1, 1, 1, tasks) for tasks in (6, 7, 40)]
    assert grown(samples, Bounds()) == ["tasks 6 → 40"]
    assert grown([Holding(1, 1, 1), Holding(1, 1, 1, 40)], Bounds()) == []


def test_a_table():
    flat, more = Holding(100 * MIB, 20, 4, 6), Holding(200 * MIB, 20, 4, 6)
    lines = as_table({"api": [flat] * 3, "jobs": [flat, flat, more]}, lambda _: Bounds())
    head, api, jobs, *grown_by = lines.splitlines()
    assert grown_by[1] == "jobs       memory in MiB, by tenths of the time: 100.0 100.0 200.0"
    assert head.split() == ["process", "memory", "MiB", "files", "threads", "tasks"]
    assert api.endswith("flat")
    assert "100 → 100 (100)" in api
    assert jobs.endswith(f"memory_kib {100 * MIB} → {200 * MIB}")
