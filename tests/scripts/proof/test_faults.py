"""The schedule, and the hand that carries it out, on processes that only sleep."""

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.proof import faults
from scripts.proof.faults import Chaos, schedule
from scripts.proof.traffic import Person, Traffic

ALL = (*faults.KILLS, *faults.OTHERS, faults.ALL_AT_ONCE)


def test_a_schedule_is_its_seed():
    assert schedule(1, 60, ALL, 3) == schedule(1, 60, ALL, 3)
    assert schedule(1, 60, ALL, 3) != schedule(2, 60, ALL, 3)


@pytest.mark.parametrize("seed", range(5))
def test_a_schedule_has_everything_once_and_then_again(seed):
    planned = schedule(seed, 200, ALL, 3)
    first = planned[: len(ALL)]
    assert {each.name for each in first} == set(ALL)
    assert len(planned) > len(ALL)
    assert [each.at for each in planned] == sorted(each.at for each in planned)
    assert planned[-1].at < 200


class Sleeper:
    """Deployment whose processes sleep; who is killed is started again at the next look."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder
        (folder / "journal").mkdir()
        self.dropped = 0
        self.starts = 0
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.start()

    def start(self) -> float:
        for name in (*faults.KILLS[:2], *faults.KILLS[3:]):
            self.children[name] = subprocess.Popen(
                [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
            )
        self.starts += 1
        return 0.0

    def kill(self) -> None:
        for child in self.children.values():
            child.kill()
            child.communicate()

    @property
    def ready(self):
        for name, child in self.children.items():
            if child.poll() is not None:
                child.communicate()
                self.children[name] = subprocess.Popen(
                    [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
                )
        return {"pids": {name: child.pid for name, child in self.children.items()}, "proxy_url": ""}


class Switch:
    """Counts how often it was gone."""

    def __init__(self) -> None:
        self.gone = 0
        self.is_there = True

    def stop(self) -> None:
        self.gone += 1
        self.is_there = False

    def start(self) -> None:
        self.is_there = True


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Sleeper]:
    made = Sleeper(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def chaos(sleeper: Sleeper, tmp_path: Path, monkeypatch) -> Chaos:
    monkeypatch.setattr(faults, "_STORE_SECONDS", 0.1)
    person = Person("anna@example.com", "token")
    traffic = Traffic([person], lambda: "", seed=1, rate=1, clients=1)
    return Chaos(sleeper, tmp_path, traffic, providers=Switch(), mail_server=Switch(), seed=1)


def run(chaos: Chaos, *names: str) -> None:
    asyncio.run(chaos.run([faults.Appointment(0.0, name) for name in names]))
    assert set(chaos.happened.counts) == set(names)


def test_processes_are_killed_and_waited_for(chaos, sleeper):
    before = sleeper.ready["pids"]
    run(chaos, "both proxies", "jobs", "valkey")
    after = sleeper.ready["pids"]
    killed = {name for name in before if before[name] != after[name]}
    assert killed == {"proxy-1", "proxy-2", "jobs", "valkey"}
    assert len(chaos.happened.mail_kills) == 1
    ((begin, end),) = chaos.happened.uncertain
    assert end - begin >= 0.1


def test_everything_is_killed_at_once(chaos, sleeper):
    run(chaos, faults.ALL_AT_ONCE)
    assert sleeper.starts == 2
    assert len(chaos.happened.uncertain) == 1


def test_two_faults_of_one_process_wait_for_each_other(chaos, sleeper):
    run(chaos, "api", "api")
    assert chaos.happened.counts == {"api": 2}


def test_the_disk_is_full_for_a_while(chaos, sleeper, monkeypatch):
    seen: list[int] = []

    async def dropped(number: int) -> int:
        pid = sleeper.children[f"proxy-{number}"].pid
        seen.append(resource.prlimit(pid, resource.RLIMIT_FSIZE)[0])
        return len(seen) * 3

    monkeypatch.setattr(chaos, "_dropped", dropped)
    run(chaos, "full disk")
    assert seen == [resource.RLIM_INFINITY] * 2, "before and after"
    assert chaos.happened.dropped == 3
    ((begin, end),) = chaos.happened.disk_was_full
    assert end > begin


def test_a_process_without_room_cannot_write(tmp_path):
    code = "import sys; f = open(sys.argv[1], 'wb', 0); input(); f.write(b'x' * 100); f.write(b'y')"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "file")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
        _, said = process.communicate(b"\n")
    assert b"OSError" in said
    assert (tmp_path / "file").stat().st_size == 20, "in the middle"


def test_switches_and_shares_come_back(chaos):
    begun = time.monotonic()
    run(chaos, "providers gone", "mail server gone", "bad answers", "clients reset")
    assert time.monotonic() - begun < 10
    for switch in (chaos._providers, chaos._mail_server):
        assert (switch.gone, switch.is_there) == (1, True)
    usual = type(chaos._traffic.shares)()
    assert chaos._traffic.shares == usual


def test_clocks_and_names(chaos, sleeper, monkeypatch):
    told: list[faults.Disturbance] = []
    monkeypatch.setattr(faults, "disturb", lambda _, __, what: told.append(what))
    run(chaos, "wall clock", "slow DNS")
    assert any(each.wall_seconds for each in told)
    assert sum(each.dns_seconds > 0 for each in told) == 2
    assert told[-1] == faults.Disturbance()
    told.clear()
    asyncio.run(chaos.run([faults.Appointment(0.0, "steady clock")]))
    assert told[0].steady_seconds == told[-1].steady_seconds != 0, "it does not go back"
