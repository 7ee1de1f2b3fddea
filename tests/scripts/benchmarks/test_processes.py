"""What the kernel says of processes."""

import os
import socket
import subprocess
import sys
import time

import pytest

from scripts.benchmarks import processes
from scripts.benchmarks.processes import MeasuredProcess
from scripts.child_environment import base_environment

BUSY = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_a_program_listens_and_is_stopped(tmp_path):
    command = [sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"]
    with MeasuredProcess(command, base_environment(), tmp_path) as process:
        assert processes.cpu_seconds(process.pid) > 0
        assert process.start_seconds > 0
        assert 1_000_000 < processes.resident_bytes(process.pid) < 1_000_000_000
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_program_that_does_not_start_is_quoted(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('no port today')"]
    with (
        pytest.raises(RuntimeError, match="no port today"),
        MeasuredProcess(command, base_environment(), tmp_path),
    ):
        pass


def test_the_time_of_children_is_counted():
    script = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', '''{BUSY}\ninput()'''])"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as parent:
        deadline = time.monotonic() + 30
        while processes.tree_cpu_seconds(parent.pid) - processes.cpu_seconds(parent.pid) < 0.3:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")]
)
def test_who_listens_is_seen_whichever_the_family(family, host):
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        port = listener.getsockname()[1]
        assert not processes._is_listening(port)
        listener.listen()
        assert processes._is_listening(port)


def test_a_child_that_has_ended_still_counts():
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]]); input()"
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    with subprocess.Popen(
        [sys.executable, "-c", script, busy], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as parent:
        deadline = time.monotonic() + 30
        # the kernel tells it in hundredths, of user and system apart
        while processes.tree_cpu_seconds(parent.pid) - processes.cpu_seconds(parent.pid) < 0.25 or [
            *processes._children(parent.pid)
        ]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_child_that_ends_meanwhile_is_left_out(monkeypatch):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    own = os.getpid()
    monkeypatch.setattr(processes, "_children", lambda pid: [ended.pid] if pid == own else [])
    assert processes.tree_cpu_seconds(own) >= 0.9 * processes.cpu_seconds(own) > 0


def test_what_is_measured_has_a_processor_of_its_own():
    core, others = processes.cores()
    assert core not in others
    assert others <= os.sched_getaffinity(0)
