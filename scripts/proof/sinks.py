"""Where a secret may have ended, and what was found there: files, processes, and the table of all.

What only tests can reach (the database, answers to clients) they search themselves and add.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from scripts.proof.canaries import Kind
from scripts.proof.searching import Find, Searched, Searcher
from storage import private_files, roles
from storage.settings import Settings

_PROC: Final = Path("/proc")
_MODULES: Final = ("supervisor", "proxy", "serve_api", "jobs", "valkey_server", "fake_provider")
_PASSWORD_FILES: Final = {("postgres", "administrator.password"), ("valkey", "valkey.conf")}
# The first that fits.
_SINKS: Final = {
    ("journal",): "journals",
    ("mail",): "mails",
    ("roles",): "password files",
    ("master.key",): "master key file",
    ("postgres", "cluster", "pg_wal"): "PostgreSQL's write-ahead log",
    ("postgres", "cluster"): "PostgreSQL's files",
    ("postgres",): "PostgreSQL's log",
}
_SUSPICIOUS_CODES: Final = 2
"""One number of six digits may be there by accident; two that are codes are not."""


def deployment_secrets(settings: Settings) -> dict[str, str]:
    """Return the passwords and master keys of a deployment, by what they are."""
    found = {
        f"password of {role}": private_files.read(path).strip()
        for role in roles.LOGIN_ROLES
        if (path := roles.password_path(settings.data_dir / "roles", role)).exists()
    }
    administrator = settings.data_dir / "postgres" / "administrator.password"
    if administrator.exists():
        found["administrator's password"] = private_files.read(administrator).strip()
    valkey = settings.data_dir / "valkey" / "valkey.conf"
    if valkey.exists():
        line = next(line for line in valkey.read_text().splitlines() if "requirepass" in line)
        found["Valkey's password"] = line.split()[1].strip('"')
    if settings.master_key_path.exists():
        ring: Any = json.loads(private_files.read(settings.master_key_path))
        found |= {f"master key {number}": key for number, key in ring["keys"].items()}
    return found


def files_of(data_dir: Path, since: float) -> Generator[tuple[str, Path]]:
    """Name the sink of each file of a data directory.

    Of PostgreSQL's own files only those that were written since `since` (of `time.time()`).
    """
    for path in sorted(data_dir.rglob("*")):
        try:
            if not path.is_file() or path.is_symlink():
                continue
            sink = _sink_of(path.relative_to(data_dir))
            if sink == "PostgreSQL's files" and path.stat().st_mtime < since:
                continue
        except FileNotFoundError:
            continue
        yield sink, path


def _sink_of(path: Path) -> str:
    if path.parts in _PASSWORD_FILES:
        return "password files"
    return next(
        (sink for folder, sink in _SINKS.items() if path.parts[: len(folder)] == folder),
        "other files",
    )


def process_texts(pids: Iterable[int]) -> Generator[tuple[str, bytes]]:
    """Return command line and environment of each process, with the name of the sink."""
    for pid in pids:
        folder = _PROC / str(pid)
        try:
            command_line = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue  # ended meanwhile
        words = command_line.decode(errors="replace").replace("\0", " ")
        name = next((name for name in _MODULES if f"scripts.{name} " in f"{words} "), "others")
        yield "command lines", command_line
        yield f"environment of {name}", environment


def core_limits(pids: Iterable[int]) -> dict[str, str]:
    """Return the soft limit of a core dump's size for each kind of process."""
    found: dict[str, str] = {}
    for pid in pids:
        try:
            limits = (_PROC / str(pid) / "limits").read_text()
            words = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        name = next((name for name in _MODULES if f"scripts.{name}\0" in words), "others")
        found[name] = line.split()[4]
    return found


class Watch:
    """Looks at something again and again while other things happen; a context manager.

    Args:
        look: gives sinks, and what is in them now.
        seconds: between two looks.

    Attributes:
        seen: each different thing once.
        looks: how often it looked.
    """

    def __init__(self, look: Callable[[], Iterable[tuple[str, bytes]]], seconds: float) -> None:
        self.seen: set[tuple[str, bytes]] = set()
        self.looks = 0
        self._look = look
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self.seen |= set(self._look())
            self.looks += 1
            if self._over.wait(self._seconds):
                return


class Sinks:
    """What was searched and what was found in it.

    Args:
        searcher: looks for the canaries.
        allowed: sink → kinds or names of canaries that belong there, plainly written.
    """

    def __init__(self, searcher: Searcher, allowed: Mapping[str, Collection[str]]) -> None:
        self._searcher = searcher
        self._allowed = allowed
        self._found: dict[str, Searched] = {}
        self._places: dict[tuple[str, Find], set[str]] = {}

    def search(self, sink: str, place: str, pieces: Iterable[bytes]) -> None:
        """Search bytes of a sink that stand at `place` (a file, a table)."""
        self._add(sink, place, self._searcher.search_pieces(pieces))

    def search_file(self, sink: str, path: Path) -> None:
        """Search a file that belongs to a sink."""
        self._add(sink, str(path), self._searcher.search_file(path))

    def _add(self, sink: str, place: str, searched: Searched) -> None:
        self._found.setdefault(sink, Searched()).add(searched)
        for find in searched.finds:
            self._places.setdefault((sink, find), set()).add(place)

    def bytes_of(self, sink: str) -> int:
        """How much of a sink was searched."""
        return self._found[sink].bytes_read

    def allowed_in(self, sink: str) -> Counter[str]:
        """Count, by kind, what was found where it belongs."""
        return Counter(str(find.kind) for find in self._split(sink)[0])

    @property
    def leaks(self) -> list[str]:
        """What was found where it must not be, and where that is."""
        return [
            f"{sink}: {find.kind or 'something'} ({find.name}; {find.form}) in "
            f"{', '.join(sorted(self._places[sink, find])[:3])}"
            for sink in self._found
            for find in sorted(self._split(sink)[1], key=str)
        ]

    def table(self, canaries: int) -> str:
        """Write one line for each sink."""
        lines: list[tuple[str, str, str, str]] = [
            ("sink", "bytes searched", "leaked", "there by right")
        ]
        for sink in sorted(self._found):
            _, leaked = self._split(sink)
            by_right = ", ".join(f"{n} x {kind}" for kind, n in self.allowed_in(sink).items())
            lines.append((sink, f"{self.bytes_of(sink):,}", str(len(leaked)), by_right or "-"))
        total = sum(found.bytes_read for found in self._found.values())
        lines.append((f"{canaries} canaries", f"{total:,}", str(len(self.leaks)), ""))
        first, second = (max(len(line[column]) for line in lines) for column in (0, 1))
        return "\n".join(
            f"{sink:<{first}}  {size:>{second}}  {leaked:>6}  {right}".rstrip()
            for sink, size, leaked, right in lines
        )

    def _split(self, sink: str) -> tuple[set[Find], set[Find]]:
        """Tell what belongs to a sink from what leaked to it."""
        allowed = set(self._allowed.get(sink, ()))
        finds = self._found[sink].finds
        right = {
            find for find in finds if find.form == "plain" and {find.kind, find.name} & allowed
        }
        wrong = finds - right
        codes = {find for find in wrong if find.kind is Kind.CODE}
        return right, wrong - codes if len(codes) < _SUSPICIOUS_CODES else wrong
