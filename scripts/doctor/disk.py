"""Room on the disk of the data directory."""

import os
from collections.abc import Generator
from typing import Final

from scripts.doctor.result import Result, finding, ok, skipped
from storage.settings import Settings

LEAST_BYTES: Final = 1024**3
LEAST_SHARE: Final = 0.05
_GIBIBYTE = 1024**3


def check_disk(settings: Settings) -> Generator[Result]:
    """Look at free bytes and free entries (inodes)."""
    try:
        disk = os.statvfs(settings.data_dir)
    except OSError as error:
        yield skipped("disk", f"{settings.data_dir}: {error.strerror}")
        return
    free = disk.f_bavail * disk.f_frsize
    share = disk.f_bavail / disk.f_blocks if disk.f_blocks else 1.0
    entries = disk.f_favail / disk.f_files if disk.f_files else 1.0
    if free < LEAST_BYTES or share < LEAST_SHARE or entries < LEAST_SHARE:
        yield finding(
            "disk",
            f"{free / _GIBIBYTE:.1f} GiB ({share:.0%}) and {entries:.0%} of the entries are free",
            "make room: without it rows are lost and the database stops",
        )
    else:
        yield ok("disk", f"{free / _GIBIBYTE:.1f} GiB ({share:.0%}) are free")
