"""The command in a container without a data directory: migrates a fresh server, and is its doctor."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from storage import roles
from storage.migrate import migrate

PASSWORDS = {"PROXY_PASSWORD": "one-1-one-1-one", "API_PASSWORD": "two", "JOBS_PASSWORD": "three"}


@pytest.fixture
def administer(deploy, database, tmp_path):
    """Run it as a container does, against a database that is there."""

    def run(*arguments: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "METRION_DATA_DIR": str(tmp_path / "container"),
            "METRION_DATABASE_URL": database.administrator_url.get_secret_value(),
            "METRION_MASTER_KEYS": database.settings.master_key_path.read_text().strip(),
            **PASSWORDS,
            **changes,
        }
        return subprocess.run(
            [deploy / "administer", *arguments],
            env={name: value for name, value in environment.items() if value is not None},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_roles_get_the_passwords_that_were_given(administer, database, tmp_path):
    """They belong to the whole server, which other tests use: theirs are put back."""
    try:
        done = administer("migrate")
        assert (done.returncode, done.stderr) == (0, "")
        for role, password in zip(roles.LOGIN_ROLES, PASSWORDS.values(), strict=True):
            path = tmp_path / "container" / "roles" / f"{role}.password"
            assert (path.read_text(), path.stat().st_mode & 0o777) == (f"{password}\n", 0o600)
            url = urlsplit(database.administrator_url.get_secret_value())
            hosts = url.netloc.rpartition("@")[2]
            with psycopg.connect(url._replace(netloc=f"{role}:{password}@{hosts}").geturl()):
                pass
        examined = administer("doctor", "--json")
        results = {result["check"]: result["status"] for result in json.loads(examined.stdout)}
        assert (results["rights"], results["attempts"], results["sealing"]) == ("ok", "ok", "ok")
    finally:
        migrate(database.administrator_url, roles.roles_folder(database.settings))


def test_without_a_password_nothing_is_done(administer):
    done = administer("migrate", API_PASSWORD=None)
    assert done.returncode != 0
    assert "API_PASSWORD" in done.stderr
