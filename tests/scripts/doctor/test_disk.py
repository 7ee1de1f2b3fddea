import os
from types import SimpleNamespace

import pytest

from scripts.doctor.disk import check_disk
from scripts.doctor.result import Status

ROOM = {"f_frsize": 4096, "f_blocks": 10**8, "f_bavail": 5 * 10**7, "f_files": 100, "f_favail": 50}


@pytest.mark.parametrize(
    ("changes", "is_full"),
    [
        ({}, False),
        ({"f_bavail": 1000}, True),
        ({"f_bavail": 4 * 10**6}, True),
        ({"f_favail": 1}, True),
        ({"f_files": 0, "f_favail": 0}, False),  # a file system that counts none
    ],
    ids=["room", "bytes", "share", "entries", "btrfs"],
)
def test_room(settings, findings, monkeypatch, changes, is_full):
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**ROOM | changes))
    assert bool(findings(check_disk(settings))) == is_full


def test_without_a_folder_nothing_is_looked_at(settings, tmp_path):
    [result] = check_disk(settings.model_copy(update={"data_dir": tmp_path / "none"}))
    assert result.status is Status.SKIPPED
