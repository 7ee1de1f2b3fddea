"""The script that makes a deployment's secrets; what it makes is what the processes accept."""

import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values

from storage.sealing import MasterKeys
from storage.settings import Settings

FILES = {"admin", "proxy", "api", "jobs", "valkey", "postgres"}


@pytest.fixture
def made(deploy, tmp_path) -> Path:
    folder = tmp_path / "secrets"
    subprocess.run([deploy / "secrets", folder], check=True, capture_output=True)
    return folder


def read(path: Path) -> dict[str, str]:
    """As compose, systemd and kubectl do: no expansion, quotes within a value are its own."""
    values = dict(line.split("=", 1) for line in path.read_text().splitlines())
    assert values == dict(dotenv_values(path, interpolate=False))
    return values


def test_files_are_private_and_there_is_one_for_each_process(made):
    assert {path.stem for path in made.glob("*.env")} == FILES
    assert made.stat().st_mode & 0o777 == 0o700
    for path in made.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_every_process_can_read_its_settings_and_gets_no_more(made, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    users = {}
    for name in ("admin", "proxy", "api", "jobs"):
        with pytest.MonkeyPatch.context() as patch:
            for key, value in read(made / f"{name}.env").items():
                patch.setenv(key, value)
            settings = Settings.load()
            if name != "jobs":
                assert MasterKeys.load(settings).active == 1
            assert settings.database_url is not None
            users[name] = settings.database_url.get_secret_value().split("/")[2].split(":")[0]
    assert users == {
        "admin": "metrion_administrator",
        **{name: f"metrion_{name}" for name in ("proxy", "api", "jobs")},
    }
    texts = {name: (made / f"{name}.env").read_text() for name in FILES}
    administrator = read(made / "postgres.env")["POSTGRES_PASSWORD"]
    for name in ("proxy", "api", "jobs", "valkey"):
        assert administrator not in texts[name]


def test_a_second_time_nothing_is_changed(made, deploy):
    before = {path: path.read_bytes() for path in made.iterdir()}
    again = subprocess.run([deploy / "secrets", made], check=False, capture_output=True, text=True)
    assert again.returncode == 1
    assert "has secrets already" in again.stderr
    assert {path: path.read_bytes() for path in made.iterdir()} == before


def test_other_hosts(deploy, tmp_path):
    folder = tmp_path / "secrets"
    hosts = ("db.example.com:6432", "cache.example.com:6380")
    subprocess.run([deploy / "secrets", folder, *hosts], check=True, capture_output=True)
    values = read(folder / "proxy.env")
    assert values["METRION_DATABASE_URL"].endswith("@db.example.com:6432/metrion")
    assert values["METRION_VALKEY_URL"].endswith("@cache.example.com:6380/0")
