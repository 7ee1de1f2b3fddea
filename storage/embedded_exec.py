"""What must happen between fork and exec of a PostgreSQL program; run as a script, never imported.

`python -I -S embedded_exec.py SPEC PROGRAM ARGUMENTS…`, SPEC being JSON:
    user          [uid, gid] to become, or null
    namespace     uid to appear as inside a user namespace of one's own, or null
    folder        working directory, entered with the rights of whoever runs the program
    death_signal  signal to receive when the parent thread dies (Linux), or null
    parent        pid of the parent, to notice that it died before the signal was set

A script and not `preexec_fn`: that one runs Python in a forked copy of a process with threads.
PostgreSQL refuses to run as root. In a user namespace root is somebody else inside and has no power
outside but over root's files: that works where no other user can reach the data directory.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become who is asked for, arrange to die with the parent, and turn into the program."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    command = sys.argv[2:]
    try:
        if spec["user"] is not None:
            uid, gid = spec["user"]
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        elif spec["namespace"] is not None:
            _enter_namespace(spec["namespace"])
        os.chdir(spec["folder"])
        # last: changing the user clears it (prctl(2), PR_SET_PDEATHSIG)
        if spec["death_signal"] is not None and sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, spec["death_signal"], 0, 0, 0)
            if os.getppid() != spec["parent"]:
                sys.exit("the starting process has died")
        os.execv(command[0], command)  # noqa: S606 - no shell on purpose; the launcher names it
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}: {error.filename or ''}")


def _enter_namespace(uid: int) -> None:
    outside_uid, outside_gid = os.getuid(), os.getgid()
    os.unshare(os.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outside_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{uid} {outside_gid} 1")


main()
