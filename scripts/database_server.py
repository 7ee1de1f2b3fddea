"""The embedded PostgreSQL as a program that is kept running."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from scripts.console import Console
from scripts.supervision import StartError
from storage.embedded import EmbeddedPostgres
from storage.errors import EmbeddedDatabaseError

_WATCH_SECONDS = 0.1


class DatabaseServer:
    """The server of a data directory; it stops with this process, however that ends."""

    def __init__(self, data_dir: Path, console: Console) -> None:
        self.name = "postgres"
        self._console = console
        self._server = EmbeddedPostgres(data_dir)
        self._folder = data_dir / "postgres"
        self._has_data = False
        # One thread for all its life: the kernel stops the server when its starter's thread ends.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="postgres")

    @property
    def pid(self) -> int | None:
        """The server's process; None: it does not run."""
        return self._server.pid

    @property
    def url(self) -> SecretStr:
        """The administrator's address."""
        return self._server.url

    async def start(self) -> None:
        """Start it, making the database first if there is none; returns when it answers.

        Raises:
            StartError: it does not start; says why.
        """
        if self._has_data and not self._folder.exists():
            # deleted, or no longer mounted: an empty database would take the place of people's data
            raise StartError(
                f"{self._folder} is gone, and no empty database is put in its place: bring it "
                "back, or stop this and start anew"
            )
        start = partial(self._server.start, stop_with_thread=True)
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, start)
        except EmbeddedDatabaseError as error:
            raise StartError(str(error)) from error
        self._has_data = True

    async def wait_until_ready(self, seconds: float) -> None:
        """Return: a server that was started answers."""

    async def ended(self) -> str:
        """Wait until it ends by itself; return where it says why."""
        while self._server.pid is not None:  # noqa: ASYNC110 - nobody tells of its end
            await asyncio.sleep(_WATCH_SECONDS)
        return "see server.log in the data directory's postgres folder"

    async def stop(self) -> None:
        """Stop it; a start that is under way is finished first."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._server.release)
        except EmbeddedDatabaseError as error:
            self._console.complain(str(error))
        self._thread.shutdown()

    def hurry(self) -> None:
        """Do nothing: its stop is fast, and what it still does is for the data's good."""
