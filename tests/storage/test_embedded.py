"""The embedded server's life: sharing, crashes, odd places. Each test has a server of its own."""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from storage import embedded
from storage.embedded import EmbeddedPostgres, administrator_url
from storage.embedded_process import is_postmaster
from storage.errors import EmbeddedDatabaseError

FAST = {"fsync": "off", "full_page_writes": "off"}
PR_SET_CHILD_SUBREAPER = 36
HOLDER = """
import json, sys
from pathlib import Path
from storage.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), options={"fsync": "off"})
url = server.start(stop_with_thread=sys.argv[2] == "owner").get_secret_value()
print(json.dumps({"pid": server.pid, "url": url}), flush=True)
sys.stdin.readline()
print(json.dumps(server.release()), flush=True)
"""


class Holder:
    """Another process that uses the server of a data directory."""

    def __init__(self, data_dir: Path, role: str = "user") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(data_dir), role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def started(self) -> dict[str, Any]:
        return json.loads(self.process.stdout.readline())

    def release(self) -> bool:
        said, _ = self.process.communicate("\n", timeout=60)
        return json.loads(said)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def hold(data_dir: Path) -> Iterator[Callable[..., Holder]]:
    holders: list[Holder] = []

    def start(role: str = "user") -> Holder:
        holders.append(Holder(data_dir, role))
        return holders[-1]

    yield start
    for holder in holders:
        if holder.process.poll() is None:
            holder.kill()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose cluster has been made; copied, never used."""
    data_dir = tmp_path_factory.mktemp("made")
    with EmbeddedPostgres(data_dir, options=FAST):
        pass
    return data_dir


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """A data directory that does not exist yet; nothing runs in it afterwards."""
    data_dir = tmp_path / "data"
    yield data_dir
    with contextlib.suppress(EmbeddedDatabaseError):
        server = EmbeddedPostgres(data_dir, options=FAST)
        administrator_url(data_dir)  # only if it runs
        server.start()
        server.release()


@pytest.fixture
def data_dir(empty: Path, made: Path) -> Path:
    """A data directory with a cluster that does not run."""
    subprocess.run(["cp", "-a", made, empty], check=True)
    return empty


def cluster_of(data_dir: Path) -> Path:
    return data_dir / "postgres" / "cluster"


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_four_processes_race_for_a_fresh_directory(empty: Path):
    holders = [Holder(empty) for _ in range(4)]
    pids = {holder.started()["pid"] for holder in holders}
    assert len(pids) == 1
    assert [holder.release() for holder in holders] == [False] * 3 + [True]
    assert not is_postmaster(pids.pop())
    with pytest.raises(EmbeddedDatabaseError, match="is not running: start it with scripts/run"):
        administrator_url(empty)


def test_what_was_written_is_there_the_next_time(data_dir: Path):
    with (
        EmbeddedPostgres(data_dir, options=FAST) as server,
        psycopg.connect(server.url.get_secret_value()) as connection,
    ):
        connection.execute("CREATE TABLE kept (x int)")
    with (
        EmbeddedPostgres(data_dir, options=FAST),
        psycopg.connect(administrator_url(data_dir).get_secret_value()) as connection,
    ):
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_killed_users_leave_no_lease_behind_and_the_next_one_adopts_the_server(
    hold: Callable[..., Holder],
):
    one, other = hold(), hold()
    one.started()
    pid = other.started()["pid"]
    one.kill()
    other.kill()
    third = hold()
    assert third.started()["pid"] == pid
    assert third.release() is True
    assert not is_postmaster(pid)


def test_a_server_stops_with_its_owner_and_the_next_start_works_at_once(
    hold: Callable[..., Holder],
):
    one = hold("owner")
    pid = one.started()["pid"]
    one.kill()
    other = hold("owner")  # while the first server may still be stopping
    assert other.started()["pid"] != pid
    assert not is_postmaster(pid)
    assert other.release() is True


def test_a_killed_server_keeps_what_it_acknowledged(data_dir: Path):
    server = EmbeddedPostgres(data_dir)
    with psycopg.connect(server.start().get_secret_value(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (x int)")
        for number in range(300):
            connection.execute("INSERT INTO kept VALUES (%s)", [number])
        pid = server.pid
        os.kill(pid, signal.SIGKILL)
        server.start()  # also: a zombie of our own, and backends that still hold shared memory
    assert server.pid != pid
    with psycopg.connect(server.url.get_secret_value()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (300,)
    assert server.release() is True
    assert server.pid is None


def test_a_pid_file_that_names_a_stranger_does_not_keep_it_from_starting(data_dir: Path):
    stranger = subprocess.Popen(["sleep", "60"])
    pid_file = cluster_of(data_dir) / "postmaster.pid"
    pid_file.write_text(f"{stranger.pid}\n{cluster_of(data_dir)}\n1700000000\n5432\n\n\n 1 2\n")
    with EmbeddedPostgres(data_dir, options=FAST) as server:
        assert server.pid != stranger.pid
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_starts_beside_a_zombie_that_nobody_collects(hold: Callable[..., Holder]):
    """As in a container whose first process does not wait for its orphans."""
    library = ctypes.CDLL(None)
    library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        one = hold()
        pid = one.started()["pid"]
        one.kill()  # now the server is our child
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not is_postmaster(pid))
        os.kill(pid, 0)  # the number is still taken
        other = hold()
        assert other.started()["pid"] != pid
        assert other.release() is True
        os.waitpid(pid, 0)
    finally:
        library.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_an_interrupted_first_start_is_repaired_by_the_next(empty: Path):
    holder = Holder(empty)
    eventually(lambda: any(empty.glob("postgres/new-*/cluster/PG_VERSION")))
    holder.kill()
    assert not cluster_of(empty).exists()
    with EmbeddedPostgres(empty, options=FAST) as server:
        assert server.pid is not None
    assert not list(empty.glob("postgres/new-*"))


def test_passwords_for_everybody_and_no_network(data_dir: Path):
    with EmbeddedPostgres(data_dir, options=FAST) as server:
        url = server.url.get_secret_value()
        password = (data_dir / "postgres" / "administrator.password").read_text().strip()
        assert password not in repr(server.url)
        for wrong in (url.replace(password, "wrong"), url.replace(":" + password, "")):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(wrong)
        with psycopg.connect(url) as connection:

            def show(query: str) -> Any:
                return connection.execute(query.encode()).fetchone()[0]

            methods = "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules"
            assert show(methods) == ["scram-sha-256"]
            assert show("SHOW listen_addresses") == ""
            assert show("SHOW data_checksums") == "on"
            assert show("SELECT datlocale FROM pg_database LIMIT 1") == "C.UTF-8"
            assert show("SHOW fsync") == "off"  # as asked for
            assert show("SHOW synchronous_commit") == "on"


def test_only_its_owner_gets_in(data_dir: Path):
    with EmbeddedPostgres(data_dir, options=FAST):
        folder = data_dir / "postgres"
        for private in (folder / "run", folder / "cluster"):
            assert private.stat().st_mode & 0o077 == 0
        for private in (folder / "administrator.password", folder / "address"):
            assert private.stat().st_mode & 0o777 == 0o600


def test_no_values_in_the_log(data_dir: Path):
    with (
        EmbeddedPostgres(data_dir, options=FAST) as server,
        psycopg.connect(server.url.get_secret_value(), autocommit=True) as connection,
    ):
        connection.execute("CREATE TABLE unique_values (x text UNIQUE)")
        for _ in range(2):
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                connection.execute("INSERT INTO unique_values VALUES ('hunter2')")
    log = (data_dir / "postgres" / "server.log").read_text()
    assert "unique constraint" in log
    assert "hunter2" not in log


def test_a_long_path_gets_a_short_socket(made: Path, tmp_path: Path):
    deep = tmp_path / ("x" * 100) / "data"
    deep.parent.mkdir()
    subprocess.run(["cp", "-a", made, deep], check=True)
    with EmbeddedPostgres(deep, options=FAST):
        address = (deep / "postgres" / "address").read_text().strip()
        assert len(address) < 100
        with psycopg.connect(administrator_url(deep).get_secret_value()):
            assert Path(address).stat().st_mode & 0o777 == 0o700
    assert not Path(address).exists()


def test_a_stranger_in_the_place_of_the_socket_folder_is_refused(data_dir: Path, tmp_path: Path):
    server = EmbeddedPostgres(data_dir, options=FAST)
    place = server._socket_folder()  # beside the data, or in /tmp where that path is too long
    if place.exists():
        place.rmdir()
    place.symlink_to(tmp_path)
    try:
        with pytest.raises(EmbeddedDatabaseError, match="belongs to somebody else"):
            server.start()
    finally:
        place.unlink()


@pytest.mark.parametrize("version", ["19", "17"])
def test_a_cluster_of_another_version_is_refused(data_dir: Path, version: str):
    (cluster_of(data_dir) / "PG_VERSION").write_text(f"{version}\n")
    with pytest.raises(EmbeddedDatabaseError, match=f"made by PostgreSQL {version}, this is"):
        EmbeddedPostgres(data_dir, options=FAST).start()


def test_what_is_no_cluster_is_refused(data_dir: Path):
    (cluster_of(data_dir) / "PG_VERSION").unlink()
    with pytest.raises(EmbeddedDatabaseError, match="is not a PostgreSQL cluster"):
        EmbeddedPostgres(data_dir, options=FAST).start()


def test_a_lost_or_wrong_password_is_said(data_dir: Path):
    password = data_dir / "postgres" / "administrator.password"
    password.write_text("wrong\n")
    server = EmbeddedPostgres(data_dir, options=FAST)
    with pytest.raises(EmbeddedDatabaseError, match="cannot be used: password authentication"):
        server.start()
    assert server.pid is None  # what it had started does not stay behind
    password.unlink()
    with pytest.raises(EmbeddedDatabaseError, match=f"No such file or directory: {password}"):
        server.start()


def test_the_servers_own_reason_is_said(data_dir: Path):
    server = EmbeddedPostgres(data_dir, options={"shared_buffers": "lots"})
    with pytest.raises(EmbeddedDatabaseError, match=r"started: invalid value .*shared_buffers"):
        server.start()
    shutil.rmtree(cluster_of(data_dir) / "global")
    with pytest.raises(EmbeddedDatabaseError, match=r"cannot be started: .+"):
        EmbeddedPostgres(data_dir, options=FAST).start()


# What initdb of PostgreSQL 18.6 said on a file system of 20 MB, shortened; it says either.
DISK_FULL = [
    """2026-11-22 17:40:01.419 UTC [11624] FATAL:  could not extend file "base/1/2691": \
No space left on device
2026-11-22 17:40:01.419 UTC [11624] PANIC:  cannot abort transaction 1, it was already committed
initdb: removing data directory "cluster"
""",
    """2026-11-22 18:40:12.100 UTC [312] FATAL:  could not extend file "base/1/2691": \
wrote only 4096 of 8192 bytes at block 3
2026-11-22 18:40:12.100 UTC [312] HINT:  Check free disk space.
2026-11-22 18:40:12.100 UTC [312] PANIC:  cannot abort transaction 1, it was already committed
""",
]


@pytest.mark.parametrize("output", DISK_FULL)
def test_a_full_disk_is_called_a_full_disk(empty: Path, output: str):
    error = EmbeddedPostgres(empty)._failure("made", output)
    assert str(error).startswith("the disk is full: ")


def test_a_data_directory_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedDatabaseError, match=f"Not a directory: {tmp_path}/file"):
        EmbeddedPostgres(tmp_path / "file" / "data").start()


def test_a_server_that_was_never_started(empty: Path):
    server = EmbeddedPostgres(empty)
    assert server.pid is None
    assert server.release() is False
    with pytest.raises(EmbeddedDatabaseError, match="has not been started"):
        _ = server.url


def test_a_server_whose_folder_was_deleted_is_stopped(data_dir: Path):
    server = EmbeddedPostgres(data_dir, options=FAST)
    server.start()
    pid = server.pid
    shutil.rmtree(data_dir / "postgres")
    assert server.release() is True
    assert not is_postmaster(pid)


def test_the_address_of_a_dead_server_is_not_given_out(data_dir: Path):
    server = EmbeddedPostgres(data_dir, options=FAST)
    server.start()
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: server.pid is None)
    with pytest.raises(EmbeddedDatabaseError, match="is not running"):
        administrator_url(data_dir)
    server.start()
    assert server.release() is True


def test_a_big_log_is_put_aside(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "_LOG_LIMIT_BYTES", 10)
    log = data_dir / "postgres" / "server.log"
    log.write_text("what was said before")
    with EmbeddedPostgres(data_dir, options=FAST):
        assert log.with_suffix(".log.1").read_text() == "what was said before"
