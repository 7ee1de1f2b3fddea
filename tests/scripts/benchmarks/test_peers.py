"""Other gateways: found by their names, started with files of their own."""

import json
from pathlib import Path

import pytest

from scripts.benchmarks.peers import CALLERS_KEY, absent_peers, peers


@pytest.fixture
def only_litellm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "litellm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_those_that_are_installed_take_part_and_the_others_are_named(only_litellm, tmp_path):
    (litellm,) = peers(tmp_path, "http://127.0.0.1:9")
    assert absent_peers() == ["nginx", "portkey"]
    assert "{port}" in litellm.command
    settings = json.loads(litellm.configuration["litellm.yaml"])
    assert settings["model_list"][0]["litellm_params"]["api_base"] == "http://127.0.0.1:9/v1"
    # it checks a key, and passes on what tells the stand-in how a stream shall be
    assert litellm.environment["LITELLM_MASTER_KEY"] == CALLERS_KEY
    assert settings["general_settings"]["forward_client_headers_to_llm_api"] is True


def test_portkey_is_known_by_its_package_and_told_where_the_stand_in_is(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    program = tmp_path / "lib/node_modules/@portkey-ai/gateway/build/start-server.js"
    for path in (program, tmp_path / "bin/gateway"):
        path.parent.mkdir(parents=True)
    program.write_text("#!/usr/bin/env node\n")
    program.chmod(0o755)
    (tmp_path / "bin/gateway").symlink_to(program)
    (portkey,) = peers(tmp_path, "http://127.0.0.1:9")
    assert (portkey.name, portkey.streams) == ("portkey", False)
    assert "x-portkey-custom-host: http://127.0.0.1:9/v1" in portkey.headers
    # another program of that name
    (tmp_path / "bin/gateway").unlink()
    (tmp_path / "bin/gateway").write_text("#!/bin/sh\n")
    (tmp_path / "bin/gateway").chmod(0o755)
    assert peers(tmp_path, "http://127.0.0.1:9") == []


def test_nginx_passes_on_to_the_stand_in(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/sbin/{name}")
    nginx, _ = peers(tmp_path, "http://127.0.0.1:9")
    assert "server 127.0.0.1:9;" in nginx.configuration["nginx.conf"]
    assert "listen 127.0.0.1:{port};" in nginx.configuration["nginx.conf"]
