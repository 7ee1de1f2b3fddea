import json
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
    for days in (0, 7, 8, 400):
        (tmp_path / f"{today - timedelta(days=days)}.jsonl").write_text("{}\n")
    (tmp_path / "notes.jsonl").write_text("somebody's")
    records = RejectedRecords(tmp_path)
    records.prune()
    assert {path.stem for path in tmp_path.iterdir()} == {
        str(today),
        str(today - timedelta(days=7)),
        "notes",
    }
    RejectedRecords(tmp_path / "none").prune()
