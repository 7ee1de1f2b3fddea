import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from storage import rejected
from storage.rejected import RejectedRecords


def test_records_are_kept_with_the_reason(tmp_path):
    records = RejectedRecords(tmp_path / "rejected")
    assert records.keep(b'{"id": 1}', "too bad")
    assert records.keep(b"\xff", "not text")
    (path,) = (tmp_path / "rejected").iterdir()
    assert path.name == f"{datetime.now(UTC).date()}.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"reason": "too bad", "record": '{"id": 1}'},
        {"reason": "not text", "record": "\ufffd"},
    ]


def test_no_more_than_their_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(rejected, "MAX_BYTES", 1000)
    records = RejectedRecords(tmp_path)
    assert sum(records.keep(b"x" * 100, "bad") for _ in range(20)) == 7
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000


def test_not_for_long(tmp_path):
    today = datetime.now(UTC).date()
    for days in (0, 6, 7, 400):
        (tmp_path / f"{today - timedelta(days=days)}.jsonl").write_text("{}\n")
    (tmp_path / "notes.jsonl").write_text("somebody's")
    (tmp_path / f"{today}.new").write_text("of a process that died")
    os.utime(tmp_path / f"{today}.new", (0, 0))
    records = RejectedRecords(tmp_path)
    records.prune()
    assert {path.stem for path in tmp_path.iterdir()} == {
        str(today),
        str(today - timedelta(days=6)),
        "notes",
    }
    RejectedRecords(tmp_path / "none").prune()


def test_those_of_an_account_are_forgotten(tmp_path):
    records = RejectedRecords(tmp_path)
    gone, stays = uuid.uuid4(), uuid.uuid4()
    for account in (gone, stays, gone):
        assert records.keep(json.dumps({"account_id": str(account)}).encode(), "too bad")
    assert records.keep(f'{{"account_id":"{gone}","half'.encode(), "damaged")
    assert records.keep(b"nobody's", "not JSON")
    assert records.owners() == {gone, stays}
    records.forget({gone, uuid.uuid4()})
    assert records.owners() == {stays}
    (path,) = tmp_path.glob("*.jsonl")
    assert [json.loads(line)["reason"] for line in path.read_text().splitlines()] == [
        "too bad",
        "not JSON",
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(gone) not in "".join(each.read_text() for each in tmp_path.iterdir())


def test_a_file_that_another_process_prunes_meanwhile_is_no_error(tmp_path):
    records = RejectedRecords(tmp_path)
    owner = uuid.uuid4()
    (tmp_path / "9998-01-01.jsonl").symlink_to(tmp_path / "gone")  # is listed, cannot be opened
    assert records.keep(json.dumps({"account_id": str(owner)}).encode(), "bad")
    assert records.owners() == {owner}
    records.forget({owner})
    assert records.owners() == set()


def test_nothing_is_lost_while_others_are_forgotten(tmp_path):
    """Another process keeps a record while the file is being replaced."""
    gone = uuid.uuid4()
    line = json.dumps({"account_id": str(gone)}).encode()
    RejectedRecords(tmp_path).keep(line, "bad")

    def keep() -> None:
        for number in range(200):
            RejectedRecords(tmp_path).keep(str(number).encode(), "bad")

    with ThreadPoolExecutor(2) as pool:
        keeping = [pool.submit(keep), pool.submit(keep)]
        while not all(each.done() for each in keeping):
            RejectedRecords(tmp_path).keep(line, "bad")
            RejectedRecords(tmp_path).forget({gone})
    (path,) = tmp_path.glob("*.jsonl")
    assert len(path.read_text().splitlines()) == 400
