"""Inputs that nobody would send: no crash, no hang, no growth, nothing forwarded unadmitted.

Here they come over sockets, to a proxy as production has it. Short forms run with the rest;
`scripts/test -m fuzz` runs the long ones, a million inputs and more together with those without
sockets (test_fuzz_in_process.py) and those to the REST API (tests/api/test_conformance.py). The
seed of a run is `FUZZ_SEED`; a failure says seed, number and bytes of its input.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.child_environment import base_environment
from scripts.fake_provider import FakeProvider
from scripts.ports import claim_port
from scripts.proof.fuzzing import census, fire
from scripts.proof.fuzzing.arrivals import OWN, Arrivals, Whose
from scripts.proof.fuzzing.callers import PROVIDERS, Callers, new_account
from scripts.proof.fuzzing.error_log import errors_in
from scripts.proof.fuzzing.fire import Range
from scripts.proof.fuzzing.tally import Tally
from scripts.proof.fuzzing.volley import answers, any_certificate
from scripts.proof.sampling import holding_of
from storage import accounts, keys, roles
from storage.database import Database
from storage.tokens import new_token

SEED = int(os.environ.get("FUZZ_SEED", "12"))
START_SECONDS = 60
SETTLE_SECONDS = 60
ROWS = """
    SELECT account_id::text, provider, endpoint, mode, count(*), array_agg(id::text)
    FROM metrion.request_logs WHERE overhead_ms IS NOT NULL
    GROUP BY account_id, provider, endpoint, mode
"""


def numbers(short: int, long: int) -> Any:
    """The two lengths of a test."""
    return pytest.mark.parametrize(
        "inputs",
        [pytest.param(short, id="short"), pytest.param(long, id="long", marks=pytest.mark.fuzz)],
    )


class Shooting:
    """A proxy process on a database of its own, and who calls it."""

    def __init__(self, database: Any, folder: Path, provider: FakeProvider) -> None:
        self.database = database
        self.folder = folder
        self.provider = provider
        self.tokens: dict[str, str] = {}
        self.callers = asyncio.run(self._make_callers())
        self.port = claim_port(0, "")
        origin = f'"{provider.origin}"'
        environment = {
            **base_environment(),
            "METRION_DATA_DIR": str(database.settings.data_dir),
            "METRION_DATABASE_URL": database.url(roles.PROXY).get_secret_value(),
            "METRION_ORIGINS": "{" + ", ".join(f'"{n}": {origin}' for n in PROVIDERS) + "}",
            "METRION_RATE_PER_MINUTE": "1000000000",
            "METRION_MONTHLY_REQUESTS_FREE": "0",
            "METRION_TIMEOUT_SECONDS": "2",
            "METRION_DRAIN_SECONDS": "1",
        }
        self.errors = folder / "errors.txt"
        self._tasks = folder / "tasks.txt"
        module = "scripts.proof.fuzzing.census"
        with self.errors.open("ab") as errors:  # appends: what was read is taken out
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, self._tasks, "--port", str(self.port)],
                env=environment,
                stderr=errors,
            )
        self.range = Range(
            self.port,
            self.process.pid,
            provider,
            self.callers,
            Arrivals(self.callers, provider.origin.removeprefix("http://")),
        )

    def start(self) -> None:
        """Wait until it answers; what it holds then is where it begins."""
        self.wait(lambda: asyncio.run(answers(self.port)), START_SECONDS)
        self.held = self.holds()

    async def _make_callers(self) -> Callers:
        as_api = Database(self.database.url(roles.API))
        try:
            good = [await self._make_account(as_api, "pro") for _ in range(2)]
            used_up = await self._make_account(as_api, "free")
            without_keys = await accounts.create_account(
                as_api, self.database.keys, "nokeys@example.com", "pro"
            )
            self.tokens[str(without_keys.id)] = without_keys.token  # may send keys of its own
            refused = (used_up.token, without_keys.token, new_token())
            return Callers(tuple(good), refused, tuple(used_up.keys.values()))
        finally:
            await as_api.close()

    async def _make_account(self, as_api: Database, plan: str) -> Any:
        email = f"{plan}{len(self.tokens)}@example.com"
        made = await accounts.create_account(as_api, self.database.keys, email, plan)
        account = new_account()
        async with as_api.account(made.id) as connection:
            for provider, key in account.keys.items():
                await keys.set_key(connection, self.database.keys, made.id, provider, key)
        self.tokens[str(made.id)] = made.token
        return type(account)(made.token, account.keys)

    def wait(self, condition: Callable[[], Any], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < until, self.errors.read_text()[-5000:]
            time.sleep(0.1)

    def holds(self) -> Any:
        """Memory, files and tasks of the process."""
        return holding_of(self.process.pid, lambda pid: census.ask(pid, self._tasks))

    def settle(self, tally: Tally) -> None:
        """All has ended: every request that arrived has its row, and nothing is held."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (missing := self._missing()) and time.monotonic() < deadline:
            time.sleep(0.3)
        for what in missing:
            tally.fail("not admitted", what)
        self.range.ids.clear()
        while (grown := self._grown()) and time.monotonic() < deadline:
            time.sleep(0.3)
        if grown:
            tally.fail("wrong", grown)
        for line in errors_in(self.errors.read_text(errors="replace")):
            tally.fail("crash", line[:2000])
        os.truncate(self.errors, 0)

    def _missing(self) -> list[str]:
        self.range.look(Tally("late", 0, 1))
        recorded: Counter[Whose] = Counter()
        ids: set[str] = set()
        with psycopg.connect(self.database.administrator_url.get_secret_value()) as administrator:
            for account, provider, endpoint, mode, count, some in administrator.execute(ROWS):
                ids.update(some)
                who = Whose(self.tokens[account], provider, endpoint)
                recorded[who if mode == "stored" else Whose(OWN, "", endpoint)] += count
        missing = self.range.arrivals.seen - recorded
        without = self.range.ids - ids
        return [f"{n} of {whose} without a row" for whose, n in missing.items()] + [
            f"answers without a row: {sorted(without)[:5]}" for _ in range(bool(without))
        ]

    def _grown(self) -> str | None:
        now = self.holds()
        if now.files > self.held.files + 300 or (now.tasks or 0) > (self.held.tasks or 0) + 8:
            return f"before {self.held}, now {now}"
        return None

    def stop(self) -> None:
        """It still ends as it should."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(START_SECONDS) == 0

    def kill(self) -> None:
        """Whatever has happened, it is gone."""
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def shooting(postgres, tmp_path_factory) -> Iterator[Shooting]:
    """The proxy that all tests of this file shoot at."""
    folder = tmp_path_factory.mktemp("fuzz")
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(postgres.fresh_database(folder))
        provider = stack.enter_context(FakeProvider())
        made = Shooting(database, folder, provider)
        stack.callback(made.kill)
        made.start()
        yield made
        made.stop()


@numbers(120, 15_000)
def test_requests_on_our_own_sockets(inputs, shooting, count):
    tally = Tally("HTTP/1.1, own sockets", SEED, inputs)
    asyncio.run(fire.fire_http1(shooting.range, tally))
    shooting.settle(tally)
    count(tally)
    assert tally.forwarded > inputs // 10


@numbers(50, 4_000)
def test_requests_on_mitmproxys_sockets(inputs, shooting, count):
    tally = Tally("HTTP/1.1, mitmproxy's (TLS)", SEED, inputs)
    asyncio.run(fire.fire_http1(shooting.range, tally, any_certificate("http/1.1")))
    shooting.settle(tally)
    count(tally)
    assert tally.forwarded > inputs // 10


@numbers(48, 2_500)
def test_http2_frames(inputs, shooting, count):
    tally = Tally("HTTP/2 connections", SEED, inputs)
    asyncio.run(fire.fire_http2(shooting.range, tally, any_certificate("h2")))
    shooting.settle(tally)
    count(tally)
    assert tally.forwarded > 0


@numbers(80, 12_000)
def test_json_bodies_arrive_as_they_are(inputs, shooting, count):
    tally = Tally("JSON bodies, sockets", SEED + 1, inputs)
    asyncio.run(fire.fire_bodies(shooting.range, tally))
    shooting.settle(tally)
    count(tally)
    assert tally.forwarded > inputs // 10


@numbers(60, 6_000)
def test_answers_on_our_own_sockets(inputs, shooting, count):
    tally = Tally("answers, own sockets", SEED + 1, inputs)
    asyncio.run(fire.fire_answers(shooting.range, tally))
    shooting.settle(tally)
    count(tally)


@numbers(30, 2_000)
def test_answers_on_mitmproxys_sockets(inputs, shooting, count):
    tally = Tally("answers, mitmproxy's (TLS)", SEED + 1, inputs)
    asyncio.run(fire.fire_answers(shooting.range, tally, any_certificate("http/1.1")))
    shooting.settle(tally)
    count(tally)
