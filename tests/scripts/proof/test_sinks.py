import base64
import os
import subprocess
import sys
import time

import pytest

from scripts.proof.canaries import Flock, Kind
from scripts.proof.searching import Searcher
from scripts.proof.sinks import (
    Sinks,
    Watch,
    core_limits,
    deployment_secrets,
    files_of,
    process_texts,
)
from storage import roles
from storage.sealing import MasterKeys
from storage.settings import Settings

TOKEN = "sk-metrion-" + "0123456789abcdef" * 2
FILES = {
    "journal/1.journal": "journals",
    "journal/rejected/1.jsonl": "journals",
    "mail/1.eml": "mails",
    "roles/metrion_api.password": "password files",
    "postgres/administrator.password": "password files",
    "valkey/valkey.conf": "password files",
    "valkey/dump.rdb": "other files",
    "master.key": "master key file",
    "postgres/cluster/pg_wal/0001": "PostgreSQL's write-ahead log",
    "postgres/cluster/base/5/1259": "PostgreSQL's files",
    "postgres/server.log": "PostgreSQL's log",
    "mitmproxy/mitmproxy-ca.pem": "other files",
}


@pytest.fixture
def flock() -> Flock:
    made = Flock(1)
    made.catch(Kind.TOKEN, "a token", TOKEN)
    made.catch(Kind.CODE, "a code", "123456")
    made.catch(Kind.CODE, "another code", "654321")
    return made


@pytest.fixture
def sinks(flock) -> Sinks:
    return Sinks(Searcher(flock), {"mails": [Kind.CODE], "console": ["a token"]})


def test_each_file_belongs_to_a_sink(tmp_path):
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "link").symlink_to("master.key")
    found = {str(path.relative_to(tmp_path)): sink for sink, path in files_of(tmp_path, 0.0)}
    assert found == FILES
    os.utime(tmp_path / "postgres/cluster/base/5/1259", (0, 0))
    assert len(list(files_of(tmp_path, time.time() - 60))) == len(FILES) - 1


@pytest.mark.parametrize("name", FILES)
def test_a_canary_planted_in_a_file_is_found(name, tmp_path, flock, sinks):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0\1" + TOKEN.encode() + b"\xff")
    for sink, file in files_of(tmp_path, 0.0):
        sinks.search_file(sink, file)
    assert sinks.leaks == [f"{FILES[name]}: Metrion token (a token; plain) in {path}"]


def test_what_belongs_somewhere_is_no_leak_there_but_elsewhere(sinks):
    sinks.search("mails", "1.eml", [b"Your code is 123456. " + TOKEN.encode()])
    sinks.search("console", "output", [TOKEN.encode() + b" 123456 654321"])
    assert sinks.allowed_in("mails") == {"e-mail code": 1}
    assert sinks.allowed_in("console") == {"Metrion token": 1}
    assert [leak.partition(" in ")[0] for leak in sinks.leaks] == [
        "mails: Metrion token (a token; plain)",
        "console: e-mail code (a code; plain)",
        "console: e-mail code (another code; plain)",
    ]


def test_in_another_form_nothing_is_there_by_right(sinks):
    sinks.search("console", "output", [base64.b64encode(TOKEN.encode())])
    assert [leak.partition(";")[0] for leak in sinks.leaks] == ["console: Metrion token (a token"]


def test_one_number_may_be_a_code_by_accident(sinks):
    sinks.search("log", "a", [b"pid 123456"])
    assert not sinks.leaks
    sinks.search("log", "b", [b"code 654321"])
    assert len(sinks.leaks) == 2


def test_the_table_has_a_line_for_each_sink(sinks):
    sinks.search("mails", "1.eml", [b"Your code is 123456."])
    sinks.search("log", "a", [b"x", TOKEN.encode()])
    assert sinks.table(3).splitlines() == [
        "sink        bytes searched  leaked  there by right",
        "log                     44       1  -",
        "mails                   20       0  1 x e-mail code",
        "3 canaries              64       1",
    ]


def test_processes_are_searched(sinks, tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(60)", "scripts.jobs", TOKEN]
    with subprocess.Popen(command, env={"SECRET": TOKEN}) as process:
        try:
            with Watch(lambda: process_texts([process.pid, 0]), 0.05) as watch:
                while not any(TOKEN.encode() in text for _, text in watch.seen):
                    time.sleep(0.01)
            limits = core_limits([process.pid, 0])
        finally:
            process.kill()
    assert limits.keys() == {"jobs"}
    assert watch.looks > 0
    for sink, text in watch.seen:
        sinks.search(sink, "a process", [text])
    assert {leak.partition(":")[0] for leak in sinks.leaks} == {
        "command lines",
        "environment of jobs",
    }


def test_a_deployments_own_secrets_are_known(tmp_path):
    settings = Settings(data_dir=tmp_path)
    assert deployment_secrets(settings) == {}
    MasterKeys.create(settings.master_key_path)
    for name, content in {
        f"roles/{roles.PROXY}.password": "one\n",
        "postgres/administrator.password": "two\n",
        "valkey/valkey.conf": 'port 1\nrequirepass "three"\n',
    }.items():
        path = tmp_path / name
        path.parent.mkdir()
        path.touch(0o600)
        path.write_text(content)
    found = deployment_secrets(settings)
    assert len(found.pop("master key 1")) > 40
    assert found == {
        f"password of {roles.PROXY}": "one",
        "administrator's password": "two",
        "Valkey's password": "three",
    }
