"""Records as they lie in a segment of the journal: length, CRC-32 (4 bytes each), bytes.

What is no whole, undamaged record ends what can be read of a segment; so does a place that the
disk cannot read any more.
"""

import errno
import os
import struct
import zlib

MAX_RECORD_BYTES = 256 * 1024
READ_BYTES = 2 * MAX_RECORD_BYTES
"""The least that always has a whole record in it, and more."""

_RECORD = struct.Struct("<II")


def framed(record: bytes) -> bytes:
    """Return a record as it is written; it must have 1 to `MAX_RECORD_BYTES` bytes to be read."""
    return _RECORD.pack(len(record), zlib.crc32(record)) + record


def records_in(chunk: bytes, limit: int) -> tuple[list[bytes], int]:
    """Cut whole, undamaged records off the beginning; return them and how long they were."""
    records: list[bytes] = []
    place = 0
    while len(records) < limit and place + _RECORD.size <= len(chunk):
        length, checksum = _RECORD.unpack_from(chunk, place)
        start = place + _RECORD.size
        record = chunk[start : start + length]
        # Zeros, which a power cut may leave, would be empty records: their checksum is right.
        is_whole = 0 < length <= MAX_RECORD_BYTES and len(record) == length
        if not is_whole or zlib.crc32(record) != checksum:
            break
        records.append(record)
        place = start + length
    return records, place


def read_at(descriptor: int, size: int, start: int) -> bytes:
    """Return bytes of a segment up to where the disk fails; none, if that is right there.

    Raises:
        OSError: another time they may be read.
    """
    try:
        return os.pread(descriptor, size, start)  # with something to give, it gives that
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def scan(descriptor: int, start: int) -> tuple[int, int]:
    """Return where the whole records after `start` end, and how many they are.

    Raises:
        OSError: see `read_at`.
    """
    count = 0
    while True:
        chunk = read_at(descriptor, READ_BYTES, start)
        records, read = records_in(chunk, READ_BYTES)
        if not records:
            return start, count
        start += read
        count += len(records)
