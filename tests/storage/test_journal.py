import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.errors import SettingsError
from storage.journal import Journal, look_at
from storage.journal_records import MAX_RECORD_BYTES

HEADER_BYTES = 16
FRAME_BYTES = 8


def drain(journal: Journal, limit: int = 100) -> list[bytes]:
    records = []
    while batch := journal.read(limit):
        assert 0 < len(batch.records) <= limit
        records += batch.records
        journal.acknowledge(batch)
    return records


def crash(journal: Journal) -> None:
    """Let go of the files as the kernel does when it ends a process."""
    for segment in journal._segments:
        os.close(segment.descriptor)
    journal._segments.clear()


def reopened(folder: Path, **bounds: int) -> Journal:
    journal = Journal(folder, **bounds)
    journal.adopt()
    return journal


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


def test_records_come_out_as_they_went_in(tmp_path):
    journal = Journal(tmp_path)
    records = [b"1", b"one", bytes(range(256)), b"x" * MAX_RECORD_BYTES]
    assert all(journal.append(record) for record in records)
    assert journal.queued == 4
    assert journal.size_bytes == HEADER_BYTES + sum(FRAME_BYTES + len(r) for r in records)
    assert drain(journal) == records
    assert journal.queued == 0
    assert journal.read(10) is None
    journal.close()
    assert not list(tmp_path.iterdir())


def test_a_batch_that_is_not_acknowledged_is_read_again(tmp_path):
    journal = Journal(tmp_path)
    for number in range(10):
        journal.append(b"%d" % number)
    first = journal.read(4)
    assert first is not None
    assert first.records == [b"0", b"1", b"2", b"3"]
    again = journal.read(4)
    assert again is not None
    assert again.records == first.records
    journal.acknowledge(again)
    assert journal.queued == 6
    assert drain(journal, 4) == [b"4", b"5", b"6", b"7", b"8", b"9"]


def test_segments_are_closed_when_full_and_removed_when_sent(tmp_path):
    journal = Journal(tmp_path, segment_bytes=1000)
    records = [b"%0100d" % number for number in range(100)]
    for record in records:
        assert journal.append(record)
    assert 10 < len(segments(tmp_path)) < 20
    assert all(path.stat().st_size <= 1000 for path in segments(tmp_path))
    assert drain(journal, 7) == records
    assert len(segments(tmp_path)) <= 1
    assert journal.size_bytes <= 1000


def test_what_was_sent_does_not_pile_up_in_a_quiet_segment(tmp_path):
    journal = Journal(tmp_path, segment_bytes=10_000)
    for _ in range(1000):
        journal.append(b"x" * 100)
        assert len(drain(journal)) == 1
        assert journal.size_bytes < 3000


def test_the_files_are_for_their_owner_only(tmp_path):
    journal = Journal(tmp_path / "a" / "journal")
    journal.append(b"1")
    assert (tmp_path / "a" / "journal").stat().st_mode & 0o777 == 0o700
    assert segments(tmp_path / "a" / "journal")[0].stat().st_mode & 0o777 == 0o600


def test_a_dead_process_s_segment_may_be_younger_than_our_own(tmp_path):
    ours, other = Journal(tmp_path), Journal(tmp_path)
    assert ours.append(b"ours")
    assert other.append(b"theirs")
    crash(other)
    assert ours.adopt() == 1
    assert drain(ours) == [b"ours", b"theirs"]
    assert ours.append(b"later")
    assert drain(ours) == [b"later"]
    ours.close()
    assert not segments(tmp_path)


def test_of_several_live_processes_each_keeps_its_own(tmp_path):
    journals = [Journal(tmp_path) for _ in range(4)]
    for number, journal in enumerate(journals):
        assert journal.append(b"%d" % number)
    assert [journal.adopt() for journal in journals] == [0, 0, 0, 0]
    crash(journals.pop(1))
    assert sum(journal.adopt() for journal in journals) == 1
    assert sorted(record for journal in journals for record in drain(journal)) == [
        *(b"0", b"1", b"2", b"3"),
    ]
    for journal in journals:
        journal.close()


def test_the_segments_of_a_dead_process_are_adopted(tmp_path):
    dead = Journal(tmp_path, segment_bytes=500)
    for number in range(20):
        dead.append(b"%0100d" % number)
    batch = dead.read(3)
    assert batch is not None
    dead.acknowledge(batch)
    crash(dead)
    journal = Journal(tmp_path)
    journal.append(b"of the living")
    assert journal.adopt() == len(segments(tmp_path)) - 1
    assert journal.adopt() == 0
    assert journal.queued == 18
    assert journal.size_bytes == sum(path.stat().st_size for path in segments(tmp_path))
    # what was acknowledged is not read again, what is older is read first
    assert drain(journal) == [b"%0100d" % n for n in range(3, 20)] + [b"of the living"]


def test_the_segments_of_a_living_process_are_not(tmp_path):
    living = Journal(tmp_path)
    living.append(b"mine")
    other = reopened(tmp_path)
    assert other.read(1) is None
    other.close()
    assert drain(living) == [b"mine"]


def test_a_journal_that_was_closed_leaves_what_was_not_sent(tmp_path):
    journal = Journal(tmp_path)
    journal.append(b"1")
    journal.append(b"2")
    batch = journal.read(1)
    assert batch is not None
    journal.acknowledge(batch)
    journal.close()
    # a request that ends after that is kept, too
    assert journal.append(b"3")
    crash(journal)
    assert drain(reopened(tmp_path)) == [b"2", b"3"]


@example(cut=400, junk=bytes(4096))  # what a power cut often leaves
@given(cut=st.integers(0, 400), junk=st.binary(max_size=40))
def test_a_torn_or_damaged_tail_costs_only_itself(tmp_path_factory, cut, junk):
    folder = tmp_path_factory.mktemp("journal")
    dead = Journal(folder)
    records = [b"%030d" % number for number in range(10)]
    for record in records:
        dead.append(record)
    crash(dead)
    path = segments(folder)[0]
    path.write_bytes(path.read_bytes()[:cut] + junk)
    whole = max(cut - HEADER_BYTES, 0) // (FRAME_BYTES + 30)
    journal = reopened(folder)
    found = drain(journal)
    assert found[:whole] == records[:whole]
    assert found == records[: len(found)]
    # and it goes on
    assert journal.append(b"next")
    assert drain(journal) == [b"next"]
    journal.close()


def test_a_file_that_is_not_a_segment_is_left_alone(tmp_path, caplog):
    strangers = {"0-1-1.journal": b"METRION2" + b"x" * 100, "0-1-2.journal": b"", "x": b"y"}
    for name, content in strangers.items():
        (tmp_path / name).write_bytes(content)
    journal = reopened(tmp_path)
    assert journal.queued == 0
    journal.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == strangers


def test_what_a_process_left_unnamed_is_removed_after_a_while(tmp_path):
    for name, age in (("1-1-1.journal.new", 3600), ("2-1-1.journal.new", 0)):
        path = tmp_path / name
        path.write_bytes(b"")
        time_of = path.stat().st_mtime - age
        os.utime(path, (time_of, time_of))
    reopened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["2-1-1.journal.new"]


def test_at_its_bound_it_refuses_loudly_and_goes_on_when_there_is_room(tmp_path, caplog):
    journal = Journal(tmp_path, segment_bytes=2000, max_bytes=10_000)
    taken = sum(journal.append(b"x" * 100) for _ in range(200))
    assert 80 <= taken < 93
    assert journal.dropped == 200 - taken
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000
    assert ["traffic goes on" in record.message for record in caplog.records] == [True]
    assert len(drain(journal)) == taken
    assert journal.append(b"x" * 100)


@pytest.mark.parametrize("size", [0, MAX_RECORD_BYTES + 1])
def test_a_record_that_is_too_long_or_empty_is_refused(tmp_path, caplog, size):
    journal = Journal(tmp_path)
    assert not journal.append(b"x" * size)
    assert journal.dropped == 1
    assert f"a record has {size} bytes" in caplog.text
    assert not segments(tmp_path)


def test_a_folder_that_vanished_costs_rows_and_no_request(tmp_path):
    folder = tmp_path / "journal"
    journal = Journal(folder, segment_bytes=200)
    assert journal.append(b"x" * 150)
    folder.rename(tmp_path / "away")
    assert not journal.append(b"x" * 150)
    (tmp_path / "away").rename(folder)
    assert journal.append(b"y" * 150)
    assert drain(journal) == [b"x" * 150, b"y" * 150]
    assert journal.dropped == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"journal's folder .*/file/journal cannot be made"):
        Journal(tmp_path / "file" / "journal")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from storage.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
taken = [n for n in range(300) if journal.append(b"%0300d" % n)]
small = journal.append(b"small")
again = journal.append(b"%0300d" % 999)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
after = journal.append(b"after")
print(len(taken), taken[-1], small, again, after, journal.dropped, flush=True)
journal.sync()
"""


def test_a_disk_that_is_full_in_the_middle_of_a_record(tmp_path):
    # a file size limit is a real fault: the kernel writes a part and then fails (EFBIG)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    taken = (10_000 - HEADER_BYTES) // (FRAME_BYTES + 300)
    room = (10_000 - HEADER_BYTES) % (FRAME_BYTES + 300)
    assert room > FRAME_BYTES + 5
    assert done.stdout.split() == [
        *(str(taken), str(taken - 1)),
        *("True", "False", "True", str(301 - taken)),
    ]
    assert "File too large" in done.stderr
    assert drain(reopened(tmp_path)) == [
        *[b"%0300d" % number for number in range(taken)],
        b"small",
        b"after",
    ]


WRITER = """
import sys
from pathlib import Path
from storage.journal import Journal
journal = Journal(Path(sys.argv[1]), segment_bytes=20_000)
number = 0
while True:
    if journal.append(b"%s %d" % (sys.argv[2].encode(), number)):
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
    number += 1
    if number % 100 == 0:
        batch = journal.read(50)
        journal.acknowledge(batch)
"""


def test_kill_9_under_load_loses_nothing(tmp_path):
    for life in range(5):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), f"{life}-{name}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in "ab"
        ]
        told: dict[str, int] = {}
        for name, writer in zip("ab", writers, strict=True):
            assert writer.stdout is not None
            for line in writer.stdout:
                told[name] = int(line)
                if told[name] >= 700:
                    break
            writer.send_signal(signal.SIGKILL)
            # what it had told before it died
            told[name] = max([told[name], *[int(n) for n in writer.stdout if n.endswith("\n")]])
            writer.wait(10)
            writer.stdout.close()
        found: dict[str, list[int]] = {"a": [], "b": []}
        journal = reopened(tmp_path)
        for record in drain(journal):
            label, number = record.decode().split()
            assert label.startswith(f"{life}-")
            found[label[-1]].append(int(number))
        for name, numbers in found.items():
            # in order, without a gap, at least to the last that was told
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            # of each hundred that was written, fifty may be acknowledged
            assert numbers[0] <= (numbers[-1] + 1) // 100 * 50
            assert numbers[-1] >= told[name]
        journal.close()
    assert not segments(tmp_path)


_steps = st.lists(
    st.one_of(
        st.integers(0, 300).map(lambda size: ("append", size)),
        st.integers(1, 5).map(lambda limit: ("read", limit)),
        st.sampled_from([("crash", 0), ("close", 0), ("sync", 0)]),
    ),
    max_size=60,
)


@given(steps=_steps)
def test_whatever_happens_every_record_comes_out_in_order(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("journal")
    bounds = {"segment_bytes": 600, "max_bytes": 10**6}
    journal = reopened(folder, **bounds)
    appended: list[bytes] = []
    sent: list[bytes] = []
    for action, size in steps:
        if action == "append":
            record = b"%d " % len(appended) + b"x" * size
            assert journal.append(record)
            appended.append(record)
        elif action == "read":
            if batch := journal.read(size):
                sent += batch.records
                journal.acknowledge(batch)
        elif action == "sync":
            journal.sync()
        else:
            crash(journal) if action == "crash" else journal.close()
            journal = reopened(folder, **bounds)
        assert journal.queued == len(appended) - len(sent)
    assert sent + drain(journal) == appended
    journal.close()


def test_several_threads(tmp_path):
    journal = Journal(tmp_path, segment_bytes=5000)
    done = threading.Event()

    def write(name: int) -> None:
        for number in range(500):
            assert journal.append(b"%d %d" % (name, number))

    def sync() -> None:
        while not done.wait(0.001):
            journal.sync()

    writers = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    syncer = threading.Thread(target=sync)
    for thread in (*writers, syncer):
        thread.start()
    records: list[bytes] = []
    while any(thread.is_alive() for thread in writers) or journal.queued:
        records += drain(journal, 50)
    done.set()
    syncer.join()
    by_writer: dict[bytes, list[int]] = {}
    for record in records:
        name, number = record.split()
        by_writer.setdefault(name, []).append(int(number))
    assert by_writer == {b"%d" % name: list(range(500)) for name in range(4)}


def test_what_cannot_be_read_any_more_is_given_up_loudly(tmp_path, caplog):
    journal = Journal(tmp_path)
    journal.append(b"1")
    journal.append(b"2")
    path = segments(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + FRAME_BYTES] ^= 1
    path.write_bytes(content)
    assert journal.read(10) is None
    assert "18 bytes of log rows are lost" in caplog.text
    assert journal.queued == 0
    assert journal.append(b"3")
    assert drain(journal) == [b"3"]


@pytest.fixture
def break_sector(monkeypatch):
    """Have the disk not read 512 bytes of a file: the kernel gives what is before, or fails."""

    def broken(path: Path, place: int, code: int = errno.EIO) -> None:
        file, read, sector = path.stat().st_ino, os.pread, range(place, place + 512)

        def pread(descriptor: int, size: int, start: int) -> bytes:
            if os.fstat(descriptor).st_ino == file and start + size > sector.start:
                if start in sector:
                    raise OSError(code, os.strerror(code))
                size = sector.start - start if start < sector.start else size
            return read(descriptor, size, start)

        monkeypatch.setattr(os, "pread", pread)

    return broken


@pytest.mark.parametrize("offset", [0, 4])  # where a record begins, and within one
@pytest.mark.parametrize("is_adopted", [False, True])
def test_a_sector_that_cannot_be_read_costs_the_rest_of_its_segment(
    tmp_path, caplog, break_sector, offset, is_adopted
):
    journal = Journal(tmp_path, segment_bytes=4000)
    frame_bytes = FRAME_BYTES + 120
    for number in range(100):
        assert journal.append(b"%0120d" % number)
    in_a_segment = (4000 - HEADER_BYTES) // frame_bytes
    before = 10
    break_sector(segments(tmp_path)[0], HEADER_BYTES + before * frame_bytes + offset)
    if is_adopted:
        crash(journal)
        journal = reopened(tmp_path)
    found = list(map(int, drain(journal)))
    assert found == [*range(before), *range(in_a_segment, 100)]
    assert f"{(in_a_segment - before) * frame_bytes} bytes" in caplog.text
    assert journal.queued == 0
    journal.close()
    assert not segments(tmp_path)


def test_what_may_be_read_another_time_is_not_given_up(tmp_path, monkeypatch, break_sector):
    journal, dead = Journal(tmp_path), Journal(tmp_path)
    journal.append(b"1")
    dead.append(b"2")
    crash(dead)
    for path in segments(tmp_path):
        break_sector(path, HEADER_BYTES, errno.ENOMEM)
    assert journal.adopt() == 0
    with pytest.raises(OSError, match="memory"):
        journal.read(1)
    monkeypatch.undo()
    assert journal.adopt() == 1
    assert drain(journal) == [b"1", b"2"]
    journal.close()


@pytest.mark.parametrize("zeros", [8, 24, 4096])
def test_zeros_are_no_records(tmp_path, caplog, zeros):
    dead = Journal(tmp_path)
    dead.append(b"1")
    crash(dead)
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes() + bytes(zeros))
    journal = reopened(tmp_path)
    assert journal.queued == 1
    assert f"cut off or damaged: {zeros} bytes cannot be read" in caplog.text
    assert drain(journal) == [b"1"]
    assert not segments(tmp_path)


@pytest.mark.parametrize("acknowledged", [0, 17, 50, 2**40, 2**64 - 1])
def test_a_damaged_header_costs_nothing(tmp_path, acknowledged):
    dead = Journal(tmp_path)
    records = [b"%030d" % number for number in range(10)]
    for record in records:
        dead.append(record)
    crash(dead)
    path = segments(tmp_path)[0]
    content = path.read_bytes()
    path.write_bytes(content[:8] + acknowledged.to_bytes(8, "little") + content[16:])
    assert drain(reopened(tmp_path)) == records


def test_who_looks_sees_whether_it_has_an_owner_and_what_waits(tmp_path):
    journal = Journal(tmp_path)
    journal.append(b"abc")
    journal.append(b"defg")
    [path] = tmp_path.glob("*.journal")
    assert look_at(path) == (True, 2 * 8 + 7)
    journal.acknowledge(journal.read(1))
    assert look_at(path) == (True, 8 + 4)
    journal.close()
    assert look_at(path) == (False, 8 + 4)
    path.write_bytes(b"")  # a header that was never written
    assert look_at(path) == (False, 0)
    path.write_bytes(b"\xff" * 100)  # no segment at all: nobody will ever send it
    assert look_at(path) == (False, 100)


def test_what_is_safe_elsewhere_is_off_the_disk_soon(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.journal._SEGMENT_SECONDS", 0.1)
    journal = Journal(tmp_path)
    journal.append(b"somebody's")
    journal.acknowledge(journal.read(10))
    assert len(list(tmp_path.iterdir())) == 1
    time.sleep(0.1)
    assert journal.read(10) is None
    assert list(tmp_path.iterdir()) == []
    # also while there is always something to write
    journal.append(b"first")
    time.sleep(0.1)
    journal.append(b"second")
    assert len(list(tmp_path.iterdir())) == 2
    first = journal.read(10)
    assert first.records == [b"first"]
    journal.acknowledge(first)
    assert journal.read(10).records == [b"second"]
    assert len(list(tmp_path.iterdir())) == 1
    journal.close()
