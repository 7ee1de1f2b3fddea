"""Rows on their way from the end of a request into PostgreSQL, none lost and none twice.

`record` puts a row into the journal (microseconds, no waiting) and wakes a thread, which completes
it (tokens, cost: see `storage.pricing`) and writes it in batches. While rows are few, each is
written as soon as it is there; a batch then collects what comes for a moment. A second thread
has the journal synced every `SYNC_SECONDS`, also while the database hangs: that, and what
`storage.journal` says of it, is what a power cut can cost. A killed process costs nothing.
"""

import contextlib
import json
import logging
import random
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from pydantic import SecretStr
from pydantic_core import to_json

from storage.errors import DatabaseUnavailable, RightsMissing, RowsRejected
from storage.ingest import LogWriter
from storage.journal import Journal
from storage.pricing import NO_USAGE, PriceBook, TokenUsage
from storage.rejected import RejectedRecords

BATCH_ROWS: Final = 2000
GROUP_SECONDS: Final = 0.2
# A batch costs the database and this process as much as forty rows, however few are in it: those of
# steady traffic wait longer, and a single one is soon seen on the pages.
STEADY_SECONDS: Final = 0.5
STEADY_ROWS: Final = 8
# So many that are there after a batch are the next one at once: who has fallen behind must carry
# more than comes in.
BEHIND_ROWS: Final = 500
SYNC_SECONDS: Final = 0.2

_ADOPT_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_REMIND_SECONDS = 60.0
_GRACE_SECONDS = 1.0
_LOOK_SECONDS = 0.02
_NOT_EXPECTED_TO_REPORT = ("refused", "provider_error")

_log = logging.getLogger(__name__)

Row = dict[str, Any]


@dataclass(slots=True)
class Counts:
    """What has happened since the start.

    Attributes:
        recorded: rows that are in the journal.
        unwritable: rows that could not be put into the journal as they are: a defect.
        written: rows new in the database.
        rejected: rows the database will never take; see `storage.rejected`.
        batches: calls of the database that succeeded.
        failures: calls of the database that failed; it may have been away.
        sync_failures: times that the disk could not be synced.
        unpriced: written rows with tokens and without a known price.
        unreported: written rows whose provider did not say what was used.
    """

    recorded: int = 0
    unwritable: int = 0
    written: int = 0
    rejected: int = 0
    batches: int = 0
    failures: int = 0
    sync_failures: int = 0
    unpriced: int = 0
    unreported: int = 0


class Recorder:
    """Takes rows, never blocks, and sees to it that they reach the database.

    Attributes:
        counts: for metrics and tests.
    """

    def __init__(
        self,
        journal: Journal,
        url: SecretStr,
        prices: PriceBook,
        *,
        metrics: CollectorRegistry | None = None,
    ) -> None:
        """Prepare; nothing runs before `start`.

        Args:
            journal: this process's own; the recorder is its reader and closes it.
            url: of the database, for the proxy's role.
            prices: what tokens cost.
            metrics: where to show the counts, if anywhere.
        """
        self.counts = Counts()
        self._journal = journal
        self._writer = LogWriter(url)
        self._prices = prices
        self._rejected = RejectedRecords(journal.folder / "rejected")
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._threads: list[threading.Thread] = []
        self._outage: _Outage | None = None
        if metrics is not None:
            metrics.register(_RecorderMetrics(self, journal, self._writer))

    def start(self) -> None:
        """Start the two threads; rows that a dead process left are taken over."""
        for name, work in (("metrion-rows", self._run), ("metrion-sync", self._sync_regularly)):
            thread = threading.Thread(target=work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def record(self, row: Mapping[str, Any]) -> None:
        """Take a row: on disk when this returns, or dropped and counted; never raises or waits.

        Args:
            row: the columns of `storage.logs.RequestLog` but for tokens and cost, with `account_id`
                and `usage` (`TokenUsage`, or None if nothing was reported).
        """
        try:
            record = _encode(row)
        except (TypeError, ValueError) as error:
            self.counts.unwritable += 1
            _log.error("A log row cannot be kept, this is a defect of Metrion: %s", error)
            return
        if self._journal.append(record):
            self.counts.recorded += 1
            if not self._wake.is_set():
                self._wake.set()

    def complete(self, row: Mapping[str, Any]) -> Row | None:
        """Return a row with tokens and cost, as it will be written; None if that fails.

        For those who look at traffic (see `addons.inspection`): it takes a tenth of a millisecond,
        which production spends in the recorder's own thread.
        """
        try:
            return self._complete(_encode(row))
        except Exception:  # noqa: BLE001 - a picture is not worth a request
            _log.exception("A row cannot be shown")
            return None

    def flush(self, timeout: float) -> int:
        """Wait until all rows are in the database; return how many still are not after `timeout`.

        Blocks: not for the event loop's thread.
        """
        self._journal.sync()
        deadline = time.monotonic() + timeout
        while self._journal.queued and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return self._journal.queued

    def close(self, timeout: float) -> None:
        """Write what can be written within `timeout` seconds; the rest stays in the journal."""
        self._deadline = time.monotonic() + timeout
        self._journal.sync()  # the last rows too can be read now
        self._closing.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(max(self._deadline - time.monotonic(), 0) + _GRACE_SECONDS)
        if any(thread.is_alive() for thread in self._threads):
            # It hangs in a call of the database; it lets go of everything when that returns.
            _log.warning("The database does not answer: rows stay in the journal")
        elif not self._threads:
            self._journal.close()

    def _run(self) -> None:
        """Carry rows to the database until closed; then let go of it and of the journal."""
        self._prices.warm()
        self._carry_until_closed()
        self._writer.close()
        if self._journal.queued:
            _log.warning("%d rows stay in the journal for the next start", self._journal.queued)
        self._journal.close()

    def _carry_until_closed(self) -> None:
        adopted_at = float("-inf")
        while time.monotonic() < self._deadline:
            try:
                if time.monotonic() - adopted_at >= _ADOPT_SECONDS:
                    adopted_at = time.monotonic()
                    self._adopt()
                is_last = self._closing.is_set()  # asked first: what came before it is read
                if not self._carry() and is_last:
                    return
            except Exception:  # noqa: BLE001 - this thread must not end: rows would pile up
                _log.exception("The recorder failed; it will try again")
                self._pause_after_failure("an unexpected error")

    def _carry(self) -> bool:
        """Write one batch, or wait for one; False if there was none or it was not written."""
        self._wake.clear()
        batch = self._journal.read(BATCH_ROWS)
        if batch is None:
            if not self._closing.is_set():
                self._wake.wait(_ADOPT_SECONDS)
            return False
        try:
            self._write(batch.records)
        except (DatabaseUnavailable, RightsMissing) as error:
            self._pause_after_failure(str(error))
            return False
        self._journal.acknowledge(batch)
        self._end_outage()
        if self._journal.queued < BEHIND_ROWS:
            is_steady = len(batch.records) >= STEADY_ROWS
            self._closing.wait(STEADY_SECONDS if is_steady else GROUP_SECONDS)
        return True

    def _write(self, records: Sequence[bytes]) -> None:
        """Write records, whatever else is among them: what cannot be written is put aside.

        Raises:
            DatabaseUnavailable, RightsMissing: try all of them again.
        """
        rows: list[Row] = []
        good: list[bytes] = []
        for record in records:
            try:
                rows.append(self._complete(record))
                good.append(record)
            except Exception as error:  # noqa: BLE001 - one bad record must not hold up the others
                self._reject(record, f"{type(error).__name__}: {error}")
        self._write_rows(good, rows)

    def _write_rows(self, records: Sequence[bytes], rows: Sequence[Row]) -> None:
        if not rows:
            return
        try:
            self.counts.written += self._writer.write(rows)
        except RowsRejected as error:
            if len(rows) == 1:
                self._reject(records[0], str(error))
                return
            middle = len(rows) // 2
            self._write_rows(records[:middle], rows[:middle])
            self._write_rows(records[middle:], rows[middle:])
            return
        self.counts.batches += 1
        for row in rows:
            if row["total_tokens"] is not None:
                self.counts.unpriced += row["cost_usd"] is None
            elif row.get("outcome") not in _NOT_EXPECTED_TO_REPORT:
                self.counts.unreported += 1

    def _complete(self, record: bytes) -> Row:
        """Return the row of a record, with tokens and cost."""
        row: Row = json.loads(record.decode())  # of bytes it would guess the encoding
        said = row.pop("usage", None)
        usage = NO_USAGE if row.get("cached") else TokenUsage.from_json(said or {})
        at = datetime.fromisoformat(row["created_at"])
        price = self._prices.price(row["provider"] or "", row["model"], usage, at)
        if row.get("cached"):
            row["saved_usd"] = self._saved(row, said or {}, at)
        row.update(
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            total_tokens=usage.total_tokens,
            cost_usd=str(price.cost_usd) if price else None,
            price_source=price.source if price else None,
        )
        return row

    def _saved(self, row: Row, said: Mapping[str, Any], at: datetime) -> str | None:
        """Return USD: what the stored answer used when it was made, at the prices of now."""
        try:
            used = TokenUsage.from_json(said)
        except TypeError:
            return None  # stored by a newer version
        price = self._prices.price(row["provider"] or "", row["model"], used, at)
        return str(price.cost_usd) if price else None

    def _reject(self, record: bytes, reason: str) -> None:
        self.counts.rejected += 1
        try:
            kept = self._rejected.keep(record, reason)
        except OSError as error:
            kept = False
            reason = f"{reason}; {error.strerror}"
        _log.error("A log row was put aside%s: %s", "" if kept else " and is lost", reason)

    def _adopt(self) -> None:
        self._rejected.prune()
        self._forget_erased()
        adopted = self._journal.adopt()
        if adopted:
            _log.info("Took over %d journal segments of a process that is no more", adopted)

    def _forget_erased(self) -> None:
        """Delete what was put aside of accounts that are no more."""
        owners = self._rejected.owners()
        if owners:
            with contextlib.suppress(DatabaseUnavailable):  # some seconds later, then
                self._rejected.forget(self._writer.gone_accounts(owners))

    def _pause_after_failure(self, reason: str) -> None:
        """Wait, longer each time; at once over when the recorder is closed."""
        self.counts.failures += 1
        now = time.monotonic()
        if self._outage is None:
            self._outage = _Outage(now)
        outage = self._outage
        if now >= outage.remind_at:
            outage.remind_at = now + _REMIND_SECONDS
            _log.warning("%d rows wait in the journal: %s", self._journal.queued, reason)
        pause = min(_FIRST_PAUSE_SECONDS * 2**outage.failures, _LONGEST_PAUSE_SECONDS)
        outage.failures = min(outage.failures + 1, 16)
        # Spread, so that many processes do not come back to the database at the same moment.
        self._closing.wait(pause * random.uniform(0.5, 1))  # noqa: S311

    def _end_outage(self) -> None:
        if self._outage is not None:
            seconds = time.monotonic() - self._outage.since
            self._outage = None
            _log.warning("Rows are written again after %.1f seconds", seconds)

    def _sync_regularly(self) -> None:
        remind_at = float("-inf")
        while not self._closing.wait(SYNC_SECONDS):
            try:
                self._journal.sync()
            except OSError as error:
                self.counts.sync_failures += 1
                if time.monotonic() >= remind_at:
                    remind_at = time.monotonic() + _REMIND_SECONDS
                    _log.error("The journal cannot be synced: %s", error.strerror)


@dataclass(slots=True)
class _Outage:
    """A time without a database that takes rows."""

    since: float
    failures: int = 0
    remind_at: float = 0.0


def _encode(row: Mapping[str, Any]) -> bytes:
    """A row as the journal keeps it: JSON.

    Raises:
        TypeError, ValueError: a value has none.
    """
    usage = row.get("usage")
    said = {**row, "usage": usage.to_json() if isinstance(usage, TokenUsage) else usage}
    try:
        return to_json(said)  # a quarter of the time that `json` takes
    except ValueError:  # half of a surrogate pair: `json` writes what `LogWriter` replaces
        return json.dumps(said).encode()


class _RecorderMetrics(Collector):
    """The counts, in Prometheus' form."""

    def __init__(self, recorder: Recorder, journal: Journal, writer: LogWriter) -> None:
        self._recorder = recorder
        self._journal = journal
        self._writer = writer

    def collect(self) -> Iterable[Metric]:
        """Read the counts at this moment."""
        counts, journal = self._recorder.counts, self._journal
        for name, help_text, value in (
            ("recorded", "Rows put into the journal", counts.recorded),
            ("dropped", "Rows lost: no room, or no disk", journal.dropped + counts.unwritable),
            ("written", "Rows new in the database", counts.written),
            ("gone", "Rows of accounts that no longer exist", self._writer.gone),
            ("rejected", "Rows the database will never take", counts.rejected),
            ("unpriced", "Rows with tokens and no known price", counts.unpriced),
            ("unreported", "Rows whose provider reported no usage", counts.unreported),
            ("batches", "Batches written", counts.batches),
            ("failures", "Batches that could not be written", counts.failures),
            ("sync_failures", "Times the disk failed to sync", counts.sync_failures),
        ):
            yield CounterMetricFamily(f"metrion_recorder_{name}", help_text, value)
        yield GaugeMetricFamily(
            "metrion_recorder_queued", "Rows in the journal that are not written", journal.queued
        )
        yield GaugeMetricFamily(
            "metrion_recorder_journal_bytes", "Size of the journal", journal.size_bytes
        )
