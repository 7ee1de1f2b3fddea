import stat
from pathlib import Path

import pytest

from storage import private_files


def test_what_is_written_is_read_and_only_the_owner_may(tmp_path: Path):
    path = tmp_path / "secret"
    private_files.create(path, "grüße\n")
    assert private_files.read(path) == "grüße\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_create_never_replaces(tmp_path: Path):
    path = tmp_path / "secret"
    private_files.create(path, "first")
    with pytest.raises(FileExistsError):
        private_files.create(path, "second")
    assert private_files.read(path) == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_replace_replaces_also_what_others_could_read(tmp_path: Path):
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    private_files.replace(path, "new")
    assert private_files.read(path) == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o777])
def test_a_file_others_can_use_is_refused(tmp_path: Path, mode: int):
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(mode)
    with pytest.raises(PermissionError, match=f"chmod 600 {path}"):
        private_files.read(path)


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path):
    folder = tmp_path / "there"
    folder.mkdir()
    with pytest.raises(OSError, match="directory"):
        private_files.replace(folder, "text")
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(FileNotFoundError):
        private_files.create(tmp_path / "missing" / "secret", "text")
