"""It answers as the real proxy does; what it costs is counted in `test_instructions`."""

import socket

from scripts.benchmarks.contestants import metrion_environment
from scripts.benchmarks.instructions import PLAIN_PROXY
from scripts.benchmarks.processes import MeasuredProcess


def test_it_refuses_who_has_no_token(database, tmp_path):
    environment = metrion_environment(database.settings)
    with MeasuredProcess(PLAIN_PROXY, environment, tmp_path) as process:
        address = ("127.0.0.1", process.port)
        with socket.create_connection(address, timeout=30) as client:
            client.sendall(
                b"POST /api/proxy/openai/v1/chat/completions HTTP/1.1\r\nhost: m\r\n\r\n"
            )
            assert client.recv(100).startswith(b"HTTP/1.1 401 ")
