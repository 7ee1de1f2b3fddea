import asyncio
import contextlib
import logging

from scripts import erasing
from scripts.erasing import Erasing
from storage.errors import DatabaseUnavailable


async def test_what_was_asked_for_is_done_again_and_again_also_after_a_failure(
    database, monkeypatch, caplog
):
    monkeypatch.setattr(erasing, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(erasing, "_RETRY_SECONDS", 0.01)
    looks = 0

    async def carry_on(_: object, __: object) -> int:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise DatabaseUnavailable("away")
        if looks == 3:
            raise PermissionError(13, "Permission denied")
        return 1

    monkeypatch.setattr("storage.erasure.Eraser.carry_on", carry_on)
    running = asyncio.ensure_future(Erasing.open(database.settings, None).run())
    while looks < 5:
        await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    # what is told of the looks that went well depends on the level that other tests have set
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    reasons = [vars(record).get("reason") for record in warnings]
    assert reasons[:2] == ["away", "Permission denied"]
