import json
import os
import time

import pytest

from scripts.doctor import journals
from scripts.doctor.journals import STALE_SECONDS, check_journal
from storage.journal import Journal
from storage.rejected import RejectedRecords


@pytest.fixture
def journal(settings):
    opened = Journal(settings.data_dir / "journal")
    yield opened
    opened.close()


def grow_old(settings) -> None:
    long_ago = time.time() - STALE_SECONDS - 60
    for path in (settings.data_dir / "journal").glob("*.journal"):
        os.utime(path, (long_ago, long_ago))


def test_none_and_rows_on_their_way_are_fine(settings, findings, journal):
    assert findings(check_journal(settings)) == []
    journal.append(b"row")
    assert findings(check_journal(settings)) == []


def test_rows_that_a_dead_process_left(settings, findings, journal):
    journal.append(b"row")
    journal.close()
    assert findings(check_journal(settings)) == []  # a proxy takes them over in a moment
    grow_old(settings)
    [said] = findings(check_journal(settings))
    assert said.startswith("11 bytes of rows were left by a process that is no more")


def test_rows_that_a_living_process_cannot_write(settings, findings, journal):
    journal.append(b"row")
    grow_old(settings)
    [said] = findings(check_journal(settings))
    assert said.startswith("11 bytes of rows have waited for the database")
    assert journal.queued == 1  # looking took nothing away


def test_what_was_written_is_not_stale(settings, findings, journal):
    journal.append(b"row")
    journal.acknowledge(journal.read(10))
    grow_old(settings)
    assert findings(check_journal(settings)) == []


def test_a_journal_that_is_nearly_full(settings, findings, journal, monkeypatch):
    monkeypatch.setattr(journals, "MOST_BYTES", 1000)
    journal.append(b"x" * 2000)
    [said] = findings(check_journal(settings))
    assert "at 256 MiB rows are lost" in said


def test_rows_that_the_database_refused(settings, findings, journal):
    rejected = RejectedRecords(settings.data_dir / "journal" / "rejected")
    for _ in range(3):
        rejected.keep(json.dumps({"requester": "SECRET"}).encode(), "a reason")
    [said] = findings(check_journal(settings))
    assert said.startswith("3 rows were refused by the database")
    assert "SECRET" not in said


def test_what_was_put_aside_may_go_meanwhile(settings, findings):
    folder = settings.data_dir / "journal" / "rejected"
    folder.mkdir(parents=True)
    (folder / "2026-01-01.jsonl").symlink_to(folder / "gone")  # is listed, cannot be opened
    assert findings(check_journal(settings)) == []
