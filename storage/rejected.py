"""Records that the database will never take, kept for a person to look at, and not for long.

They say which account used what, so they are kept like the journal beside them (0600), at most
`MAX_BYTES` of them, and at most `KEEP_DAYS` days. Those of an account that is erased go within
seconds (`forget`, by the recorder). Several processes may share the folder.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

MAX_BYTES = 16 * 1024 * 1024
KEEP_DAYS = 7
_SUFFIX = ".jsonl"
_DRAFT_SUFFIX = ".new"
_DRAFT_SECONDS = 60.0
# In a line the record is a string in JSON: its quotes are escaped.
_OWNER = re.compile(r'account_id\\*"\s*:\s*\\*"([0-9a-f-]{36})', re.IGNORECASE)


class RejectedRecords:
    """A folder with a file per day; a line is `{"reason": …, "record": …}`."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made when the first record is kept."""
        self._folder = folder

    def keep(self, record: bytes, reason: str) -> bool:
        """Keep a record; False if there are too many already.

        Raises:
            OSError: it cannot be written.
        """
        line = json.dumps({"reason": reason, "record": record.decode(errors="replace")})
        line += "\n"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.prune()
        used = sum(map(_size, self._folder.glob(f"*{_SUFFIX}")))
        if used + len(line) > MAX_BYTES:
            return False
        path = self._folder / f"{datetime.now(UTC).date()}{_SUFFIX}"
        with _locked(path, os.O_CREAT) as descriptor:
            os.lseek(descriptor, 0, os.SEEK_END)
            os.write(descriptor, line.encode())
        return True

    def owners(self) -> set[UUID]:
        """Return whose records are kept, as far as they say it.

        Raises:
            OSError: they cannot be read.
        """
        return {
            owner
            for path in self._folder.glob(f"*{_SUFFIX}")
            for line in _text(path).splitlines()
            if (owner := _owner(line)) is not None
        }

    def forget(self, accounts: Collection[UUID]) -> None:
        """Delete the records of these accounts.

        Raises:
            OSError: they cannot be written.
        """
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with ExitStack() as stack:
                try:
                    descriptor = stack.enter_context(_locked(path))
                except FileNotFoundError:  # another process has pruned it meanwhile
                    continue
                lines = os.pread(descriptor, 2 * MAX_BYTES, 0).decode().splitlines(keepends=True)
                kept = [line for line in lines if _owner(line) not in accounts]
                if len(kept) < len(lines):
                    # whole or not at all: a reader of the old file still sees all of it
                    draft = path.with_suffix(_DRAFT_SUFFIX)
                    draft.unlink(missing_ok=True)
                    with open(draft, "x", opener=_private, encoding="utf-8") as file:
                        file.writelines(kept)
                    draft.rename(path)

    def prune(self) -> None:
        """Delete what was kept `KEEP_DAYS` days ago, from that day's beginning on, or before.

        Raises:
            OSError: it cannot be deleted.
        """
        too_old = datetime.now(UTC).date() - timedelta(days=KEEP_DAYS)
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if _day_of(path) <= too_old:
                path.unlink(missing_ok=True)
        for draft in self._folder.glob(f"*{_DRAFT_SUFFIX}"):  # of a process that died
            if _age_seconds(draft) > _DRAFT_SECONDS:
                draft.unlink(missing_ok=True)


def _day_of(path: Path) -> date:
    try:
        return date.fromisoformat(path.stem)
    except ValueError:
        return date.max  # not ours


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process has pruned it meanwhile
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:  # as above
        return ""


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _owner(line: str) -> UUID | None:
    """Return whose record a line has; None: it does not say."""
    found = _OWNER.search(line)
    try:
        return UUID(found[1]) if found else None
    except ValueError:
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _locked(path: Path, flags: int = 0) -> Generator[int]:
    """Open a file for its one writer of the moment; it is still at its path then."""
    while True:
        descriptor = os.open(path, os.O_RDWR | flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
