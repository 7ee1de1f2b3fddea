"""The official SDKs for Node, where Node is: answers, streams and typed errors through Metrion."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("node_sdks.mjs")
PACKAGES = ("openai@7.57.0", "@anthropic-ai/sdk@1.12.0")
WRONG = f"sk-metrion-{'0' * 32}"

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")),
    reason="there is no Node on this machine; Metrion itself needs none",
)


@pytest.fixture(scope="module")
def script(pytestconfig: pytest.Config) -> Path:
    """The script beside the SDKs, which are installed once and stay in pytest's cache."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("node-sdks")
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_text() != str(PACKAGES):
        command = ["npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(
            [*command, *PACKAGES],
            cwd=folder,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, done.stdout
        installed.write_text(str(PACKAGES))
    return Path(shutil.copy(SCRIPT, folder))


def test_they_get_what_the_provider_would_give(deployment, provider, caller, script):
    wish = {
        "url": deployment.proxy_url,
        "keys": {name: caller.key(name) for name in ("openai", "anthropic")},
        "headers": caller.headers,
        "wrong": WRONG,
    }
    done = subprocess.run(
        ["node", str(script), json.dumps(wish)],
        cwd=script.parent,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)

    for answers in (got["openai"], got["anthropic"]):
        assert "Hello there!" in answers["chat"]
        assert answers["streamed"] == answers["chat"]
        assert answers["tool"] == {"name": "weather", "arguments": '{"city":"example"}'}
        assert answers["models"] > 0
    assert got["openai"]["dimensions"] == 1536
    assert "Hello there!" in got["openai"]["response"]
    assert got["anthropic"]["tokens"] == 3

    statuses = {name: error["status"] for name, error in got["errors"].items()}
    assert statuses == {"openai": 401, "anthropic": 401, "rate": 429, "failed": 502}
    assert all(error["expected"] for error in got["errors"].values()), got["errors"]
    assert not any(WRONG in error["message"] for error in got["errors"].values())

    assert not provider.leaks
    on_the_wire = {caller.key_on_the_wire(name) for name in ("openai", "anthropic")}
    assert {
        request.header("x-api-key") or (request.header("authorization") or "").split()[-1]
        for request in provider.requests
    } == on_the_wire
    rows = deployment.rows(caller.account.token, len(provider.requests))
    assert {row["mode"] for row in rows} == {caller.mode}
    assert sum(row["streamed"] for row in rows) == 2
