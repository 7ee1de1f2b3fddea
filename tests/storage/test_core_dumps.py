import subprocess
import sys

PROGRAM = """
import resource, subprocess, sys
from storage.core_dumps import forbid_core_dumps
_, most = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (most, most))
forbid_core_dumps()
subprocess.run([sys.executable, "-c", "import resource; print(resource.getrlimit(4))"], check=True)
"""


def test_neither_this_process_nor_its_children_leave_one():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    )
    assert done.stdout == "(0, 0)\n"
