"""The journal: log rows on local disk, from the end of a request until PostgreSQL has them.

A folder of segment files, written by one process each and read, oldest first, by the thread that
sends rows on. `append` is a `pwrite` into the page cache, a few microseconds:

- When the *process* dies (kill -9, a crash), nothing is lost: the kernel has the bytes. The next
  journal opened on the folder, in any process, adopts the segments of the dead one; what was
  sent, but not yet acknowledged, is read a second time (rows are idempotent by their id).
- When the *machine* dies (power cut, kernel panic), what was appended since the last `sync` may be
  lost, with `sync` every 0.2 s the rows of the last 0.2 s plus the time that one sync takes. A
  segment cut off in the middle of a record, or damaged there, is read up to that place.
- When the *disk* is full, read-only or broken, or the journal has reached its bound, `append`
  returns False at once, counts the row and says so in the log. A request never waits or fails.

A segment is written to for `_SEGMENT_SECONDS` at most, and removed when all is acknowledged. Locked
(`flock`) by its writer as long as that lives, it is a header (magic, and the offset up to which
records are acknowledged; 8 bytes each), then records (see `storage.journal_records`).
"""

import fcntl
import logging
import os
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import SettingsError
from storage.journal_records import MAX_RECORD_BYTES, READ_BYTES, framed, read_at, records_in, scan

_MAGIC = b"METRION1"
_HEADER = struct.Struct("<8sQ")
_SUFFIX = ".journal"
_DRAFT_SUFFIX = ".new"
_DRAFT_SECONDS = 60.0
_COMPLAINT_SECONDS = 60.0
_SEGMENT_SECONDS = 10.0  # what is safe elsewhere is soon off the disk: nothing erased stays

_log = logging.getLogger(__name__)
_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter


@dataclass(slots=True, eq=False)
class _Segment:
    """A file of records.

    Attributes:
        size: the end of its last whole record; later bytes are rubbish.
        acknowledged: the end of the last record that is safe elsewhere.
        synced: what of it is known to be on the disk.
        records: how many are not acknowledged.
    """

    path: Path
    descriptor: int
    size: int = _HEADER.size
    acknowledged: int = _HEADER.size
    synced: int = 0
    records: int = 0
    begun_at: float = field(default_factory=time.monotonic)

    @property
    def is_old(self) -> bool:
        """It is not written to any more: when all of it is acknowledged, it goes."""
        return time.monotonic() - self.begun_at >= _SEGMENT_SECONDS


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in the order they were appended, to be acknowledged once they are safe elsewhere."""

    records: list[bytes]
    segment: _Segment
    end: int


class Journal:
    """A queue of records on disk.

    `append` may be called by any thread, `sync` by one other; `adopt`, `read`, `acknowledge` and
    `close` belong to one thread, the reader.

    Attributes:
        folder: where it is.
        dropped: records that were not taken, since the start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = 4 * 1024 * 1024,
        max_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        """Open a journal; the folder is made if need be. Nothing is read yet: see `adopt`.

        Args:
            folder: of this product only; may be shared by several processes.
            segment_bytes: a file is closed when it is about this long.
            max_bytes: the most this process keeps on disk, adopted segments included.

        Raises:
            SettingsError: the folder cannot be made.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"the journal's folder {folder} cannot be made: {error.strerror}"
            ) from error
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._segments: list[_Segment] = []  # oldest first
        self._current: _Segment | None = None  # the one that is written to
        self._bytes = 0
        self._number = 0
        self._folder_changed = False
        self._complained_at = -_COMPLAINT_SECONDS
        self._lock = threading.Lock()  # for everything above
        self._files = threading.Lock()  # no file is closed while it is being synced
        self.dropped = 0

    @property
    def size_bytes(self) -> int:
        """Size of all segments of this process."""
        return self._bytes

    @property
    def queued(self) -> int:
        """Records that are not acknowledged yet."""
        with self._lock:
            return sum(segment.records for segment in self._segments)

    def append(self, record: bytes) -> bool:
        """Take a record; False if it cannot be kept (it is counted then, and logged)."""
        data = framed(record)
        with self._lock:
            if not 0 < len(record) <= MAX_RECORD_BYTES:
                return self._drop(f"a record has {len(record)} bytes")
            if self._bytes + len(data) > self._max_bytes:
                return self._drop(f"the journal has reached its bound of {self._max_bytes} bytes")
            try:
                segment = self._writable(len(data))
                self._write(segment, data)
            except OSError as error:
                return self._drop(error.strerror or str(error))
            segment.size += len(data)
            segment.records += 1
            self._bytes += len(data)
            return True

    def sync(self) -> None:
        """Have everything appended so far on the disk when this returns.

        Raises:
            OSError: the disk failed; records that were not synced may be lost with the machine.
        """
        with self._files:
            with self._lock:
                folder_changed, self._folder_changed = self._folder_changed, False
                unsynced = [(s, s.size) for s in self._segments if s.synced < s.size]
            if folder_changed:
                try:
                    self._sync_folder()
                except OSError:
                    self._folder_changed = True
                    raise
            for segment, size in unsynced:
                _sync_data(segment.descriptor)
                segment.synced = size

    def adopt(self) -> int:
        """Take over the segments of processes that are no more; return how many there were."""
        with self._lock:
            ours = {segment.path for segment in self._segments}
        others = [path for path in self.folder.glob(f"*{_SUFFIX}") if path not in ours]
        for path in self.folder.glob(f"*{_SUFFIX}{_DRAFT_SUFFIX}"):
            _remove_stale_draft(path)
        return sum(self._adopt_file(path) for path in others)

    def read(self, limit: int) -> Batch | None:
        """Return up to `limit` of the oldest records; None if there are none.

        Raises:
            OSError: another time they may be read.
        """
        while True:
            with self._lock:
                if self._current is not None and self._current.is_old:
                    self._current = None
                # not the current one if all of it is read: one that was adopted may be younger
                waiting = (s for s in self._segments if s is not self._current or s.records)
                segment = next(waiting, None)
                if segment is None:
                    return None
                start, size = segment.acknowledged, segment.size
                if start >= size:
                    self._segments.remove(segment)
                    self._bytes -= size
            if start >= size:
                self._remove(segment)
                continue
            chunk = read_at(segment.descriptor, min(READ_BYTES, size - start), start)
            records, read = records_in(chunk, limit)
            if records:
                return Batch(records, segment, start + read)
            self._give_up_rest(segment, start)

    def acknowledge(self, batch: Batch) -> None:
        """Forget the records of the batch that `read` returned last: they are safe elsewhere."""
        segment, end = batch.segment, batch.end
        with self._lock:
            segment.acknowledged = end
            segment.records -= len(batch.records)
            # A segment of which everything is sent need not grow to its full size first.
            if (
                segment is self._current
                and segment.size == end
                and segment.size > self._segment_bytes // 4
            ):
                self._current = None
        try:
            os.pwrite(segment.descriptor, _HEADER.pack(_MAGIC, end), 0)
        except OSError as error:
            # It only means that these records are read again after a restart.
            _log.warning("The journal cannot note what was sent: %s", error.strerror)

    def close(self) -> None:
        """Let go of all files; those with records in them stay, for the next to adopt."""
        with self._lock:
            segments, self._segments = self._segments, []
            self._current = None
            self._bytes = 0
        for segment in segments:
            if segment.acknowledged >= segment.size:
                self._remove(segment)
                continue
            with self._files:
                try:
                    _sync_data(segment.descriptor)
                except OSError as error:
                    _log.error("The journal could not be synced: %s", error.strerror)
                os.close(segment.descriptor)

    def _drop(self, reason: str) -> bool:
        self.dropped += 1
        now = time.monotonic()
        if now - self._complained_at >= _COMPLAINT_SECONDS:
            self._complained_at = now
            _log.error(
                "Log rows are being lost (%d so far, traffic goes on): %s", self.dropped, reason
            )
        return False

    def _writable(self, length: int) -> _Segment:
        """Return the segment to write to, a new one if there is none or it is full."""
        segment = self._current
        if segment is None or segment.is_old or segment.size + length > self._segment_bytes:
            segment = self._create_segment()
            self._segments.append(segment)
            self._current = segment
            self._bytes += segment.size
            self._folder_changed = True
        return segment

    def _create_segment(self) -> _Segment:
        """Make a file; nobody sees it by its name before it is locked and has a header."""
        self._number += 1
        path = self.folder / f"{time.time_ns():020d}-{os.getpid()}-{self._number}{_SUFFIX}"
        draft = path.with_name(path.name + _DRAFT_SUFFIX)
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(descriptor, _HEADER.pack(_MAGIC, _HEADER.size), 0)
            draft.rename(path)
        except OSError:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
            raise
        return _Segment(path, descriptor)

    def _write(self, segment: _Segment, data: bytes) -> None:
        """Write a whole record, or none: what is left of half a record is cut off again."""
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(segment.descriptor, data[written:], segment.size + written)
        except OSError:
            if written:
                os.ftruncate(segment.descriptor, segment.size)
            raise

    def _adopt_file(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            return False  # just sent and removed by its owner
        try:
            segment = _taken_over(path, descriptor)
        except (OSError, struct.error):
            segment = None  # its owner lives, or it has no header, or another time it can be read
        if segment is None:
            os.close(descriptor)
            return False
        with self._lock:
            self._segments.insert(0, segment)
            self._segments.sort(key=lambda each: each.path.name)
            self._bytes += segment.size
        return True

    def _give_up_rest(self, segment: _Segment, start: int) -> None:
        """Leave behind what cannot be read any more, though it once was written (a bad disk)."""
        with self._lock:
            lost = segment.size - start
            segment.acknowledged = segment.size
            segment.records = 0
            if segment is self._current:
                self._current = None
        _log.error("%s cannot be read: %d bytes of log rows are lost", segment.path.name, lost)

    def _remove(self, segment: _Segment) -> None:
        with self._files:
            try:
                segment.path.unlink(missing_ok=True)
            except OSError as error:
                # Whoever adopts it sends its rows again, which changes nothing.
                _log.warning("%s cannot be removed: %s", segment.path.name, error.strerror)
            os.close(segment.descriptor)

    def _sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def look_at(path: Path) -> tuple[bool, int]:
    """Say of a segment whether a living process has it, and how many bytes wait (if none: all)."""
    with path.open("rb") as file:
        is_owned, size = False, os.fstat(file.fileno()).st_size
        try:  # for a moment: who adopts it meanwhile comes again
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            is_owned = True
        magic, acknowledged = _HEADER.unpack(file.read(_HEADER.size).ljust(_HEADER.size, b"\0"))
        return is_owned, max(size - acknowledged, 0) if magic == _MAGIC else size


def _taken_over(path: Path, descriptor: int) -> _Segment | None:
    """Lock the segment of a process that is no more and see what is in it; None if it is none.

    Raises:
        OSError, struct.error: it cannot be locked or read, or has no header.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    is_there = path.stat().st_ino == os.fstat(descriptor).st_ino
    magic, acknowledged = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
    if not is_there or magic != _MAGIC:
        return None
    file_bytes = os.fstat(descriptor).st_size
    if not _HEADER.size <= acknowledged <= file_bytes:
        acknowledged = _HEADER.size
    end, count = scan(descriptor, acknowledged)
    if not count and end < file_bytes:
        # Perhaps it is the header that is damaged: what is read twice changes nothing.
        acknowledged = _HEADER.size
        end, count = scan(descriptor, acknowledged)
    rest = file_bytes - end
    if rest > 0:
        _log.warning("%s is cut off or damaged: %d bytes cannot be read", path.name, rest)
    return _Segment(path, descriptor, end, acknowledged, synced=end, records=count)


def _remove_stale_draft(path: Path) -> None:
    """Remove what a process left that died between making a segment and naming it."""
    try:
        if time.time() - path.stat().st_mtime > _DRAFT_SECONDS:
            path.unlink()
    except OSError:
        return  # named or removed meanwhile
