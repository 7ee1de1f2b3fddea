"""Fixtures for all tests: a PostgreSQL for the run, a fresh database for each test."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString
from urllib.parse import urlsplit

import hypothesis
import psycopg
import pytest
import valkey
from psycopg import sql
from pydantic import SecretStr

from scripts import valkey_server
from scripts.ports import claim_port
from storage import migrate
from storage.database_url import service_url
from storage.embedded import EmbeddedPostgres
from storage.sealing import MasterKeys
from storage.settings import Settings

_STOP_SECONDS = 40

# how long an example takes says more about the machine's other work than about the code
hypothesis.settings.register_profile("metrion", deadline=None)
hypothesis.settings.load_profile("metrion")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database-url",
        help="a superuser's URL to a PostgreSQL for these tests (default: the embedded one)",
    )
    parser.addoption(
        "--export-rows",
        type=int,
        default=5_000,
        help="rows of the account whose export's memory is measured (the claim is for 1,000,000)",
    )


@pytest.hookimpl(optionalhook=True)  # where xdist is not loaded
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: a third of the time tests wait for processes and sockets."""
    return (os.process_cpu_count() or 1) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables that tests made (`table`), also those of other processes."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, text in report.user_properties:
            if name == "table" and report.when == "call":
                terminalreporter.section(report.nodeid)
                terminalreporter.write_line(text)


@pytest.fixture
def table(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Text that belongs into the run's summary: what a proof has measured."""
    return lambda text: record_property("table", text)


@dataclass(frozen=True)
class FreshDatabase:
    """A migrated, empty database with everything that belongs to it."""

    administrator_url: SecretStr
    settings: Settings
    keys: MasterKeys

    def url(self, role: str) -> SecretStr:
        """The URL of a service role: metrion_proxy, metrion_api or metrion_jobs."""
        return service_url(self.settings, role)


class Cluster:
    """A PostgreSQL server with Metrion's roles, and fresh databases on it.

    A database is a copy of one that was migrated once, made while the test before is running.
    """

    def __init__(self, administrator_url: SecretStr, roles_folder: Path) -> None:
        self.administrator_url = administrator_url
        self.roles_folder = roles_folder
        self._template = f"metrion_template_{secrets.token_hex(4)}"
        self._execute("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", self._template)
        migrate.migrate(self.url_of(self._template), roles_folder)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="databases")
        self._next = self._worker.submit(self._make)

    @contextmanager
    def fresh_database(self, folder: Path) -> Iterator[FreshDatabase]:
        """Give a database, with a data directory in `folder` and master keys."""
        name = self._next.result()
        self._next = self._worker.submit(self._make)
        url = self.url_of(name)
        data_dir = folder / "data"
        data_dir.mkdir()
        (data_dir / "roles").symlink_to(self.roles_folder)  # roles belong to the whole server
        settings = Settings(data_dir=data_dir, database_url=url)
        yield FreshDatabase(url, settings, MasterKeys.create(settings.master_key_path))
        self.drop(name)

    def drop(self, name: str) -> Future[None]:
        """Drop a database, whoever is connected to it."""
        return self._worker.submit(self._execute, "DROP DATABASE {} WITH (FORCE)", name)

    def close(self) -> None:
        """Drop what is left of this run."""
        self.drop(self._next.result()).result()
        self.drop(self._template).result()
        self._worker.shutdown()

    def url_of(self, database: str) -> SecretStr:
        """The administrator's URL to a database of the server."""
        url = urlsplit(self.administrator_url.get_secret_value())
        return SecretStr(url._replace(path=f"/{database}").geturl())

    def _make(self) -> str:
        name = f"metrion_{secrets.token_hex(6)}"
        # its files, not its pages one by one through the write-ahead log: a third of the work
        self._execute("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, self._template)
        with psycopg.connect(self.url_of(name).get_secret_value()) as administrator:
            migrate.grant_database(administrator)
        return name

    def _execute(self, statement: LiteralString, *names: str) -> None:
        with psycopg.connect(self.administrator_url.get_secret_value(), autocommit=True) as server:
            server.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@pytest.fixture(scope="session")
def postgres(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The run's PostgreSQL server: nothing on it needs to survive a power cut."""
    given: str | None = request.config.getoption("--database-url")
    server = EmbeddedPostgres(
        tmp_path_factory.mktemp("postgres"),
        options={
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            # A connection that was given up in the middle of its log-in stays open until the
            # garbage collector comes by, and DROP DATABASE waits for such a one as for all others.
            "authentication_timeout": "10s",
        },
    )
    url = SecretStr(given) if given else server.start(stop_with_thread=True)
    try:
        cluster = Cluster(url, tmp_path_factory.mktemp("roles"))
        yield cluster
        cluster.close()
    finally:
        server.release()


@pytest.fixture
def database(postgres: Cluster, tmp_path: Path) -> Iterator[FreshDatabase]:
    """A fresh database of the run's server, with a data directory and master keys of its own."""
    with postgres.fresh_database(tmp_path) as fresh:
        yield fresh


class Valkey:
    """A Valkey server that can be killed and started again, on the same port.

    Attributes:
        url: where it is, with its password.
        client: of another make than the product's.
    """

    def __init__(self, folder: Path) -> None:
        self.configuration, self.url = valkey_server.configure(folder, claim_port(0, ""))
        self.password = urlsplit(self.url.get_secret_value()).password or ""
        self.client = valkey.from_url(self.url.get_secret_value())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; it answers when this returns. It is empty."""
        self._process = subprocess.Popen(
            [valkey_server.server_binary(), self.configuration], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client.ping()
            except valkey.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    @property
    def is_up(self) -> bool:
        return self._process is not None


@pytest.fixture(scope="session")
def valkey_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One server for the run."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    if server.is_up:
        server.kill()
    server.client.close()


@pytest.fixture(name="valkey")
def empty_valkey(valkey_of_the_run: Valkey) -> Valkey:
    """A Valkey server with nothing in it; a test may kill it."""
    if valkey_of_the_run.is_up:
        valkey_of_the_run.client.flushall()
    else:
        valkey_of_the_run.start()
    return valkey_of_the_run


@pytest.fixture(scope="module")
def start_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Start a process of Metrion by itself, as a production pod has it; gives its address.

    It gets `scripts.<module>`'s own data directory, and settings by their names in the environment.
    """
    started: list[subprocess.Popen[bytes]] = []

    def start(module: str, **settings: str) -> str:
        folder = tmp_path_factory.mktemp(module)
        port = claim_port(0, "")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("METRION_")}
        with (folder / "errors.txt").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"scripts.{module}", "--port", str(port)],
                cwd=folder,
                env=inherited | {"METRION_DATA_DIR": str(folder)} | settings,
                stderr=errors,
            )
        started.append(process)
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.terminate()
    codes = [process.wait(_STOP_SECONDS) for process in started]
    assert codes == [0] * len(started)
