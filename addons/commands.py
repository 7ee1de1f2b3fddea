"""Commands for mitmweb and the console: `metrion.rows`, `metrion.flush`, `metrion.drain`.

In the console after `:`, in mitmweb in its command bar. None of them shows more than the log does.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from mitmproxy import command, types
from mitmproxy.log import ALERT

from addons.facts import Facts, money

logger = logging.getLogger(__name__)

KEPT_ROWS = 1000
FLUSH_SECONDS = 10.0
DRAIN_SECONDS = 30.0
# No more than the console has room for.
COLUMNS = (
    *("created_at", "outcome", "cached", "mode", "requester", "model"),
    *("input_tokens", "output_tokens", "cost_usd", "latency_ms", "account_id", "id"),
)
_TIME = slice(11, 19)  # of the day


class MetrionCommands:
    """The commands, and the rows that one of them shows.

    Args:
        flush: waits until all rows are in the database; returns how many are not. Blocks.
        drain: accepts nothing more and lets what is under way finish.
    """

    def __init__(
        self, flush: Callable[[float], int], drain: Callable[[float], Awaitable[None]]
    ) -> None:
        self._flush = flush
        self._drain = drain
        self._rows: deque[Facts] = deque(maxlen=KEPT_ROWS)
        self._work: set[asyncio.Task[None]] = set()

    def add(self, row: Facts) -> None:
        """A row was written."""
        self._rows.append(row)

    @command.command("metrion.rows")
    def rows(self, count: int = 20) -> types.Data:
        """Show the last rows that this process has written, newest first (at most 1,000)."""
        newest = [self._rows[-n - 1] for n in range(min(count, len(self._rows)))]
        table = [list(COLUMNS), *([_cell(row, name) for name in COLUMNS] for row in newest)]
        return cast("types.Data", table)

    @command.command("metrion.flush")
    def flush(self) -> None:
        """Wait until all rows are in the database, and say so."""
        self._begin(self._say_flushed())

    @command.command("metrion.drain")
    def drain(self) -> None:
        """Accept no more requests, let those under way finish; the flows stay to look at."""
        self._begin(self._say_drained())

    def cancel(self) -> None:
        """Stop what is under way."""
        for task in self._work:
            task.cancel()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        # Owned: kept here until it is done, cancelled by `cancel`.
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _say_flushed(self) -> None:
        left = await asyncio.to_thread(self._flush, FLUSH_SECONDS)
        logger.log(ALERT, "Metrion: %s", f"{left} rows wait" if left else "all rows are written")

    async def _say_drained(self) -> None:
        logger.log(ALERT, "Metrion accepts no more requests")
        await self._drain(DRAIN_SECONDS)
        logger.log(ALERT, "Metrion has drained; end it when you have seen enough")


def _cell(row: Facts, name: str) -> str:
    value = row.get(name)
    if name == "cost_usd" and value is not None:
        return money(value)
    if name == "created_at":
        return str(value or "")[_TIME]
    return "" if value is None else str(value)
