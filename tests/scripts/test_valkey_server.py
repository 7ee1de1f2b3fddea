"""The Valkey that `scripts/run --workers N` brings: private, empty, gone with its supervisor."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import valkey

from scripts import valkey_server
from scripts.ports import claim_port

SUPERVISOR = """
import os, subprocess, sys
command = [sys.executable, "-P", "-m", "scripts.valkey_server", str(os.getpid()), sys.argv[1]]
child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def started(tmp_path: Path):
    """A server, its supervisor, and its address."""
    configuration, url = valkey_server.configure(tmp_path / "valkey", claim_port(0, ""))
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, configuration], stdout=subprocess.PIPE, text=True
    )
    pid = int(supervisor.stdout.readline())
    yield configuration, url.get_secret_value(), supervisor, pid
    supervisor.kill()
    supervisor.communicate()


def client_of(url: str) -> valkey.Valkey:
    client = valkey.from_url(url)
    deadline = time.monotonic() + 20
    while True:
        try:
            client.ping()
        except valkey.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return client


def test_it_is_for_whoever_has_the_password_and_keeps_nothing(started):
    configuration, url, _, pid = started
    assert configuration.stat().st_mode & 0o777 == 0o600
    client = client_of(url)
    assert client.config_get("save") == {"save": ""}
    assert client.config_get("appendonly") == {"appendonly": "no"}
    assert client.config_get("bind")["bind"] == "127.0.0.1"
    client.close()
    stranger = valkey.from_url(url.replace(url.split("@")[0], "redis://"))
    with pytest.raises(valkey.AuthenticationError):
        stranger.ping()
    stranger.close()
    command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
    assert url.split("@")[0].rpartition(":")[2].encode() not in command_line
    assert [path.name for path in configuration.parent.iterdir()] == ["valkey.conf"]


def test_each_start_has_another_password(tmp_path):
    _, first = valkey_server.configure(tmp_path, 1)
    _, second = valkey_server.configure(tmp_path, 1)
    assert first != second
    assert "**" in repr(first)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it stays (see the module)")
def test_it_dies_with_its_supervisor(started):
    _, url, supervisor, pid = started
    client_of(url).close()
    os.kill(supervisor.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
