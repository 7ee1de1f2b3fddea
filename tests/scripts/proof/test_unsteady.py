"""A child whose clocks go wrong when it is told, and only then."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.proof.unsteady import Disturbance, count_tasks, disturb

# Runs as a service of a supervisor, which this process is.
SERVICE = """
import asyncio, json, socket, sys, time
from datetime import UTC, datetime

async def main():
    idle = [asyncio.create_task(asyncio.sleep(60)) for _ in range(3)]
    while line := await asyncio.to_thread(sys.stdin.readline):
        begun = time.perf_counter()
        socket.getaddrinfo("localhost", 80)
        print(json.dumps({
            "wall": time.time(), "ns": time.time_ns() / 1e9, "steady": time.monotonic(),
            "true": datetime.now(UTC).timestamp(), "find": time.perf_counter() - begun,
        }), flush=True)

asyncio.run(main())
"""


class Child:
    """A service under `scripts.proof.unsteady`."""

    def __init__(self, folder: Path) -> None:
        (folder / "service_to_disturb.py").write_text(SERVICE)
        command = ["scripts.proof.unsteady", "--child", str(folder), str(os.getpid())]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", *command, "service_to_disturb"],
            env=os.environ | {"PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ask()

    def ask(self) -> dict[str, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unsteady")


@pytest.fixture(scope="module")
def child(folder: Path) -> Iterator[Child]:
    made = Child(folder)
    with made.process:
        yield made
        made.process.kill()


def test_it_says_how_many_tasks_it_has(child, folder):
    # three that sleep and the one that asks
    assert count_tasks(folder, child.process.pid) == 4


def test_clocks_jump_and_jump_back(child, folder):
    before = child.ask()
    assert abs(before["wall"] - before["true"]) < 5
    disturb(folder, child.process.pid, Disturbance(wall_seconds=-3600, steady_seconds=600))
    now = child.ask()
    assert abs(now["wall"] + 3600 - now["true"]) < 5
    assert abs(now["ns"] - now["wall"]) < 5
    assert 600 <= now["steady"] - before["steady"] < 660
    disturb(folder, child.process.pid)
    after = child.ask()
    assert abs(after["wall"] - after["true"]) < 5
    assert 0 <= after["steady"] - before["steady"] < 60


def test_names_take_long_to_find(child, folder):
    assert child.ask()["find"] < 0.3
    disturb(folder, child.process.pid, Disturbance(dns_seconds=0.4))
    assert child.ask()["find"] >= 0.4
    disturb(folder, child.process.pid)
    assert child.ask()["find"] < 0.3


def test_who_does_not_listen_yet_is_left_alone(folder):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert count_tasks(folder, process.pid) is None
        disturb(folder, process.pid, Disturbance(wall_seconds=1))
        assert process.poll() is None, "the signal would have ended it"
