import asyncio
import os
import time

from scripts import heartbeat
from scripts.heartbeat import beat


async def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_touches_the_file_again_and_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "SECONDS", 0.01)
    path = tmp_path / "data" / heartbeat.FILE_NAME
    async with asyncio.TaskGroup() as group:
        beating = group.create_task(beat(path))
        await wait_until(lambda: "cannot be touched" in caplog.text)
        await asyncio.sleep(0.05)
        assert caplog.text.count("cannot be touched") == 1  # told once
        path.parent.mkdir()
        await wait_until(path.exists)
        assert path.stat().st_mode & 0o777 == 0o600
        os.utime(path, (0, 0))
        await wait_until(lambda: path.stat().st_mtime > 1)
        beating.cancel()
