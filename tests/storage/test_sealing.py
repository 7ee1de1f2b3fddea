import base64
import errno
import hashlib
import json
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from storage import master_key_file, sealing
from storage.errors import AlreadyExists, MasterKeyError, SealingError
from storage.sealing import Binding, MasterKeys, sealed_under
from storage.settings import Settings

# The same in every process: they are in the names of cases, by which pytest-xdist tells tests apart.
KEYS = {number: hashlib.sha256(b"key %d" % number).digest() for number in (1, 2)}
RING = MasterKeys(KEYS, active=1)
HERE = Binding("provider_keys", "sealed", uuid.uuid4(), "openai")
SEALED = RING.seal(b"sk-provider-key", HERE)

bindings = st.builds(Binding, st.text(), st.text(), st.uuids(), st.text())


def document(keys: dict[int, bytes], active: int = 1) -> str:
    encoded = {str(key_id): base64.b64encode(key).decode() for key_id, key in keys.items()}
    return json.dumps({"active": active, "keys": encoded})


@given(st.binary(), bindings)
def test_what_is_sealed_opens_where_it_was_sealed(plaintext: bytes, binding: Binding):
    sealed = RING.seal(plaintext, binding)
    assert RING.open(sealed, binding) == plaintext
    assert len(sealed) == len(plaintext) + 34


@given(bindings, bindings)
def test_and_nowhere_else(one: Binding, other: Binding):
    if one != other:
        assert one.associated_data(b"") != other.associated_data(b"")
        with pytest.raises(SealingError):
            RING.open(RING.seal(b"secret", one), other)


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(HERE, table="tokens"),
        replace(HERE, column="other"),
        replace(HERE, account_id=uuid.uuid4()),
        replace(HERE, row="anthropic"),
        replace(HERE, table="provider_keyss", column="ealed"),
    ],
)
def test_bound_to_table_column_account_and_row(elsewhere: Binding):
    with pytest.raises(SealingError, match="changed or moved"):
        RING.open(SEALED, elsewhere)


@pytest.mark.parametrize("position", range(len(SEALED)))
def test_every_byte_is_authenticated(position: int):
    changed = bytearray(SEALED)
    changed[position] ^= 1
    with pytest.raises(SealingError):
        RING.open(bytes(changed), HERE)


@pytest.mark.parametrize("length", range(34))
def test_less_than_an_empty_value_is_too_short(length: int):
    with pytest.raises(
        SealingError, match=r"provider_keys\.sealed is not a sealed value: too short"
    ):
        RING.open(SEALED[:length], HERE)


@pytest.mark.parametrize("begins", [b"N\x01", b"M\x00", b"M\x02"])
def test_another_kind_or_version_is_said(begins: bytes):
    with pytest.raises(SealingError, match="is not a sealed value of version 1"):
        RING.open(begins + SEALED[2:], HERE)


def test_another_key_id_of_the_ring_does_not_open_it():
    renamed = SEALED[:2] + (2).to_bytes(4) + SEALED[6:]
    with pytest.raises(SealingError, match="changed or moved"):
        RING.open(renamed, HERE)


@given(st.binary(max_size=80))
def test_anything_else_is_refused(data: bytes):
    with pytest.raises(SealingError):
        RING.open(data, HERE)


def test_what_an_earlier_version_sealed_opens_for_ever():
    # written down once: a program that reads or derives anything in another way reads no key
    place = Binding("provider_keys", "sealed", uuid.UUID(int=7), "openai")
    sealed = bytes.fromhex(
        "4d0100000001000102030405060708090a0b"
        "dec67df0242aa1fc6e0bc14d0e6e6f2607cfa9967952e016af627a6c455c6e"
    )
    assert RING.open(sealed, place) == b"sk-provider-key"
    assert sealed.startswith(sealed_under(1))
    assert RING.token_digests("sk-metrion-" + "0" * 32)[0].hex() == (
        "17e5ed161c44ae36e99e20493e6e5ce6fbafb0d0d9f32095f6c9b9ad0bd577df"
    )
    assert RING.digests("session", "x")[0].hex() == (
        "8d2464593c6d029cac45b71a197ba924aff1e5ff5fa937aa41dc0a0c234cfe3e"
    )


def test_the_same_plaintext_never_looks_the_same():
    assert len({RING.seal(b"x", HERE) for _ in range(100)}) == 100


def test_an_old_key_opens_and_the_active_one_seals():
    turned = MasterKeys(KEYS, active=2)
    assert turned.open(SEALED, HERE) == b"sk-provider-key"
    with pytest.raises(SealingError, match="needs master key 2, which is not on the ring"):
        MasterKeys({1: KEYS[1]}, active=1).open(turned.seal(b"x", HERE), HERE)


def test_digests_the_active_keys_first():
    token = "sk-metrion-" + "0" * 32
    one, two = RING.token_digests(token)
    assert MasterKeys(KEYS, active=2).token_digests(token) == [two, one]
    assert MasterKeys({1: KEYS[1]}, active=1).token_digests(token) == [one]
    assert len(one) == 32
    assert one not in (two, hashlib.sha256(token.encode()).digest())
    assert RING.token_digests(token + "x")[0] != one


def test_nothing_shows_a_key():
    shown = repr(RING) + str(RING)
    assert shown.startswith("MasterKeys(active=1, ids=[1, 2])")
    for key in KEYS.values():
        assert key.hex() not in shown
        assert base64.b64encode(key).decode() not in shown


def test_made_once_in_a_private_file(tmp_path: Path):
    settings = Settings(data_dir=tmp_path)
    made = MasterKeys.create(settings.master_key_path)
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600
    assert MasterKeys.load(settings).open(made.seal(b"x", HERE), HERE) == b"x"
    with pytest.raises(AlreadyExists):
        MasterKeys.create(settings.master_key_path)
    assert MasterKeys.load(settings).open(made.seal(b"x", HERE), HERE) == b"x"


def test_cannot_be_made_without_its_folder(tmp_path: Path):
    with pytest.raises(MasterKeyError, match="cannot be written: No such file"):
        MasterKeys.create(tmp_path / "missing" / "master.key")


def test_given_in_the_environment(tmp_path: Path):
    settings = Settings(data_dir=tmp_path, master_keys=SecretStr(document(KEYS, active=2)))
    ring = MasterKeys.load(settings)
    assert (ring.active, ring.open(SEALED, HERE)) == (2, b"sk-provider-key")


def test_printed_by_a_command(tmp_path: Path):
    path = tmp_path / "printed"
    path.write_text(document(KEYS, active=2))
    settings = Settings(data_dir=tmp_path, master_keys_command=f"cat {path}")
    ring = MasterKeys.load(settings)
    assert (ring.active, ring.open(SEALED, HERE)) == (2, b"sk-provider-key")
    path.write_text("{")
    with pytest.raises(MasterKeyError, match=r"^METRION_MASTER_KEYS_COMMAND must be"):
        MasterKeys.load(settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be"),
        ("{", "must be"),
        ("[]", "must be"),
        ('{"active": 1}', "must be"),
        ('{"active": 1, "keys": []}', "must be"),
        ('{"active": 1, "keys": {"1": 5}}', "must be"),
        ('{"active": 1, "keys": {"1": "not base64!"}}', "must be"),
        ('{"active": null, "keys": {}}', "must be"),
        ('{"active": 1, "keys": {}}', "active master key 1 is not among"),
        (document(KEYS, active=3), "active master key 3 is not among"),
        (document({1: KEYS[1][:31]}), "has 31 bytes instead of 32"),
        (document({1: b""}), "has 0 bytes instead of 32"),
        (document({1: bytes(32)}), "is not random"),
        (document({1: b"passwordpasswordpasswordpassword"}), "is not random"),
        (document({1: KEYS[1], 2**32: KEYS[2]}), "id must be between"),
        (document({0: KEYS[1]}, active=0), "id must be between"),
    ],
)
def test_a_bad_ring_is_refused_and_never_repeated(tmp_path: Path, text: str, said: str):
    path = tmp_path / "master.key"
    path.write_text(text)
    path.chmod(0o600)
    for settings, source in (
        (Settings(data_dir=tmp_path), str(path)),
        (Settings(data_dir=tmp_path, master_keys=SecretStr(text or " ")), "METRION_MASTER_KEYS"),
    ):
        with pytest.raises(MasterKeyError, match=said) as caught:
            MasterKeys.load(settings)
        message = str(caught.value)
        assert message.startswith(source)
        assert "password" not in message
        assert not any(base64.b64encode(key).decode()[:8] in message for key in KEYS.values())


def test_a_missing_unreadable_or_shared_file_is_refused(tmp_path: Path):
    settings = Settings(data_dir=tmp_path)
    path = settings.master_key_path
    with pytest.raises(MasterKeyError, match=f"no master key at {path}: scripts/run makes one"):
        MasterKeys.load(settings)
    path.write_text(document(KEYS))
    path.chmod(0o644)
    with pytest.raises(MasterKeyError, match=f"chmod 600 {path}"):
        MasterKeys.load(settings)
    path.chmod(0o600)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(MasterKeyError, match="is not text"):
        MasterKeys.load(settings)
    path.unlink()
    path.mkdir()
    with pytest.raises(MasterKeyError, match="cannot be used: Is a directory"):
        MasterKeys.load(settings)


def test_a_ring_follows_its_file(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", logger="storage.sealing")
    settings = Settings(data_dir=tmp_path)
    path = settings.master_key_path
    rings = [MasterKeys.create(path), MasterKeys.load(settings)]
    old = rings[0].seal(b"old", HERE)
    (old_digest,) = rings[0].token_digests("token")
    master_key_file.add_key(path)
    for ring in rings:
        assert (ring.active, ring.inactive) == (2, [1])
        assert repr(ring) == "MasterKeys(active=2, ids=[1, 2])"
        assert ring.open(old, HERE) == b"old"
        assert ring.token_digests("token")[1] == old_digest
        assert rings[1].open(ring.seal(b"new", HERE), HERE) == b"new"
    master_key_file.drop_inactive_keys(path)
    for ring in rings:
        with pytest.raises(SealingError, match="needs master key 1"):
            ring.open(old, HERE)
    assert [record.message for record in caplog.records] == [
        *["master keys read again: MasterKeys(active=2, ids=[1, 2])"] * 2,
        *["master keys read again: MasterKeys(active=2, ids=[2])"] * 2,
    ]


def test_a_file_that_became_unusable_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "master.key"
    ring = MasterKeys.create(path)
    sealed, good = ring.seal(b"x", HERE), path.read_text()
    for spoil in (path.unlink, lambda: path.write_text("{"), lambda: path.write_text("{}")):
        spoil()
        for _ in range(3):
            assert ring.open(sealed, HERE) == b"x"
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3  # each once
    path.write_text(good)
    path.chmod(0o600)
    master_key_file.add_key(path)
    assert ring.active == 2


def test_who_does_what_the_complaint_says_is_heard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "master.key"
    ring = MasterKeys.create(path)
    keys = master_key_file.read(path).keys
    path.unlink()
    path.write_text(document({**keys, 2: KEYS[2]}, active=2))
    path.chmod(0o644)
    assert ring.active == 1
    assert f"chmod 600 {path}" in caplog.text
    time.sleep(0.05)  # the file system's clock ticks every few milliseconds
    path.chmod(0o600)
    assert ring.active == 2  # at once: chmod changes the file's state


def test_what_could_not_be_read_is_read_again_after_a_pause_and_complained_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "master.key"
    ring = MasterKeys.create(path)
    tries = 0

    def fail(_: Path) -> str:
        nonlocal tries
        tries += 1
        raise OSError(errno.EMFILE, "Too many open files")

    now = 1000.0
    monkeypatch.setattr(sealing, "monotonic", lambda: now)
    master_key_file.add_key(path)
    with monkeypatch.context() as without_files:
        without_files.setattr("storage.private_files.read", fail)
        for tried in (1, 1, 2, 2):
            assert [ring.active for _ in range(5)] == [1] * 5
            assert tries == tried
            now += 0.5
    now += 1.0
    assert ring.active == 2
    (complaint,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert complaint.message.endswith(f"{path} cannot be used: Too many open files")


def test_a_ring_from_the_environment_follows_nothing(tmp_path: Path):
    settings = Settings(data_dir=tmp_path, master_keys=SecretStr(document(KEYS)))
    ring = MasterKeys.load(settings)
    MasterKeys.create(settings.master_key_path)
    assert ring.open(SEALED, HERE) == b"sk-provider-key"
