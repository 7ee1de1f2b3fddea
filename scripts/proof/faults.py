"""What goes wrong in a chaos run: a schedule from a seed, and a hand that carries it out.

Processes are killed with -9 and come back by themselves. The disk is full for one proxy process by
a limit on the size of its files (RLIMIT_FSIZE): every write to its journal fails, or stops in the
middle of a record, as on a disk without room; this needs neither root nor a disk to spare. Clocks
and names go wrong by `scripts.proof.unsteady`. Providers break answers as their requests say
(`scripts.proof.calls.break_answer`), and some are not there at all for a while.
"""

import asyncio
import os
import resource
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol
from urllib.request import urlopen

from scripts.proof.traffic import Traffic
from scripts.proof.unsteady import Disturbance, disturb

BACK_SECONDS: Final = 60.0
"""How long a process may take to come back."""
_STORE_SECONDS: Final = 8.0
"""How long after its return the shared count may not be whole: proxies look for it by and by."""
_ROWS_SECONDS: Final = 15.0
"""How long rows may be under way to the database, from which a new process knows of a month."""
_LOOK_SECONDS: Final = 0.05
_WORKERS: Final = ("proxy-1", "proxy-2")
_HOUR: Final = 3600

KILLS: Final = ("proxy-1", "proxy-2", "both proxies", "api", "jobs", "postgres", "valkey")
OTHERS: Final = (
    "full disk",
    "wall clock",
    "steady clock",
    "slow DNS",
    "providers gone",
    "bad answers",
    "clients reset",
    "mail server gone",
)
ALL_AT_ONCE: Final = "everything"


class Deployment(Protocol):
    """What is disturbed."""

    data_dir: Path

    @property
    def ready(self) -> dict[str, Any]:
        """Where everything is, and by which process."""
        ...

    def kill(self) -> None:
        """Kill all processes at once."""
        ...

    def start(self) -> float:
        """Start again."""
        ...


class Switch(Protocol):
    """Something that can be gone for a while: providers, a mail server."""

    def start(self) -> object:
        """Let it be there."""
        ...

    def stop(self) -> None:
        """Let it be gone."""
        ...


@dataclass(frozen=True, slots=True)
class Appointment:
    """When what goes wrong."""

    at: float
    name: str


def schedule(seed: int, seconds: float, names: Sequence[str], pause: float) -> list[Appointment]:
    """Draw what goes wrong: each name once, in any order, then any again but for `ALL_AT_ONCE`.

    Args:
        seed: of all chances.
        seconds: no fault begins later.
        names: of faults.
        pause: seconds between two beginnings, on average.
    """
    chance = Random(f"{seed}/schedule")  # noqa: S311 - chances, not secrets
    once, again = list(names), [name for name in names if name != ALL_AT_ONCE]
    chance.shuffle(once)
    found: list[Appointment] = []
    at = 1.0
    while at < seconds:
        found.append(Appointment(round(at, 2), once.pop() if once else chance.choice(again)))
        at += chance.uniform(0.2, 2 * pause - 0.2)
    return found


@dataclass
class Happened:
    """What a run did.

    Attributes:
        counts: fault → how often it was done.
        disk_was_full: from when to when.
        dropped: rows that proxies counted as dropped meanwhile.
        uncertain: when the shared count was away, or whoever counts was new.
        forgetful: when a proxy began anew, or its steady clock leapt.
        mail_kills: when the jobs process or the database was killed.
    """

    counts: Counter[str] = field(default_factory=Counter[str])
    disk_was_full: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    dropped: int = 0
    uncertain: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    forgetful: list[float] = field(default_factory=list[float])
    mail_kills: list[float] = field(default_factory=list[float])


class Chaos:
    """Carries out a schedule.

    Args:
        deployment: two workers and all the rest, started by `scripts.proof.unsteady`.
        folder: that `unsteady` was given.
        traffic: goes on meanwhile.
        providers: may be gone.
        mail_server: may be gone.
        seed: of all chances.
    """

    def __init__(
        self,
        deployment: Deployment,
        folder: Path,
        traffic: Traffic,
        *,
        providers: Switch,
        mail_server: Switch,
        seed: int,
    ) -> None:
        self.happened = Happened()
        self._deployment = deployment
        self._folder = folder
        self._traffic = traffic
        self._providers = providers
        self._mail_server = mail_server
        self._chance = Random(f"{seed}/faults")  # noqa: S311 - chances, not secrets
        self._slept: defaultdict[int, float] = defaultdict(float)  # process → of its steady clock
        # what is disturbed is not disturbed a second time meanwhile
        self._locks = {name: asyncio.Lock() for name in (*KILLS, *OTHERS)}

    async def run(self, appointments: Sequence[Appointment]) -> None:
        """Do it all; returns when everything is back."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for appointment in appointments:
                await asyncio.sleep(max(0.0, begun + appointment.at - time.monotonic()))
                tasks.create_task(self._do(appointment.name))

    async def _do(self, name: str) -> None:
        if name == ALL_AT_ONCE:
            await self._kill_everything()
        elif name == "both proxies":
            async with asyncio.TaskGroup() as tasks:
                for worker in _WORKERS:
                    tasks.create_task(self._kill(worker))
        elif name in KILLS:
            await self._kill(name)
        else:
            await self._disturb(name)
        self.happened.counts[name] += 1

    async def _disturb(self, name: str) -> None:
        others: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "full disk": self._fill_disk,
            "wall clock": self._jump,
            "steady clock": self._jump_steadily,
            "slow DNS": self._slow_names,
            "providers gone": lambda: self._switch(self._providers, name),
            "mail server gone": lambda: self._switch(self._mail_server, name),
            "bad answers": lambda: self._share("broken_answers", name),
            "clients reset": lambda: self._share("hang_ups", name),
        }
        await others[name]()

    # ---- processes --------------------------------------------------------------------------

    async def _kill(self, name: str) -> None:
        async with self._locks[name]:
            pid = await self._until(lambda: self._pid(name))
            with self._uncertain(name):
                os.kill(pid, signal.SIGKILL)
                if name in {"jobs", "postgres"}:
                    self.happened.mail_kills.append(time.monotonic())
                if name in _WORKERS:
                    self.happened.forgetful.append(time.monotonic())
                await self._until(lambda: (self._pid(name) or pid) != pid)
                if name == "valkey":
                    await asyncio.sleep(_STORE_SECONDS)

    @contextmanager
    def _uncertain(self, name: str) -> Generator[None]:
        """Note from when to when the limits of accounts may be known less than exactly."""
        begun = time.monotonic()
        yield
        if name == "valkey":
            self.happened.uncertain.append((begun, time.monotonic()))
        elif name == ALL_AT_ONCE:
            window = begun - _ROWS_SECONDS, time.monotonic() + _ROWS_SECONDS
            self.happened.uncertain.append(window)

    async def _kill_everything(self) -> None:
        names = [name for name in self._locks if name not in OTHERS or name == "full disk"]
        async with self._all(names):
            with self._uncertain(ALL_AT_ONCE):
                self.happened.mail_kills.append(time.monotonic())
                self.happened.forgetful += [time.monotonic()] * len(_WORKERS)
                await asyncio.to_thread(self._deployment.kill)
                await asyncio.to_thread(self._deployment.start)

    def _all(self, names: Sequence[str]) -> "_Locks":
        return _Locks([self._locks[name] for name in names])

    def _pid(self, name: str) -> int | None:
        try:
            return self._deployment.ready["pids"].get(name)
        except FileNotFoundError:
            return None

    async def _until[Thing](self, look: Callable[[], Thing | None]) -> Thing:
        """Wait until there is something.

        Raises:
            TimeoutError: a process did not come back.
        """
        async with asyncio.timeout(BACK_SECONDS):
            while not (found := look()):  # noqa: ASYNC110 - a file is looked at
                await asyncio.sleep(_LOOK_SECONDS)
        return found

    # ---- the disk ---------------------------------------------------------------------------

    async def _fill_disk(self) -> None:
        """Let one proxy have no room for its journal for a while; it counts the rows it drops."""
        number = self._chance.choice((1, 2))
        async with self._all([f"proxy-{number}", "full disk"]):
            pid = await self._until(lambda: self._pid(f"proxy-{number}"))
            before = await self._dropped(number)
            limit = self._chance.choice((0, 20, self._room(pid)))
            begun = time.monotonic()
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            await asyncio.sleep(self._chance.uniform(0.3, 1.5))
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
            self.happened.disk_was_full.append((begun, time.monotonic()))
            self.happened.dropped += await self._dropped(number) - before

    def _room(self, pid: int) -> int:
        """A little more than the process's newest segment has: a record is cut in the middle."""
        segments = sorted((self._deployment.data_dir / "journal").glob(f"*-{pid}-*.journal"))
        size = segments[-1].stat().st_size if segments else 0
        return size + self._chance.randrange(50, 2000)

    async def _dropped(self, number: int) -> int:
        """How many rows a worker says that it has dropped."""

        def ask() -> int | None:
            url = f"{self._deployment.ready['proxy_url']}/metrics?worker={number}"
            try:
                with urlopen(url, timeout=5) as answer:  # noqa: S310 - our own, on this machine
                    text = answer.read().decode()
            except OSError:
                return None
            return 1 + int(float(text.partition("\nmetrion_recorder_dropped_total ")[2].split()[0]))

        deadline = time.monotonic() + BACK_SECONDS
        while (found := await asyncio.to_thread(ask)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError
            await asyncio.sleep(_LOOK_SECONDS)
        return found - 1

    # ---- clocks and names -------------------------------------------------------------------

    async def _jump(self) -> None:
        """Let the wall clock of one proxy jump, forward or back, and back again."""
        now, worker = datetime.now(UTC), self._chance.choice(_WORKERS)
        jumps = [s * h * _HOUR for s in (-1, 1) for h in (0.01, 0.2, 1, 5, 24)]
        # whose month is another one has another allowance
        jumps = [each for each in jumps if (now + timedelta(seconds=each)).month == now.month]
        jump = self._chance.choice(jumps)
        await self._live_by(worker, self._chance.uniform(0.5, 3), wall_seconds=jump)

    async def _jump_steadily(self) -> None:
        """Let the steady clock of one proxy jump: a machine that slept, or a hypervisor's slip."""
        jump, worker = self._chance.choice((-0.5, 1.0, 30.0, 600.0)), self._chance.choice(_WORKERS)
        pid = await self._until(lambda: self._pid(worker))
        # for good: a steady clock that goes back by much is none, and nothing could wait by it
        self._slept[pid] += jump
        self.happened.forgetful.append(time.monotonic())
        await self._live_by(worker, 0.0)

    async def _live_by(
        self, worker: str, seconds: float, *, wall_seconds: float = 0.0, dns_seconds: float = 0.0
    ) -> None:
        async with self._locks[worker]:
            pid = await self._until(lambda: self._pid(worker))
            slept = self._slept[pid]
            what = Disturbance(wall_seconds, slept, dns_seconds)
            await asyncio.to_thread(disturb, self._folder, pid, what)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(disturb, self._folder, pid, Disturbance(steady_seconds=slept))

    async def _slow_names(self) -> None:
        seconds = self._chance.choice((0.3, 1.0, 3.0))
        async with asyncio.TaskGroup() as tasks:
            for worker in _WORKERS:
                tasks.create_task(self._live_by(worker, 2.5, dns_seconds=seconds))

    # ---- everybody else ---------------------------------------------------------------------

    async def _switch(self, what: Switch, name: str) -> None:
        async with self._locks[name]:
            await asyncio.to_thread(what.stop)
            await asyncio.sleep(self._chance.uniform(0.5, 3))
            await asyncio.to_thread(what.start)

    async def _share(self, name: str, fault: str) -> None:
        async with self._locks[fault]:
            usual = getattr(self._traffic.shares, name)
            setattr(self._traffic.shares, name, 0.6)
            await asyncio.sleep(self._chance.uniform(1, 3))
            setattr(self._traffic.shares, name, usual)


class _Locks:
    """Several locks at once, always taken in the same order: by nobody else meanwhile."""

    def __init__(self, locks: Sequence[asyncio.Lock]) -> None:
        self._locks = locks

    async def __aenter__(self) -> None:
        for lock in self._locks:
            await lock.acquire()

    async def __aexit__(self, *exception: object) -> None:
        for lock in self._locks:
            lock.release()
