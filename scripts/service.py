"""How a supervised child starts: it arranges to die with its supervisor, then becomes its program.

`python -P -m scripts.service SUPERVISOR_PID MODULE ARGUMENTS…` runs MODULE as `python -m` would.

A supervisor that is killed with -9 cannot stop its children, and one left behind would hold its
port against the next start. On Linux the kernel kills them at once (prctl PR_SET_PDEATHSIG: with
the supervisor's main thread, which starts them); elsewhere a thread looks who the parent is.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_WATCH_SECONDS = 0.25


def main() -> None:
    """Tie this process to its supervisor and run the module."""
    supervisor, module = int(sys.argv[1]), sys.argv[2]
    die_with(supervisor)
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def die_with(supervisor: int) -> None:
    """Let this process die with its parent; on Linux also when it becomes another program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:  # it died before the line above
            sys.exit(1)
    else:
        threading.Thread(target=_watch, args=(supervisor,), daemon=True).start()


def _watch(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
