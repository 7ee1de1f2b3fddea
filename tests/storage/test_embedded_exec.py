"""What happens between fork and exec. With real servers: test_embedded.py."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import storage

SCRIPT = Path(storage.__file__).parent / "embedded_exec.py"


def run(spec: dict, *command: str) -> subprocess.CompletedProcess[str]:
    whole = {
        "user": None,
        "namespace": None,
        "folder": "/",
        "death_signal": None,
        "parent": os.getpid(),
        **spec,
    }
    return subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), json.dumps(whole), *command],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_it_turns_into_the_program_in_its_folder(tmp_path):
    done = run({"folder": str(tmp_path)}, "/bin/pwd")
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path))


def test_a_program_that_does_not_exist_is_an_error(tmp_path):
    assert run({"folder": str(tmp_path)}, "/nowhere/postgres").returncode != 0


def test_it_asks_to_be_told_when_its_parent_dies():
    """The kernel sends the signal when the thread that started the program is gone."""
    spec = {"death_signal": signal.SIGTERM}
    whole = {"user": None, "namespace": None, "folder": "/", **spec}
    middle = (
        "import json, os, subprocess, sys\n"
        "spec = json.loads(sys.argv[1]) | {'parent': os.getpid()}\n"
        "child = subprocess.Popen([sys.executable, '-I', '-S', sys.argv[2], json.dumps(spec),"
        " '/bin/sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "import time; time.sleep(0.5)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", middle, json.dumps(whole), str(SCRIPT)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=20,
        check=True,
    )
    child = int(done.stdout)
    for _ in range(200):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            break
        if state in "ZX":
            break
        time.sleep(0.02)
    else:
        os.kill(child, signal.SIGKILL)
        raise AssertionError("the program outlived its parent")
