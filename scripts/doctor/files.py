"""Permissions: whatever opens or holds something may be read by its owner only."""

import os
import stat
from collections.abc import Generator, Iterable
from pathlib import Path

from scripts.doctor.result import Result, finding, ok
from storage import roles
from storage.settings import Settings

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_LIST = stat.S_IRGRP | stat.S_IROTH
# What nobody else may even open, by its place in the data directory.
_PRIVATE = (
    "journal/**/*",
    "mail/*",
    "roles/*",
    "postgres/administrator.password",
    "valkey/valkey.conf",
    "mitmproxy/mitmproxy-ca.pem",
    "mitmproxy/mitmproxy-ca.p12",
)


def check_files(settings: Settings) -> Generator[Result]:
    """Look at the data directory, the master key file, and what else is private."""
    data_dir = settings.data_dir
    private = {path for pattern in _PRIVATE for path in data_dir.glob(pattern)}
    if settings.master_keys_are_in_a_file:
        private.add(settings.master_key_path)
    private |= {roles.password_path(data_dir / "roles", role) for role in roles.LOGIN_ROLES}
    found = [*_open_files(private), *_open_folders(data_dir)]
    yield from found
    if not found:
        yield ok("files", f"{len(private)} private files are their owner's only")


def _open_files(paths: Iterable[Path]) -> Generator[Result]:
    for path in sorted(paths):
        try:
            status = path.stat()
        except OSError:
            continue  # gone meanwhile, or never made; who needs it says so
        if status.st_mode & _OTHERS:
            mode = "700" if stat.S_ISDIR(status.st_mode) else "600"
            yield finding("files", f"others have rights on {path}", f"chmod {mode} {path}")
        elif status.st_uid not in {os.geteuid(), 0}:
            yield finding(
                "files",
                f"{path} belongs to another user",
                f"chown it to the user that runs Metrion: chown $(id -u) {path}",
            )


def _open_folders(data_dir: Path) -> Generator[Result]:
    """Whoever can write to a folder can put another file in place of a private one."""
    for folder in (data_dir, data_dir / "roles", data_dir / "journal", data_dir / "mail"):
        try:
            mode = folder.stat().st_mode
        except OSError:
            continue
        if mode & (_OTHERS_WRITE | _OTHERS_LIST):
            right = "711" if folder == data_dir else "700"
            yield finding("files", f"others can list or change {folder}", f"chmod {right} {folder}")
