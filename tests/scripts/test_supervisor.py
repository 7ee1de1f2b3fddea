"""scripts/run as a whole: real processes, real database, real requests."""

import contextlib
import http.client
import itertools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from scripts import ports, supervisor
from scripts.child_environment import base_environment
from storage.settings import Settings

CHAT = "/api/proxy/openai/v1/chat/completions"
SECONDS = 60


def eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return result


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


class Run:
    """A supervisor in a process of its own, on a data directory."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.ready_file = folder / "ready.json"
        self.output = folder / "output"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "scripts.supervisor"),
                    *("--data-dir", "data", "--ready-file", "ready.json", *arguments),
                ],
                cwd=folder,
                env=base_environment() | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def ready(self) -> dict[str, Any]:
        """What the ready file says; waits for it."""

        def read() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.output.read_text()
            with contextlib.suppress(FileNotFoundError):
                return json.loads(self.ready_file.read_text())
            return None

        return eventually(read)

    def ask(self, model: str = "gpt-4o-mini") -> int:
        """Send a request through the gateway; return the status."""
        ready = self.ready()
        client = http.client.HTTPConnection(urlsplit(ready["proxy_url"]).netloc, timeout=SECONDS)
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
        try:
            client.request("POST", CHAT, body, {"authorization": f"Bearer {ready['token']}"})
            return client.getresponse().status
        except OSError:
            return 0
        finally:
            client.close()

    def logged(self) -> list[dict[str, Any]]:
        """The demo account's log, by the API."""
        ready = self.ready()
        client = http.client.HTTPConnection(urlsplit(ready["api_url"]).netloc, timeout=SECONDS)
        client.request("GET", "/api/v1/logs", headers={"authorization": f"Bearer {ready['token']}"})
        with contextlib.closing(client), client.getresponse() as answer:
            return json.loads(answer.read())["items"]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(SECONDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def arguments() -> list[str]:
    """The demo, always on the same ports."""
    proxy_port, api_port = ports.claim_port(0, ""), ports.claim_port(0, "")
    return ["--demo", "--proxy-port", str(proxy_port), "--api-port", str(api_port)]


@pytest.fixture(scope="module")
def demo(folder: Path, arguments: list[str]) -> Iterator[Run]:
    """The demo's first start."""
    run = Run(folder, *arguments)
    yield run
    if run.process.poll() is None:
        run.stop()


def test_the_ready_file_says_where_everything_is(demo: Run):
    ready = demo.ready()
    assert set(ready) == {"proxy_url", "api_url", "database_url", "pids", "token", "email"}
    assert set(ready["pids"]) == {"proxy", "api", "jobs", "postgres"}
    assert ready["email"] == "demo@metrion.local"
    assert demo.ready_file.stat().st_mode & 0o777 == 0o600
    with psycopg.connect(ready["database_url"]) as administrator:
        super_user = administrator.execute("SELECT rolsuper FROM pg_roles WHERE rolname = user")
        assert super_user.fetchone() == (True,)


def test_the_line_it_prints_can_be_pasted_and_is_logged(demo: Run):
    demo.ready()
    line = eventually(lambda: [x for x in demo.output.read_text().splitlines() if "curl" in x])[0]
    command = shlex.split(line)
    assert command[0] == "curl"
    url = urlsplit(command[1])
    headers = [value for flag, value in itertools.pairwise(command) if flag == "-H"]
    client = http.client.HTTPConnection(url.netloc, timeout=SECONDS)
    client.request("POST", url.path, command[-1], dict(header.split(": ") for header in headers))
    answer = client.getresponse()
    assert (answer.status, json.loads(answer.read())["object"]) == (200, "chat.completion")
    client.close()
    [row] = eventually(demo.logged)
    assert row["provider"] == "openai"
    assert row["input_tokens"] > 0
    assert row["cost_usd"] > 0


def test_no_process_knows_the_administrator(demo: Run):
    ready = demo.ready()
    password = urlsplit(ready["database_url"]).password
    for name, role in (
        ("proxy", "metrion_proxy"),
        ("api", "metrion_api"),
        ("jobs", "metrion_jobs"),
    ):
        environment = Path(f"/proc/{ready['pids'][name]}/environ").read_text()
        assert f"METRION_DATABASE_URL=postgresql://{role}:" in environment
        assert password not in environment


@pytest.mark.parametrize("name", ["proxy", "api", "jobs", "postgres"])
def test_what_dies_is_started_again_and_the_others_stay(demo: Run, name: str):
    before = demo.ready()
    os.kill(before["pids"][name], signal.SIGKILL)
    after = eventually(lambda: (now := demo.ready())["pids"] != before["pids"] and now)
    changed = {key for key in before["pids"] if before["pids"][key] != after["pids"].get(key)}
    assert changed == {name}
    assert {key: after[key] for key in after if key != "pids"} == {
        key: before[key] for key in before if key != "pids"
    }
    eventually(lambda: demo.ask() == 200)


def test_a_second_one_on_the_same_data_directory_is_refused(
    demo: Run, folder: Path, capfd: pytest.CaptureFixture[str]
):
    demo.ready()
    assert supervisor.main(["--data-dir", str(folder / "data")]) == 1
    assert f"another scripts/run (process {demo.process.pid})" in capfd.readouterr().err


def test_the_command_finds_the_database_of_the_data_directory(demo: Run, folder: Path):
    demo.ready()
    shown = subprocess.run(
        [sys.executable, "-P", "-m", "scripts.cli", "account", "list", "--json"],
        env=base_environment() | {"METRION_DATA_DIR": str(folder / "data")},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert [account["email"] for account in json.loads(shown.stdout)] == ["demo@metrion.local"]


def test_killed_with_9_it_leaves_nothing_and_the_next_start_works_at_once(
    demo: Run, folder: Path, arguments: list[str]
):
    assert demo.ask(model="gpt-4o") == 200
    first = demo.ready()
    demo.process.kill()
    demo.process.wait()
    demo.ready_file.unlink()
    again = Run(folder, *arguments)  # while what was left may still be dying
    second = again.ready()
    assert all(is_gone(pid) for pid in first["pids"].values())
    assert {**second, "pids": None} == {**first, "pids": None}
    assert again.ask() == 200
    eventually(lambda: "gpt-4o" in {row["model"] for row in again.logged()})

    # and told to stop it leaves nothing either
    assert again.stop() == 0
    assert not again.ready_file.exists()
    assert all(is_gone(pid) for pid in second["pids"].values())
    assert "Traceback" not in again.output.read_text()


def test_an_external_database_without_accounts(database, tmp_path: Path):
    database.settings.master_key_path.unlink()
    url = database.administrator_url.get_secret_value()
    run = Run(tmp_path, "--proxy-port", "0", "--api-port", "0", METRION_DATABASE_URL=url)
    ready = run.ready()
    assert set(ready) == {"proxy_url", "api_url", "database_url", "pids"}
    assert ready["database_url"] == url
    assert set(ready["pids"]) == {"proxy", "api", "jobs"}
    eventually(lambda: "metrion account create you@example.com" in run.output.read_text())
    assert "sk-metrion" not in run.output.read_text()
    assert database.settings.master_key_path.stat().st_mode & 0o777 == 0o600
    assert run.stop(signal.SIGHUP) == 0


def test_told_to_stop_while_starting(tmp_path: Path):
    run = Run(tmp_path, "--demo", "--proxy-port", "0", "--api-port", "0")
    eventually((tmp_path / "data" / "postgres").exists)
    assert run.stop() == 0
    assert not run.ready_file.exists()
    assert not (tmp_path / "data" / "postgres" / "address").exists()


# ---- what it refuses: one sentence, no traceback


@pytest.fixture
def refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run the supervisor in this process; return the one sentence it says."""
    for field in Settings.model_fields:
        monkeypatch.delenv(f"METRION_{field.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value)
        chosen = ("--proxy-port", "0", "--api-port", "0", *arguments)
        assert supervisor.main(chosen) == 1
        said = [
            line for line in capfd.readouterr().err.splitlines() if line.startswith("metrion: ")
        ]
        assert len(said) == 1
        return said[0]

    return run


def test_a_taken_port(refuse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(ports, "_PATIENCE_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        said = refuse("--api-port", str(port))
    assert said == f"metrion: port {port} is taken: choose another --api-port"
    assert not (tmp_path / ".metrion" / "postgres").exists()


def test_wrong_settings(refuse):
    said = refuse(environment={"METRION_REGION": "us-east-1"})
    assert said.startswith("metrion: METRION_REGION 'us-east-1' is not one of the allowed regions")


def test_no_folder_for_the_ready_file(refuse, tmp_path: Path):
    said = refuse("--ready-file", "missing/ready.json")
    assert said == f"metrion: --ready-file: there is no folder {tmp_path}/missing"


def test_a_data_directory_that_cannot_be_made(refuse, tmp_path: Path):
    (tmp_path / "file").write_text("")
    said = refuse("--data-dir", "file")
    assert said == f"metrion: File exists: {tmp_path}/file"


def test_a_database_of_a_newer_postgresql(refuse, tmp_path: Path):
    cluster = tmp_path / ".metrion" / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("99\n")
    assert "was made by PostgreSQL 99, this is PostgreSQL 18" in refuse()


def test_a_database_of_a_newer_metrion(refuse, database):
    url = database.administrator_url.get_secret_value()
    with psycopg.connect(url) as administrator:
        administrator.execute("UPDATE metrion.alembic_version SET version_num = 'r9999'")
    said = refuse(
        "--data-dir", str(database.settings.data_dir), environment={"METRION_DATABASE_URL": url}
    )
    assert "made by a newer Metrion" in said


def test_a_database_that_is_not_there(refuse):
    url = "postgresql://u:hunter2@127.0.0.1:1/d"
    said = refuse(environment={"METRION_DATABASE_URL": url})
    assert "Connection refused" in said
    assert "hunter2" not in said


def test_a_password_that_is_not_written_as_it_must_be(refuse):
    said = refuse(environment={"METRION_DATABASE_URL": "postgresql://u:hunter2%@127.0.0.1:1/d"})
    assert said.startswith("metrion: METRION_DATABASE_URL: must look like")
    assert "hunter2" not in said


def test_a_process_that_cannot_start_is_quoted(refuse, database):
    said = refuse(
        "--data-dir",
        str(database.settings.data_dir),
        environment={
            "METRION_DATABASE_URL": database.administrator_url.get_secret_value(),
            "METRION_ORIGINS": '{"no-such-provider": "http://127.0.0.1:1"}',
        },
    )
    assert said.startswith("metrion: proxy ended at its start (status 2): metrion proxy: ")
    assert "no-such-provider" in said


@pytest.mark.parametrize(
    "arguments", [["--proxy-port", "x"], ["--api-port", "65536"], ["--workers", "0"], ["what"]]
)
def test_usage_mistakes_have_status_2(arguments: list[str]):
    with pytest.raises(SystemExit) as ended:
        supervisor.main(arguments)
    assert ended.value.code == 2


def test_a_full_disk_is_called_a_full_disk():
    error = OSError(28, "No space left on device", "/data/master.key")
    assert supervisor._explain(error) == "the disk is full: /data/master.key"
