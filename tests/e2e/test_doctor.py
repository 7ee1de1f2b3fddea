"""`metrion doctor` on a deployment that runs: nothing to find, then something."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

METRION = Path(sys.executable).with_name("metrion")
PATH = "/api/proxy/openai/v1/chat/completions"
BODY = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def doctor(deployment):
    def run(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
        done = subprocess.run(
            [METRION, "--data-dir", str(deployment.data_dir), "doctor", "--json", *arguments],
            env=deployment.environment,
            cwd=deployment.data_dir,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    return run


def test_a_healthy_deployment_has_nothing_to_find(
    deployment, account, provider, doctor, eventually
):
    # the jobs begin beside the rest, and may have only just begun
    eventually(lambda: "ensure partitions: " in deployment.said)
    answer = httpx.post(
        deployment.proxy_url + PATH, json=BODY, headers={"authorization": f"Bearer {account.token}"}
    )
    assert answer.status_code == 200
    deployment.rows(account.token, 1)
    status, results = doctor("--search", str(deployment.output))
    assert [result for result in results if result["status"] == "finding"] == []
    assert status == 0
    made = {result["check"]: result["message"] for result in results if result["status"] == "ok"}
    assert {"rights", "attempts", "sealing", "columns", "logs", "processes", "jobs"} <= set(made)
    # the supervisor and its three
    assert int(made["processes"].split()[0]) >= 4


def test_what_is_planted_is_found_and_not_repeated(deployment, account, doctor):
    log = deployment.data_dir / "debug.log"
    log.write_text(f"key {account.keys['mistral']}\n")
    try:
        status, results = doctor()
    finally:
        log.unlink()
    assert status == 1
    [found] = [result for result in results if result["status"] == "finding"]
    assert (found["check"], found["message"]) == ("logs", f"a secret stands in {log}")
    assert account.keys["mistral"] not in json.dumps(results)
