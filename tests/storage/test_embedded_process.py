import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from storage import embedded_process
from storage.embedded_process import Identity, choose_identity, is_postmaster, reap, run, spawn
from storage.errors import EmbeddedDatabaseError


def test_the_wheel_has_programs():
    assert (embedded_process.programs() / "initdb").exists()


def test_a_program_is_run_in_its_folder_without_our_environment(tmp_path: Path):
    identity = choose_identity(tmp_path, tmp_path / "cluster")
    answer = run("postgres", "--version", identity=identity, folder=tmp_path)
    assert answer.stdout.startswith("postgres (PostgreSQL) 18")
    missing = run("no-such-program", identity=identity, folder=tmp_path)
    assert "No such file or directory" in missing.stderr
    lost = run("postgres", "--version", identity=identity, folder=tmp_path / "missing")
    assert lost.returncode != 0


def test_a_program_dies_with_the_thread_that_started_it(tmp_path: Path):
    started: list[int] = []
    leave = threading.Event()

    def start() -> None:
        with (tmp_path / "log").open("wb") as log:
            identity = choose_identity(tmp_path, tmp_path / "cluster")
            # pg_isready would end by itself; this one waits for a server that never comes
            started.append(
                spawn(
                    "pg_receivewal",
                    f"--directory={tmp_path}",
                    "--host=/nowhere",
                    identity=identity,
                    folder=Path("/"),
                    log=log,
                    death_signal=signal.SIGKILL,
                )
            )
        leave.wait()

    thread = threading.Thread(target=start)
    thread.start()
    while not started:
        time.sleep(0.01)
    assert not reap(started[0])
    leave.set()
    thread.join()
    deadline = time.monotonic() + 20
    while not reap(started[0]):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_postmaster_is_told_from_others():
    sleeper = subprocess.Popen(["sleep", "60"])
    assert not is_postmaster(sleeper.pid)
    assert not is_postmaster(2**22 + 1)
    sleeper.kill()
    sleeper.wait()
    assert reap(sleeper.pid)


def test_a_cluster_is_run_by_its_owner(tmp_path: Path):
    """As root: whoever it belongs to; as anybody else: only one's own."""
    cluster = tmp_path / "cluster"
    cluster.mkdir()
    if os.geteuid() != 0:
        assert choose_identity(tmp_path, cluster) == Identity()
        return
    assert choose_identity(tmp_path, cluster).namespace is not None
    nobody = pwd.getpwnam("nobody")
    os.chown(cluster, nobody.pw_uid, nobody.pw_gid)
    with pytest.raises(EmbeddedDatabaseError, match="start Metrion as a normal user"):
        choose_identity(tmp_path, cluster)  # pytest's folders are closed to nobody


def test_somebody_elses_cluster_is_refused():
    owned_by_root = Path("/etc")
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from storage.embedded_process import choose_identity\n"
        "if os.geteuid() == 0: os.setuid(12345)\n"
        f"choose_identity(Path('/'), Path('{owned_by_root}'))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "belongs to another user (uid 0)" in said.stderr


def test_somebody_elses_folder_is_refused(tmp_path: Path):
    folder = tmp_path / "run"
    folder.write_text("")
    with pytest.raises((EmbeddedDatabaseError, FileExistsError)):
        embedded_process.owned_folder(folder, Identity())
