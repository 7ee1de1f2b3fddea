"""A file that is touched as long as a process's event loop turns, for those who cannot ask it.

The jobs process listens on no port: a container's probe looks at the file's age.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

FILE_NAME: Final = "jobs.alive"
SECONDS: Final = 10.0

_log = logging.getLogger("metrion.jobs")


async def beat(path: Path) -> None:
    """Touch a file for ever; a disk that is full or gone is told once."""
    told = False
    while True:
        try:
            path.touch(mode=0o600)  # noqa: ASYNC240 - microseconds; a thread for it would cost more
        except OSError as error:
            if not told:
                _log.warning("%s cannot be touched: %s", path, error.strerror)
            told = True
        else:
            told = False
        await asyncio.sleep(SECONDS)
