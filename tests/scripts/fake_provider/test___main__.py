import json
import signal
import subprocess
import sys
import time

import httpx

from scripts.fake_provider import FakeProvider
from scripts.fake_provider.__main__ import main


def test_the_process_says_where_it_is_and_ends_on_sigterm():
    command = [sys.executable, "-m", "scripts.fake_provider", "--port", "0", "--pace", "0.01"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        origin = json.loads(process.stdout.readline())["origin"]
        headers = {"authorization": "Bearer sk-real-0123456789"}
        assert httpx.get(f"{origin}/v1/models", headers=headers).status_code == 200
        body = {"model": "m", "messages": [{"role": "user", "content": "a b c d"}], "stream": True}
        started = time.monotonic()
        answer = httpx.post(f"{origin}/v1/chat/completions", json=body, headers=headers)
        assert time.monotonic() - started >= 0.01 * (answer.text.count("data: ") - 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_a_taken_port_is_said(provider: FakeProvider, capsys):
    port = provider.origin.rpartition(":")[2]
    assert main(["--port", port]) == 1
    assert f"cannot listen on port {port}" in capsys.readouterr().err
