"""Log lines of mitmproxy hold no credential."""

import asyncio
import logging

import pytest
from mitmproxy.master import Master

from addons.log_redaction import redact_logs

TOKEN = "sk-metrion-" + "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def factory():
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize("name", ["mitmproxy", "mitmproxy.proxy.server", "h2.stream"])
def test_what_mitmproxy_quotes_is_cleaned(name, caplog):
    redact_logs()
    redact_logs()
    with caplog.at_level(logging.INFO, name):  # another test may have set its own level
        logging.getLogger(name).info("bad header: %r", f"authorization: Bearer {TOKEN}".encode())
        logging.getLogger(name).error(f"x-api-key: {TOKEN}")  # noqa: G004 - as mitmproxy does it
    assert TOKEN not in caplog.text
    assert caplog.text.count("[redacted]") == 2
    assert "bad header" in caplog.text


def test_other_loggers_are_left_alone(caplog):
    redact_logs()
    with caplog.at_level(logging.INFO):
        logging.getLogger("metrion.x").info("%s of %d", "Bearer of good news, unredacted", 2)
    assert "Bearer of good news, unredacted of 2" in caplog.text


async def test_a_client_that_is_gone_is_no_error_and_a_defect_is_one(caplog):
    """Clients that hung up over TLS while they were written to: found by the fuzz run."""
    redact_logs()
    loop = asyncio.get_running_loop()
    master = Master(None, event_loop=loop)
    for error in (BrokenPipeError(), ConnectionResetError(), RuntimeError()):
        master._asyncio_exception_handler(loop, {"exception": error})
    assert [r.exc_info[0] for r in caplog.records if r.exc_info] == [RuntimeError]


def test_a_malformed_http2_head_is_not_logged(proxy, caplog):
    """h2 quotes header lines that it refuses."""
    import socket  # noqa: PLC0415
    import ssl  # noqa: PLC0415

    import h2.config  # noqa: PLC0415
    import h2.connection  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    config = h2.config.H2Configuration(
        validate_outbound_headers=False, normalize_outbound_headers=False
    )
    with (
        caplog.at_level(logging.DEBUG),
        socket.create_connection(("127.0.0.1", proxy.port), 10) as plain,
        context.wrap_socket(plain) as connection,
    ):
        http2 = h2.connection.H2Connection(config)
        http2.initiate_connection()
        head = [
            (":method", "POST"), (":scheme", "https"), (":path", "/api/proxy/openai/v1/models"),
            (":authority", "m"), ("authorization", f"Bearer {TOKEN}\r\nX: y"), (f"A {TOKEN}", "b"),
        ]  # fmt: skip
        http2.send_headers(1, head, end_stream=True)
        connection.sendall(http2.data_to_send())
        while connection.recv(65536):
            pass
    assert TOKEN not in "".join(r.getMessage() for r in caplog.records if "mitmproxy" in r.name)
