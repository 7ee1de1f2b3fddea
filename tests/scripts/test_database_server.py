import asyncio
import os
import signal
from pathlib import Path

import pytest

from scripts.console import Console
from scripts.database_server import DatabaseServer
from scripts.supervision import Fleet, StartError
from storage.embedded import administrator_url
from storage.errors import EmbeddedDatabaseError


async def test_it_is_made_started_again_when_it_dies_and_stopped(tmp_path: Path):
    with Console() as console:
        fleet = Fleet(console)
        server = DatabaseServer(tmp_path, console)
        await fleet.start(server, seconds=60)
        before = fleet.pids
        assert administrator_url(tmp_path) == server.url
        started = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(fleet.keep_running(started.set))
            os.kill(before["postgres"], signal.SIGKILL)
            await started.wait()
            keeping.cancel()
        assert fleet.pids.keys() == before.keys()
        assert fleet.pids != before
        administrator_url(tmp_path)
        fleet.hurry()
        await fleet.stop()
        assert fleet.pids == {}
        with pytest.raises(EmbeddedDatabaseError, match="not running"):
            administrator_url(tmp_path)


async def test_no_empty_database_takes_the_place_of_one_that_is_gone(tmp_path: Path):
    with Console() as console:
        server = DatabaseServer(tmp_path, console)
        await server.start()
        (tmp_path / "postgres").rename(tmp_path / "elsewhere")
        os.kill(server.pid, signal.SIGKILL)
        await server.ended()
        with pytest.raises(StartError, match="postgres is gone, and no empty database"):
            await server.start()
        assert not (tmp_path / "postgres").exists()
        (tmp_path / "elsewhere").rename(tmp_path / "postgres")
        await server.start()
        assert server.pid is not None
        await server.stop()


async def test_why_it_does_not_start(tmp_path: Path):
    (tmp_path / "postgres").write_text("in the way")
    with Console() as console:
        server = DatabaseServer(tmp_path, console)
        with pytest.raises(StartError, match="File exists"):
            await server.start()
        await server.stop()
