"""A first request, as the README tells it: by somebody who has read nothing else."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
DEMO_EMAIL = "demo@metrion.local"


@pytest.fixture
def shell():
    """Paste lines into a shell in the folder that was cloned; returns what they print."""

    def run(lines: str, data_dir: Path, typed: str = "") -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines],
            cwd=ROOT,
            # the README's shell has the default data directory
            env=os.environ | {"METRION_DATA_DIR": str(data_dir)},
            input=typed,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def check_row(row: dict[str, Any]) -> None:
    assert (row["provider"], row["model"], row["status"], row["outcome"]) == (
        *("openai", "gpt-4o-mini", 200, "ok"),
    )
    assert row["input_tokens"] > 0
    assert row["output_tokens"] > 0
    assert row["cost_usd"] > 0


def test_the_readmes_steps(demo, shell):
    _, first_step, second_step = README.split("```sh\n")[:3]
    assert first_step.startswith("scripts/run --demo --ready-file ready.json\n")
    lines, _, _ = second_step.partition("```")
    assert "127.0.0.1:8080" in lines
    assert " ready.json" in lines
    lines = lines.replace("http://127.0.0.1:8080", demo.proxy_url)
    lines = lines.replace(" ready.json", f" {demo.ready_file}")
    printed = shell(lines, demo.data_dir)
    answer, end = json.JSONDecoder().raw_decode(printed)
    assert answer["model"] == "gpt-4o-mini"
    heading, row, *_ = printed[end:].strip().splitlines()
    names = heading.split()
    values = dict(zip(names, row.rsplit(maxsplit=len(names) - 1), strict=True))
    assert (values["STATUS"], values["OUTCOME"], values["PROVIDER"]) == ("200", "ok", "openai")
    assert (values["INPUT"], values["MODEL"]) == (
        *(str(answer["usage"]["prompt_tokens"]), "gpt-4o-mini"),
    )
    assert float(values["USD"]) > 0


def test_the_readmes_way_to_sign_in(demo, shell):
    line = README.split("```sh\n")[3].partition("```")[0]
    assert " .metrion/mail/" in line
    line = line.replace(" .metrion/mail/", f" {demo.data_dir}/mail/")
    with httpx.Client(base_url=f"{demo.api_url}/api/v1/auth/") as browser:
        browser.headers["origin"] = demo.api_url
        assert browser.post("codes", json={"email": DEMO_EMAIL}).status_code == 202
        deadline = time.monotonic() + 30
        while not list((demo.data_dir / "mail").glob("*.eml")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        code = re.findall(r"\b[0-9]{6}\b", shell(line, demo.data_dir))[-1]
        answer = browser.post("sessions", json={"email": DEMO_EMAIL, "code": code})
    assert answer.is_success, answer.text


def test_ones_own_account_and_key(deployment, provider, shell):
    metrion = ".venv/bin/metrion"
    created = shell(f"{metrion} account create Ada@example.org --json", deployment.data_dir)
    token = json.loads(created)["token"]
    key = f"sk-proj-{'k' * 40}"
    stored = shell(f"{metrion} key set ada@example.org openai", deployment.data_dir, typed=key)
    assert key not in stored
    answer = httpx.post(
        f"{deployment.proxy_url}/api/proxy/openai/v1/chat/completions",
        headers={"authorization": f"Bearer {token}"},
        json={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]},
    )
    assert answer.status_code == 200
    assert provider.requests[-1].header("authorization") == f"Bearer {key}"
    logs = f"{metrion} logs ada@example.org --json --limit 5"
    deployment.rows(token, 1)  # it is there
    (row,) = json.loads(shell(logs, deployment.data_dir))
    check_row(row)
    assert row["id"] == answer.headers["x-metrion-request-id"]
    assert deployment.rows(token, 1) == [row]  # command and REST say the same


def test_the_readmes_clients(demo):
    """The Python block, with this deployment's address and token in it; then each is used."""
    code = README.split("```python\n")[1].partition("```")[0]
    assert "http://127.0.0.1:8080" in code
    code = code.replace("http://127.0.0.1:8080", demo.proxy_url)
    made: dict[str, Any] = {}
    exec(code.replace("sk-metrion-…", demo.ready["token"]), made)
    asked = {"messages": [{"role": "user", "content": "Hello"}]}
    for name in ("openai", "grok"):
        answer = made[name].chat.completions.create(model="gpt-4o-mini", **asked)
        assert answer.choices[0].message.content
    assert made["anthropic"].messages.create(model="claude-opus-4-5", max_tokens=9, **asked).content
    assert made["mistral"].chat.complete(model="mistral-small-latest", **asked).choices
    answer = made["gemini"].models.generate_content(model="gemini-2.5-flash", contents="Hello")
    assert answer.text
    for name in ("openai", "grok", "anthropic"):
        made[name].close()
