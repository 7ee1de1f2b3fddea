import base64
import json
import secrets

import pytest

from storage import master_key_file
from storage.errors import AlreadyExists, MasterKeyError
from storage.master_key_file import MasterKeyDocument
from storage.sealing import MasterKeys
from storage.settings import Settings

KEYS = {1: secrets.token_bytes(32), 7: secrets.token_bytes(32)}


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "master.key"
    master_key_file.create(made)
    return made


def test_what_is_written_can_be_read_and_is_never_shown():
    document = MasterKeyDocument(7, KEYS)
    assert MasterKeyDocument.parse(document.to_text(), "x") == document
    assert repr(document) == "MasterKeyDocument(active=7)"


def test_a_new_file_has_one_key_and_is_private(path):
    assert path.stat().st_mode & 0o777 == 0o600
    document = master_key_file.read(path)
    assert (document.active, set(document.keys)) == (1, {1})
    with pytest.raises(AlreadyExists):
        master_key_file.create(path)
    assert master_key_file.read(path) == document


def test_a_key_is_added_beside_the_others_and_active(path):
    before = master_key_file.read(path)
    assert master_key_file.add_key(path) == 2
    after = master_key_file.read(path)
    assert (after.active, after.keys[1]) == (2, before.keys[1])
    assert after.keys[2] != after.keys[1]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_the_id_of_a_key_that_was_dropped_is_not_used_again(path):
    for _ in range(3):
        master_key_file.add_key(path)
    assert master_key_file.drop_inactive_keys(path) == [1, 2, 3]
    assert master_key_file.drop_inactive_keys(path) == []
    assert master_key_file.add_key(path) == 5
    assert set(master_key_file.read(path).keys) == {4, 5}


def test_what_cannot_be_written_leaves_the_file_as_it_was(path, monkeypatch):
    before = path.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("storage.private_files.replace", full)
    for change in (master_key_file.add_key, master_key_file.drop_inactive_keys):
        with pytest.raises(MasterKeyError, match="cannot be written: No space left"):
            change(path)
    assert path.read_text() == before


def test_a_bad_file_is_not_changed(path):
    path.write_text(json.dumps({"active": 1, "keys": {"1": "AAAA"}}))
    before = path.read_text()
    for change in (master_key_file.add_key, master_key_file.drop_inactive_keys):
        with pytest.raises(MasterKeyError, match="has 3 bytes instead of 32"):
            change(path)
    assert path.read_text() == before


def test_one_change_at_a_time(path, tmp_path):
    refused = pytest.raises(MasterKeyError, match="another rotation")
    with master_key_file.locked(path), refused, master_key_file.locked(path):
        pass
    with master_key_file.locked(path):
        pass
    with (
        pytest.raises(MasterKeyError, match="cannot be written: No such file"),
        master_key_file.locked(tmp_path / "missing" / "master.key"),
    ):
        pass


RING = {"active": 1, "keys": {"1": base64.b64encode(bytes(range(32))).decode()}}


def test_a_command_may_print_the_ring(tmp_path):
    ring = tmp_path / "ring with a space"
    ring.write_text(json.dumps(RING))
    settings = Settings(data_dir=tmp_path, master_keys_command=f"cat '{ring}'")
    assert MasterKeys.load(settings).active == 1
    assert not settings.master_keys_are_in_a_file


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/nowhere/vault read", "cannot be run"),
        ("cat 'unfinished", "cannot be run"),
        ("false", "exit code 1"),
        ("echo not-a-ring-SECRET", "METRION_MASTER_KEYS_COMMAND"),
    ],
)
def test_a_command_that_prints_none_is_said_without_what_it_printed(tmp_path, command, reason):
    settings = Settings(data_dir=tmp_path, master_keys_command=command)
    with pytest.raises(MasterKeyError, match=reason) as error:
        MasterKeys.load(settings)
    assert "SECRET" not in str(error.value)


def test_a_command_that_does_not_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(master_key_file, "COMMAND_SECONDS", 0.1)
    with pytest.raises(MasterKeyError, match="longer than"):
        master_key_file.printed_by("sleep 30")
