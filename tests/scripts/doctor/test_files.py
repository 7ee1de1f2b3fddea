import pytest

from scripts.doctor.files import check_files
from storage import private_files, roles


def test_a_fresh_data_directory_is_fine(settings, findings):
    settings.data_dir.chmod(0o700)
    assert findings(check_files(settings)) == []


def test_a_master_key_that_others_can_read(settings, findings):
    settings.data_dir.chmod(0o700)
    settings.master_key_path.chmod(0o644)
    assert findings(check_files(settings)) == [f"others have rights on {settings.master_key_path}"]


@pytest.mark.parametrize("place", ["journal/a.journal", "mail/a.eml", "journal/rejected/a.jsonl"])
def test_files_that_others_can_read(settings, findings, place):
    settings.data_dir.chmod(0o700)
    path = settings.data_dir / place
    path.parent.mkdir(mode=0o700, parents=True)
    path.write_text("x")
    path.chmod(0o640)
    (path.parent.parent if path.parent.name == "rejected" else path.parent).chmod(0o700)
    assert findings(check_files(settings)) == [f"others have rights on {path}"]


def test_a_password_that_others_can_read(settings, findings, tmp_path):
    settings.data_dir.chmod(0o700)
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    (settings.data_dir / "roles").unlink()
    (settings.data_dir / "roles").symlink_to(folder)
    path = roles.password_path(settings.data_dir / "roles", roles.API)
    private_files.create(path, "secret\n")
    assert findings(check_files(settings)) == []
    path.chmod(0o604)
    assert findings(check_files(settings)) == [f"others have rights on {path}"]


def test_a_folder_in_which_others_can_put_another_key(settings, findings):
    settings.data_dir.chmod(0o777)
    assert findings(check_files(settings)) == [f"others can list or change {settings.data_dir}"]
