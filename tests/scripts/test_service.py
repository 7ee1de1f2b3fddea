import subprocess
import sys
from pathlib import Path

SUPERVISOR = """
import os, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-P", "-m", "scripts.service", str(os.getpid()), "endless", "an argument"],
    env=os.environ | {"PYTHONPATH": sys.argv[1]},
)
child.wait()
"""
CHILD = """
import sys, time
if __name__ == "__main__":
    print(sys.argv[1:], flush=True)
    time.sleep(300)
"""


def test_a_child_dies_with_its_supervisor(tmp_path: Path):
    (tmp_path / "endless.py").write_text(CHILD)
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout.readline() == "['an argument']\n"
    supervisor.kill()
    assert supervisor.stdout.read() == ""  # returns when the child's end is closed, too
    supervisor.wait()
    supervisor.stdout.close()


def test_a_child_whose_supervisor_is_gone_does_not_begin():
    command = [sys.executable, "-P", "-m", "scripts.service", "1", "no_such_module"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "")
