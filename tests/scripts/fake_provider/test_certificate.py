import socket
import ssl
from contextlib import nullcontext

import pytest

from scripts.fake_provider import FakeProvider
from scripts.fake_provider.certificate import make_certificate


@pytest.mark.parametrize("trusts", [True, False])
def test_who_trusts_it_can_check_it_and_nobody_else(tmp_path, trusts):
    path = make_certificate(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cafile=str(path) if trusts else None)
    with FakeProvider(ssl_context=server) as provider:
        port = int(provider.origin.rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            nullcontext() if trusts else pytest.raises(ssl.SSLCertVerificationError),
        ):
            client.wrap_socket(plain, server_hostname="127.0.0.1").close()
