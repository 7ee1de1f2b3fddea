"""Secrets are planted in every kind of place; each is found, and none is repeated."""

import base64
import json
import os
import subprocess
import sys

import pytest

from scripts.doctor import leaks
from scripts.doctor.leaks import check_columns, check_files, check_processes, own_secrets
from scripts.doctor.result import Status
from storage import private_files, roles
from storage.database_url import service_url
from storage.diagnostics import open_diagnosis

TOKEN = "sk-metrion-" + "0123456789abcdef" * 2


@pytest.fixture
def secrets(person) -> set[bytes]:
    return {person.token.encode(), person.key.encode()}


def test_a_fresh_deployment_has_none_anywhere(settings, diagnosis, secrets, findings):
    assert findings(check_columns(diagnosis, secrets)) == []
    assert findings(check_files(settings, secrets)) == []
    assert findings(check_processes(settings, secrets)) == []


@pytest.mark.parametrize("what", ["token", "key", "somebody's token"])
def test_a_secret_in_a_log(settings, person, secrets, findings, what):
    secret = {"token": person.token, "key": person.key}.get(what, TOKEN)
    log = settings.data_dir / "proxy.log"
    log.write_text(f'{{"event": "GET /v1?key={secret}&a=1"}}\n')
    results = list(check_files(settings, secrets))
    assert findings(results) == [f"a secret stands in {log}"]
    assert secret not in str(results)


def test_a_secret_in_a_log_elsewhere(settings, person, secrets, findings, tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "a.log").write_bytes(b"\xff\x00" + person.key.encode())
    assert findings(check_files(settings, secrets)) == []
    assert findings(check_files(settings, secrets, [folder])) == [
        f"a secret stands in {folder / 'a.log'}"
    ]


def test_a_copy_of_the_master_key_or_a_password(settings, findings):
    master_keys = settings.master_key_path.read_bytes()
    copy = settings.data_dir / "master.key.old"
    copy.write_bytes(master_keys)
    assert findings(check_files(settings, set())) == [f"a secret stands in {copy}"]
    copy.write_bytes((settings.data_dir / "roles" / "metrion_proxy.password").read_bytes())
    assert findings(check_files(settings, set())) == [f"a secret stands in {copy}"]


def test_a_ready_file_may_hold_a_token_while_it_is_private(settings, person, secrets, findings):
    ready = settings.data_dir / "ready.json"
    document = {"proxy_url": "a", "database_url": "b", "pids": {}, "token": person.token}
    private_files.create(ready, json.dumps(document))
    assert findings(check_files(settings, secrets)) == []
    ready.chmod(0o644)
    assert findings(check_files(settings, secrets)) == [f"a secret stands in {ready}"]
    ready.chmod(0o600)
    ready.write_text(json.dumps({"token": person.token}))
    assert findings(check_files(settings, secrets)) == [f"a secret stands in {ready}"]


def test_what_is_too_much_is_left_out_and_said(settings, monkeypatch):
    monkeypatch.setattr(leaks, "MOST_BYTES", 1000)
    (settings.data_dir / "small").write_text("x")
    (settings.data_dir / "large").write_bytes(b"x" * 5000)
    [result] = check_files(settings, set())
    assert result.message.endswith("1 left out")


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("INSERT INTO public.notes (note) VALUES (%s)", "public.notes.note"),
        ("INSERT INTO public.notes (raw) VALUES (%s::text::bytea)", "public.notes.raw"),
        ("INSERT INTO public.notes (list) VALUES (ARRAY['a', %s])", "public.notes.list"),
        (
            "INSERT INTO public.notes (data) VALUES (jsonb_build_object('a', %s::text))",
            "public.notes.data",
        ),
    ],
    ids=["text", "bytea", "array", "jsonb"],
)
@pytest.mark.parametrize("what", ["key", "token"])
def test_a_secret_in_a_column(
    diagnosis, administrator, person, secrets, findings, statement, place, what
):
    administrator.execute(
        "CREATE TABLE public.notes (note text, raw bytea, list text[], data jsonb)"
    )
    secret = person.key if what == "key" else TOKEN
    administrator.execute(statement, [f"before {secret} after" if "raw" not in place else secret])
    results = list(check_columns(diagnosis, secrets))
    assert findings(results) == [f"a secret stands in {place}"]
    assert secret not in str(results)


def test_who_is_bound_by_policies_does_not_pretend_to_have_searched(settings):
    with open_diagnosis(service_url(settings, roles.API)) as opened:
        [result] = check_columns(opened, set())
    assert result.status is Status.SKIPPED


@pytest.fixture
def process(settings):
    """Start something that looks like one of Metrion's processes."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **environment: str) -> None:
        command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
        one = subprocess.Popen(
            [*command, "scripts.jobs", *arguments],
            env={"METRION_DATA_DIR": str(settings.data_dir), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert one.stdout
        one.stdout.readline()  # its own command line has taken the place of ours
        started.append(one)

    yield start
    for one in started:
        one.communicate()


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="no /proc")  # noqa: PTH112
class TestProcesses:
    def test_nothing_to_find(self, settings, secrets, findings, process):
        process(METRION_DATABASE_URL="postgresql://metrion_jobs:own-password-123456@h/d")
        results = list(check_processes(settings, secrets))
        assert findings(results) == []
        assert results[0].message == "1 of them searched"

    def test_a_token_on_a_command_line(self, settings, secrets, findings, process):
        process("--token", TOKEN)
        [said] = findings(check_processes(settings, secrets))
        assert said.startswith("a secret stands in the command line of jobs (")
        assert TOKEN not in said

    def test_a_password_on_a_command_line(self, settings, secrets, findings, process):
        password = (settings.data_dir / "roles" / "metrion_api.password").read_text().strip()
        process(f"postgresql://metrion_api:{password}@h/d")
        [said] = findings(check_processes(settings, secrets))
        assert "command line" in said

    def test_a_key_in_an_environment(self, settings, person, secrets, findings, process):
        process(OPENAI_API_KEY=person.key)
        [said] = findings(check_processes(settings, secrets))
        assert said.startswith("a token or provider key stands in the environment of jobs (")

    def test_a_service_with_the_administrators_password(self, settings, findings, process):
        folder = settings.data_dir / "postgres"
        folder.mkdir(mode=0o700)
        path = folder / "administrator.password"
        path.touch(0o600)
        path.write_text("administrators-own-password\n")
        process(METRION_DATABASE_URL="postgresql://postgres:administrators-own-password@h/d")
        [said] = findings(check_processes(settings, set()))
        assert "was given the administrator's password" in said


def test_own_secrets_of_every_kind(settings, monkeypatch):
    ring = settings.master_key_path.read_text()
    update = {
        "smtp_url": "smtp://me:mail%2Fpassword@h",
        "valkey_url": "redis://:valkey-password@h",
        "stripe_secret_key": "sk_test_123456789",
        "stripe_webhook_secret": "whsec_123456789",
        "stripe_price_id": "price_1",
        "master_keys": ring,
    }
    changed = type(settings)(**settings.model_dump() | update)
    found = own_secrets(changed)
    assert {b"mail/password", b"valkey-password", b"sk_test_123456789", b"whsec_123456789"} <= found
    assert sum(len(secret) == len(base64.b64encode(bytes(32))) for secret in found) >= 1
    broken = changed.model_copy(update={"master_keys": type(changed.smtp_url)("{")})
    assert own_secrets(broken) < found
