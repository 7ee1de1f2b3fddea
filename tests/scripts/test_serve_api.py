import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from scripts.serve_api import listen
from storage.sealing import MasterKeys

TOKEN = "sk-metrion-" + "0" * 32


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(data_dir: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "METRION_DATA_DIR": str(data_dir),
        "METRION_DATABASE_URL": "postgresql://metrion_api:none@127.0.0.1:1/none",
    }


@contextmanager
def start(data_dir: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The process; it does not outlive a test that fails."""
    command = [sys.executable, "-m", "scripts.serve_api", "--port", str(port)]
    with subprocess.Popen(
        command, env=environment(data_dir), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_up(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.get("/healthz")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the API did not come up")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_process_serves_logs_json_and_ends_in_order(tmp_path: Path, ending: signal.Signals):
    MasterKeys.create(tmp_path / "master.key")
    port = free_port()
    with (
        start(tmp_path, port) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        wait_until_up(client, process)
        headers = {"authorization": f"Bearer {TOKEN}"}
        answer = client.get("/api/v1/logs?cursor=not-to-be-logged", headers=headers)
        assert answer.status_code == 503
        assert "server" not in answer.headers
        process.send_signal(ending)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert output == b""
    lines = [json.loads(line) for line in errors.splitlines()]
    assert {"request"} <= {line["event"] for line in lines}
    assert b"not-to-be-logged" not in errors
    assert TOKEN.encode() not in errors


def test_no_request_waits_for_what_was_loaded_before_to_be_searched(tmp_path: Path):
    """Garbage is looked for in what came later."""
    MasterKeys.create(tmp_path / "master.key")
    program = """
import gc, uvicorn
from scripts.serve_api import main
uvicorn.Server.run = lambda *_, **__: print(gc.get_freeze_count(), len(gc.get_objects()))
main(["--port", "0"])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(tmp_path),
        capture_output=True,
        check=True,
        text=True,
    )
    frozen, searched = map(int, ran.stdout.split())
    assert frozen > 100_000
    assert searched < 1000


def test_what_is_missing_is_said(tmp_path: Path):
    with start(tmp_path, free_port()) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert errors.startswith(b"metrion api: there is no master key at ")
    assert b"Traceback" not in errors


def test_a_taken_port_is_said(tmp_path: Path):
    MasterKeys.create(tmp_path / "master.key")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with start(tmp_path, taken.getsockname()[1]) as process:
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert errors.startswith(b"metrion api: cannot listen on 127.0.0.1 port ")
    assert b"Traceback" not in errors


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_small_answers_are_not_held_back(host: str):
    with listen(host, 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP  # what asyncio looks at
        with socket.create_connection(listener.getsockname()[:2]):
            accepted, _ = listener.accept()
            assert accepted.proto == socket.IPPROTO_TCP
            accepted.close()
