"""Whole deployments: the supervisor and all that it starts, on real sockets and real files.

There are two in a run, because each takes seconds to start: one whose provider is a FakeProvider
in this process, so that tests see what a provider gets, and a demo, which tests may kill.
Accounts are cheap: every test makes its own, so no test sees the rows or limits of another.
"""

import asyncio
import contextlib
import email
import email.policy
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Self

import certifi
import httpx
import psycopg
import pytest

from addons.providers import load_providers
from scripts.fake_provider import FakeProvider
from scripts.fake_provider.records import RecordedRequest
from scripts.ports import claim_port
from scripts.proof.fuzzing.tally import Tally, as_table
from storage import accounts, keys, roles
from storage.database import Database
from storage.database_url import service_url
from storage.sealing import MasterKeys
from storage.settings import Settings

ROOT = Path(__file__).parent.parent.parent
PROVIDERS = {provider.name: provider for provider in load_providers()}
START_SECONDS = 90
STOP_SECONDS = 40
# Long enough for a busy machine to answer in, short enough to wait for when nobody answers.
TIMEOUT_SECONDS = 2.0
TOOL_SECONDS = 120
# What all keys and tokens of these tests look like; of a token, its last four may be shown.
SECRETS = re.compile(rb"CANARY|sk-OWN|sk-metrion-[0-9a-f]{5,}")
_numbers = itertools.count(1)


def wait_until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return result


def processes_under(pid: int) -> set[int]:
    """A process and all that come from it."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], check=True, capture_output=True, text=True
    )
    parents = {
        int(child): int(parent)
        for child, parent, state in map(str.split, listed.stdout.splitlines())
        if not state.startswith("Z")
    }
    found = {pid} & parents.keys()
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def is_running(pid: int) -> bool:
    """It exists and is no zombie."""
    return pid in processes_under(pid)


@dataclass(frozen=True)
class Account:
    """Somebody who uses the gateway."""

    email: str
    token: str
    keys: dict[str, str]


class Deployment:
    """A supervisor that can be started, stopped and killed, again and again.

    Attributes:
        data_dir: where it keeps everything.
        output: the file with what it printed, all of its lives in one.
        command: how it is started, but for the ready file.
        environment: what the command gets.
    """

    def __init__(self, folder: Path, command: list[str], environment: dict[str, str]) -> None:
        self.data_dir = folder / "data"
        self.output = folder / "output.txt"
        self.ready_file = folder / "ready.json"
        self.command = [
            *command,
            *("--data-dir", str(self.data_dir), "--proxy-port", "0", "--api-port", "0"),
        ]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("METRION_")}
        self.environment = inherited | environment
        self._process: subprocess.Popen[bytes] | None = None
        self._asyncio = asyncio.Runner()
        self._database: Database | None = None
        # no TLS is spoken here, and reading the certificates of the world takes 30 ms
        self._http = httpx.Client(verify=False)

    # ---- life and death ---------------------------------------------------------------------

    def start(self) -> float:
        """Start it; returns after how many seconds all of it answered."""
        begun = time.monotonic()
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*self.command, "--ready-file", str(self.ready_file)],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        while not self.ready_file.exists():
            assert self._process.poll() is None, self.said
            assert time.monotonic() - begun < START_SECONDS, self.said
            time.sleep(0.02)
        return time.monotonic() - begun

    def stop(self) -> float:
        """Stop it as an operator does; returns how long that took. Nothing may be left of it."""
        begun = time.monotonic()
        everything = self.processes
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(STOP_SECONDS) == 0, self.said
        seconds = time.monotonic() - begun
        left = {pid for pid in everything if is_running(pid)}
        assert not left, f"{left} go on\n{self.said}"
        assert not self.ready_file.exists()
        self._process = None
        return seconds

    def kill(self) -> None:
        """`kill -9` of every process of it at once."""
        everything = self.processes
        assert self._process is not None
        # first, so that it starts none of the others again
        self._process.kill()
        for pid in everything - {self._process.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not any(map(is_running, everything)))
        self._process = None
        # a killed supervisor cannot tidy up; the next one does, but the test would not wait for it
        self.ready_file.unlink()

    @property
    def is_up(self) -> bool:
        return self._process is not None

    @property
    def processes(self) -> set[int]:
        """The supervisor and all that it has started."""
        return processes_under(self.pid)

    def processes_of(self, pid: int) -> set[int]:
        """A process of it and all that come from it."""
        return processes_under(pid)

    @property
    def pid(self) -> int:
        """The supervisor."""
        assert self._process is not None
        return self._process.pid

    def check_for_leaks(self) -> None:
        """No secret of any test is in anything that it wrote: logs, journal, database, mails."""
        files = [path for path in self.data_dir.rglob("*") if path.is_file()]
        assert len(files) > 100  # PostgreSQL's are among them
        for path in (self.output, *files):
            assert not (found := SECRETS.search(path.read_bytes())), (path, found[0][:20])

    # ---- what it says -----------------------------------------------------------------------

    def files(self, folder: str) -> Iterator[tuple[Path, bytes]]:
        """What is in a folder, by name, with the contents. Files come and go while it is up."""
        for path in sorted((self.data_dir / folder).rglob("*")):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                yield path, path.read_bytes()

    def mails_to(self, address: str) -> list[EmailMessage]:
        """The mails to somebody, oldest first."""
        mails = [
            email.message_from_bytes(content, policy=email.policy.default)
            for path, content in self.files("mail")
            if path.suffix == ".eml"
        ]
        return [mail for mail in mails if str(mail["to"]).lower() == address.lower()]

    def newest_code(self, address: str, about: str = "is your code for Metrion") -> str | None:
        """The code in the newest mail to somebody about something; None: there is no such mail."""
        subjects = [str(mail["subject"]) for mail in self.mails_to(address)]
        codes = [subject[:6] for subject in subjects if about in subject]
        return codes[-1] if codes else None

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def ready(self) -> dict[str, Any]:
        return json.loads(self.ready_file.read_text())

    @property
    def proxy_url(self) -> str:
        return self.ready["proxy_url"]

    @property
    def api_url(self) -> str:
        return self.ready["api_url"]

    @property
    def urls(self) -> tuple[str, str]:
        return self.proxy_url, self.api_url

    # ---- accounts and rows ------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        return Settings(data_dir=self.data_dir)

    def create_account(self, plan: str = "pro", *, with_keys: bool = True) -> Account:
        """Make an account, with a key of its own for every provider."""
        number = next(_numbers)
        secrets = {name: f"sk-CANARY-{name}-{number:08d}-{'x' * 24}" for name in PROVIDERS}
        secrets["anthropic"] = f"sk-ant-CANARY-{number:08d}-{'x' * 24}"
        return self._asyncio.run(
            self._create_account(f"person{number}@example.com", plan, secrets if with_keys else {})
        )

    async def _create_account(self, email: str, plan: str, secrets: dict[str, str]) -> Account:
        master_keys = MasterKeys.load(self.settings)
        if self._database is None:
            self._database = Database(service_url(self.settings, roles.API), pool_size=1)
        new = await accounts.create_account(self._database, master_keys, email, plan)
        async with self._database.account(new.id) as connection:
            for provider, key in secrets.items():
                await keys.set_key(connection, master_keys, new.id, provider, key)
        return Account(email, new.token, secrets)

    def close(self) -> None:
        """Let go of what the test's side holds; before `stop`."""
        if self._database is not None:
            self._asyncio.run(self._database.close())
        self._asyncio.close()
        self._http.close()

    def rows(self, token: str, count: int) -> list[dict[str, Any]]:
        """The account's log, newest first, once it has `count` rows; more are a failure."""

        def enough() -> list[dict[str, Any]] | None:
            answer = self._http.get(
                f"{self.api_url}/api/v1/logs?limit=1000",
                headers={"authorization": f"Bearer {token}"},
            )
            assert answer.status_code == 200, answer.text
            found = answer.json()["items"]
            return found if len(found) >= count else None

        found = wait_until(enough)
        assert len(found) == count
        return found


class Tool:
    """mitmdump or mitmweb, started by hand.

    Attributes:
        url: where it serves, if it does.
        output: the file with all that it printed.
    """

    def __init__(self, deployment, folder: Path, name: str, *flags: str, **variables: str) -> None:
        self.port = claim_port(0, "")
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = folder / f"{name}-{self.port}.txt"
        data_dir = {"METRION_DATA_DIR": str(deployment.data_dir)}
        listen = ("--listen-host", "127.0.0.1", "-p", str(self.port))
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name(name)),
                    *flags,
                    *listen,
                    *("--set", f"confdir={folder / 'mitmproxy'}"),
                ],
                cwd=ROOT,
                env=deployment.environment | data_dir | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def is_listening(self) -> bool:
        assert self.process.poll() is None, self.said
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(TOOL_SECONDS) == 0, self.said


class Caller:
    """An account that calls in one of the two modes (SPEC section 3).

    Attributes:
        account: whose token it is.
        mode: `stored` or `pass-through`, as rows say it.
        headers: what an SDK has to send beside its key.
    """

    def __init__(self, account: Account, mode: str) -> None:
        self.account = account
        self.mode = mode
        self.headers = {} if mode == "stored" else {"x-metrion-token": account.token}

    def key(self, provider: str) -> str:
        """What the SDK is given as its key."""
        return self.account.token if self.mode == "stored" else f"sk-OWN-{provider}-{'y' * 24}"

    def key_on_the_wire(self, provider: str) -> str:
        """What the provider has to get."""
        return self.account.keys[provider] if self.mode == "stored" else self.key(provider)


class Ledger:
    """All that a deployment has recorded, as its administrator reads it."""

    ROWS = """
        SELECT l.id::text AS id, a.email AS person, l.created_at, l.provider, l.mode, l.status,
          l.outcome, l.streamed, l.cached, l.requester, l.input_tokens, l.output_tokens,
          l.total_tokens, l.cache_read_tokens, l.reasoning_tokens, l.cost_usd, l.left_out,
          outcome <> 'refused' AND (overhead_ms IS NOT NULL OR cached) AS forwarded
        FROM metrion.request_logs AS l JOIN metrion.accounts AS a ON a.id = l.account_id
    """
    SUMS = """
        count(*), count(*) FILTER (WHERE status >= 400),
        count(*) FILTER (WHERE outcome <> 'refused' AND (overhead_ms IS NOT NULL OR cached)),
        count(*) FILTER (WHERE cached),
        coalesce(sum(input_tokens), 0), coalesce(sum(cache_read_tokens), 0),
        coalesce(sum(cache_write_tokens), 0), coalesce(sum(output_tokens), 0),
        coalesce(sum(reasoning_tokens), 0), coalesce(sum(total_tokens), 0),
        coalesce(sum(cost_usd), 0), coalesce(sum(saved_usd), 0), coalesce(sum(left_out), 0)
    """
    RECORDED = """
        sum(requests), sum(errors), sum(forwarded), sum(cached), sum(input_tokens),
        sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens),
        sum(total_tokens), sum(cost_usd), sum(saved_usd), sum(left_out)
    """
    GROUPS = "provider, coalesce(model, ''), coalesce(requester, '')"
    MONTHS = """
        SELECT a.email, date_trunc('month', u.day)::date::text, sum(u.forwarded)
        FROM metrion.usage_days AS u JOIN metrion.accounts AS a ON a.id = u.account_id GROUP BY 1, 2
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(query.encode()).fetchall()

    def rows(self) -> list[dict[str, Any]]:
        cursor = self._connection.execute(self.ROWS.encode())
        names = [column.name for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def sums(self, table: str) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """What rows add up to, and what `usage_hours` or `usage_days` says, group by group."""
        moment = table.removeprefix("usage_").removesuffix("s")
        begin = f"date_trunc('{moment}', created_at AT TIME ZONE 'UTC')"
        begin = f"({begin})::date" if moment == "day" else f"{begin} AT TIME ZONE 'UTC'"
        grouping = "GROUP BY 1, 2, 3, 4, 5"
        of_rows = (
            f"SELECT account_id, {begin}, {self.GROUPS}, {self.SUMS} FROM metrion.request_logs"
        )
        groups = f"account_id, {moment}, provider, model, requester"
        return (
            self.ask(f"{of_rows} {grouping}"),
            self.ask(f"SELECT {groups}, {self.RECORDED} FROM metrion.{table} {grouping}"),
        )


@pytest.fixture(scope="session")
def ledger_type() -> type[Ledger]:
    """To read all that a deployment has recorded."""
    return Ledger


@pytest.fixture(scope="module")
def few_certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """SDKs read the certificates of all the world for each client: 30 ms, and none is needed."""
    one, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    bundle = tmp_path_factory.mktemp("certificates") / "one.pem"
    bundle.write_text(one + end)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(bundle))
        yield


@pytest.fixture(scope="session")
def fake_provider() -> Iterator[FakeProvider]:
    """The provider behind `deployment`."""
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def provider(fake_provider: FakeProvider) -> FakeProvider:
    """The provider behind `deployment`; its record is empty."""
    fake_provider.clear()
    return fake_provider


@pytest.fixture(scope="session")
def deployment(
    fake_provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment as in production, only with short time-outs."""
    running = Deployment(
        tmp_path_factory.mktemp("deployment"),
        [sys.executable, "-P", "-m", "scripts.supervisor"],
        {
            "METRION_ORIGINS": json.dumps(dict.fromkeys(PROVIDERS, fake_provider.origin)),
            "METRION_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
            "METRION_DRAIN_SECONDS": str(TIMEOUT_SECONDS),
        },
    )
    running.start()
    yield running
    shown = b"".join(httpx.get(f"{url}/metrics").content for url in running.urls)
    assert b"metrion_requests" in shown
    assert not SECRETS.search(shown)
    running.close()
    running.stop()
    running.check_for_leaks()


@pytest.fixture(scope="session")
def demo_deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """What `scripts/run --demo` gives, not started."""
    folder = tmp_path_factory.mktemp("demo")
    running = Deployment(folder, [str(ROOT / "scripts" / "run"), "--demo"], {})
    yield running
    running.close()
    if running.is_up:
        running.stop()
    shutil.rmtree(folder / "data")


@pytest.fixture(scope="module")
def make_deployment(
    fake_provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Deployment]]:
    """A function that starts a module's own deployment, with settings of its own."""
    started: list[Deployment] = []

    def make(**settings: str) -> Deployment:
        origins = json.dumps(dict.fromkeys(PROVIDERS, fake_provider.origin))
        running = Deployment(
            tmp_path_factory.mktemp("own"),
            [sys.executable, "-P", "-m", "scripts.supervisor"],
            {"METRION_ORIGINS": origins} | settings,
        )
        running.start()
        started.append(running)
        return running

    yield make
    for running in started:
        running.close()
        running.stop()


@pytest.fixture
def demo(demo_deployment: Deployment) -> Deployment:
    """A running demo; a test may stop or kill it."""
    if not demo_deployment.is_up:
        demo_deployment.start()
    return demo_deployment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tools of a module write."""
    return tmp_path_factory.mktemp("tools")


@pytest.fixture(scope="module")
def web_port() -> int:
    """Where mitmweb shows its page; claimed just before it starts."""
    return claim_port(0, "")


@pytest.fixture(scope="module")
def run(deployment: Deployment, folder: Path) -> Iterator[Callable[..., Tool]]:
    """Run one of mitmproxy's tools with flags and environment variables; none is left running."""
    tools: list[Tool] = []

    def run(name: str, *flags: str, **variables: str) -> Tool:
        tools.append(Tool(deployment, folder, name, *flags, **variables))
        return tools[-1]

    yield run
    for tool in tools:
        if tool.process.poll() is None:
            tool.process.kill()
            tool.process.wait()


@pytest.fixture
def account(deployment: Deployment) -> Account:
    """An account of `deployment`, with a key for every provider."""
    return deployment.create_account()


@pytest.fixture(scope="module", params=["stored", "pass-through"])
def caller(request: pytest.FixtureRequest, deployment: Deployment) -> Caller:
    """Somebody who calls `deployment`, in each of the two modes; the same one for a module."""
    return Caller(deployment.create_account(), request.param)


@pytest.fixture
def arrived(provider: FakeProvider, caller: Caller) -> Callable[..., RecordedRequest]:
    """Check the last request that the provider got: its own key, and nothing of Metrion's."""

    def check(name: str, path: str) -> RecordedRequest:
        request = provider.requests[-1]
        assert request.path == path
        place = PROVIDERS[name].key_place
        bearer = request.header("authorization")
        if "openai" in path:  # Gemini's compatible endpoint
            assert bearer == f"Bearer {caller.key_on_the_wire(name)}"
        else:
            assert request.header(place.header) == place.prefix + caller.key_on_the_wire(name)
            assert place.header == "authorization" or bearer is None
        assert caller.account.token.encode() not in request.head + request.body
        assert not provider.leaks
        assert not provider.violations
        return request

    return check


@pytest.fixture(scope="session")
def deployment_type() -> type[Deployment]:
    """To start one of another kind."""
    return Deployment


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`wait_until`, for tests."""
    return wait_until


@pytest.fixture
def count(table) -> Callable[[Tally], None]:
    """Show a tally in the run's summary; none of what it counts may have gone wrong."""

    def look(tally: Tally) -> None:
        tally.check_growth()
        table(as_table([tally]))
        assert not tally.failures, "\n".join(tally.failures)
        assert tally.inputs == tally.planned

    return look
