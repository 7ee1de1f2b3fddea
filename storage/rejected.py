"""Records that the database will never take, kept for a person to look at, and not for long.

They say which account used what, so they are kept like the journal beside them (0600), at most
`MAX_BYTES` of them, and at most `KEEP_DAYS` days: an erased account leaves nothing behind.
"""

import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
KEEP_DAYS = 7
_SUFFIX = ".jsonl"


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
        used = sum(path.stat().st_size for path in self._folder.glob(f"*{_SUFFIX}"))
        if used + len(line) > MAX_BYTES:
            return False
        path = self._folder / f"{datetime.now(UTC).date()}{_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(line)
        return True

    def prune(self) -> None:
        """Delete what has been kept for `KEEP_DAYS` days.

        Raises:
            OSError: it cannot be deleted.
        """
        oldest = datetime.now(UTC).date() - timedelta(days=KEEP_DAYS)
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if _day_of(path) < oldest:
                path.unlink(missing_ok=True)


def _day_of(path: Path) -> date:
    try:
        return date.fromisoformat(path.stem)
    except ValueError:
        return date.max  # not ours
