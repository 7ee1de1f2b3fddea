"""The proxy's process: starts, says why not, drains. What it does meanwhile: tests/e2e."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from scripts.child_environment import base_environment
from scripts.fake_provider import FakeProvider
from storage import roles
from storage.accounts import create_account
from storage.database import Database
from storage.keys import set_key


@pytest.fixture
async def token(database):
    api = Database(database.url(roles.API))
    account = await create_account(api, database.keys, "anna@example.com")
    async with api.account(account.id) as connection:
        await set_key(connection, database.keys, account.id, "openai", "sk-" + "x" * 40)
    await api.close()
    return account.token


def start(database, port: int, **settings: str) -> subprocess.Popen[str]:
    environment = {
        **base_environment(),
        "METRION_DATA_DIR": str(database.settings.data_dir),
        "METRION_DATABASE_URL": database.url(roles.PROXY).get_secret_value(),
        **settings,
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "scripts.proxy", "--port", str(port)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            assert connection.getresponse().status == 200
            connection.close()
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_a_stream_under_way_ends_well_before_the_process_does(database, token):
    with FakeProvider() as provider:
        port = free_port()
        proxy = start(database, port, METRION_ORIGINS=f'{{"openai": "{provider.origin}"}}')
        try:
            wait_until_ready(port)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request(
                "POST",
                "/api/proxy/openai/v1/chat/completions",
                '{"model": "gpt-4o", "messages": [], "stream": true}',
                {
                    "authorization": f"Bearer {token}",
                    "x-fake-events": "20",
                    "x-fake-interval": "0.05",
                },
            )
            answer = connection.getresponse()
            assert answer.status == 200
            stopper = threading.Timer(0.2, os.kill, (proxy.pid, signal.SIGTERM))
            stopper.start()
            assert answer.read().endswith(b"data: [DONE]\n\n")
            connection.close()
            assert proxy.wait(20) == 0
            stopper.join()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), 5)
        finally:
            proxy.kill()
            proxy.communicate()


def test_a_port_that_is_taken_is_said(database):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        proxy = start(database, taken.getsockname()[1])
        _, errors = proxy.communicate(timeout=30)
    assert proxy.returncode == 1
    assert "is taken or not allowed" in errors
    assert "Traceback" not in errors


def test_wrong_settings_are_said(database):
    proxy = start(database, free_port(), METRION_REGION="mars-1")
    _, errors = proxy.communicate(timeout=30)
    assert proxy.returncode == 2
    assert "mars-1" in errors
    assert "Traceback" not in errors
