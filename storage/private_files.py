"""Files that only their owner may read, whole or not there at all, also after a power cut."""

import os
import secrets
import stat
from pathlib import Path


def create(path: Path, text: str) -> None:
    """Write a new file (0600); on disk when this returns.

    Raises:
        FileExistsError: the file is there; it is left as it is.
        OSError: it cannot be written (folder missing, disk full, no right).
    """
    draft = _write_draft(path, text)
    try:
        os.link(draft, path)  # unlike a rename, it never replaces what is there
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def replace(path: Path, text: str) -> None:
    """Write a file (0600), in place of one that may be there; a reader sees the old or the new one.

    Raises:
        OSError: it cannot be written; what was there is unchanged.
    """
    draft = _write_draft(path, text)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def read(path: Path) -> str:
    """Return the text of a file that nobody but its owner can read.

    Raises:
        PermissionError: others (or this process's user: not) have rights on it.
        OSError: it cannot be read.
        UnicodeDecodeError: it is not text.
    """
    with path.open(encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise PermissionError(f"others can read {path}: chmod 600 {path}")
        return file.read()


def make_folder(path: Path) -> None:
    """Make a folder for private things that whoever runs PostgreSQL gets through, if it is missing.

    Raises:
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)


def _write_draft(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return draft


def _sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk: without it a power cut can undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
