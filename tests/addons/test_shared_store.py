"""The connection to a real Valkey: what it costs, how it fails, how it comes back."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import shutil
import signal
import socket
import ssl
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from addons import shared_store
from addons.event_loop import EventLoop
from addons.shared_store import Script, SharedStore, StoreAddress, StoreAway
from storage.errors import SettingsError

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture
async def connect(valkey):
    """Stores that are connected, to the test's server unless told otherwise."""
    tasks = []

    async def connect(url: SecretStr | None = None, seconds: float = 5.0) -> SharedStore:
        store = SharedStore(url or valkey.url, CollectorRegistry())
        tasks.append(asyncio.create_task(store.run_forever()))
        await store.wait_until_connected(seconds)
        return store

    yield connect
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def until(condition, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_many_at_once_are_each_answered_with_their_own(connect, monkeypatch):
    monkeypatch.setattr("addons.shared_store.REPLY_SECONDS", 30.0)  # a busy machine is no failure
    store = await connect()
    numbers = await asyncio.gather(*(store.run(ADD, b"n", b"1") for _ in range(1000)))
    assert numbers == list(range(1, 1001))


async def test_a_server_that_forgot_the_script_is_told_again(connect, valkey):
    store = await connect()
    await store.run(ADD, b"n", b"1")
    valkey.client.script_flush()
    assert await store.run(ADD, b"n", b"1") == 2


async def test_a_server_that_is_killed_is_away_at_once_and_found_again(connect, valkey, caplog):
    store = await connect()
    waiting = [asyncio.create_task(store.run(ADD, b"n", b"1")) for _ in range(10)]
    valkey.kill()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, int | StoreAway) for each in results)
    await until(lambda: not store.is_up)
    begun = time.perf_counter()
    for _ in range(100):
        with pytest.raises(StoreAway):
            await store.run(ADD, b"n", b"1")
    assert time.perf_counter() - begun < 0.5  # nobody waits for what is known to be away
    valkey.start()
    await until(lambda: store.is_up)
    assert await store.run(ADD, b"n", b"1") == 1
    said = [record.message for record in caplog.records if "Valkey" in record.message]
    assert len(said) == 2, said  # once that it is away, once that it is back
    assert "away" in said[0]
    assert "back after" in said[1]
    assert valkey.password not in caplog.text


async def test_a_server_that_hangs_is_waited_for_once(connect, valkey, monkeypatch):
    monkeypatch.setattr(shared_store, "REPLY_SECONDS", 0.3)
    store = await connect()
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        begun = time.perf_counter()
        results = await asyncio.gather(
            *(store.run(ADD, b"n", b"1") for _ in range(50)), return_exceptions=True
        )
        assert all(isinstance(each, StoreAway) for each in results)
        assert 0.25 < time.perf_counter() - begun < 3
        begun = time.perf_counter()
        with pytest.raises(StoreAway):
            await store.run(ADD, b"n", b"1")
        assert time.perf_counter() - begun < 0.1
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    await until(lambda: store.is_up)


def test_a_process_that_was_busy_reads_the_answer_before_it_takes_the_server_for_away(monkeypatch):
    """libuv runs timers before it looks what has come."""
    monkeypatch.setattr(shared_store, "REPLY_SECONDS", 0.2)
    listener = socket.create_server(("127.0.0.1", 0))
    noise, noisy = socket.socketpair()
    noisy.setblocking(False)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(b"+PONG\r\n")
            connection.recv(1024)

    async def ask() -> bytes:
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(shared_store._Link, *listener.getsockname())

        def be_busy() -> None:
            loop.remove_reader(noisy)
            time.sleep(0.4)

        answer = loop.create_task(link.call(b"PING"))
        await asyncio.sleep(0)  # it has left
        loop.add_reader(noisy, be_busy)
        noise.send(b"x")
        try:
            return await answer
        finally:
            link.abort()

    thread = threading.Thread(target=serve)
    thread.start()
    with listener, noise, noisy:
        assert asyncio.run(ask(), loop_factory=EventLoop) == b"+PONG"
        thread.join(5)
    assert not thread.is_alive()


async def test_a_server_that_hangs_is_found_out_before_anybody_asks(connect, valkey, monkeypatch):
    monkeypatch.setattr(shared_store, "REPLY_SECONDS", 0.3)
    monkeypatch.setattr(shared_store, "PING_SECONDS", 0.1)
    store = await connect()
    await asyncio.sleep(0.3)
    assert store.is_up
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        await until(lambda: not store.is_up)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    await until(lambda: store.is_up)


async def test_whoever_no_longer_waits_takes_nobody_s_answer(connect):
    store = await connect()
    given_up = asyncio.create_task(store.run(ADD, b"a", b"5"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await store.run(ADD, b"b", b"1") == 1
    assert await store.run(ADD, b"a", b"1") == 6


async def test_a_server_that_does_not_count_is_away(connect, valkey):
    store = await connect()
    valkey.client.set("n", "no number")
    with pytest.raises(StoreAway):
        await store.run(ADD, b"n", b"1")
    await until(lambda: store.is_up)
    assert await store.run(ADD, b"other", b"1") == 1


@pytest.mark.parametrize("what", ["password", "port"])
async def test_a_server_that_is_never_there_is_said_without_the_password(
    connect, valkey, caplog, what
):
    url = valkey.url.get_secret_value()
    wrong = {
        "password": url.replace(valkey.password, "s3cret-wrong"),
        "port": "redis://x:s3cret@127.0.0.1:1",
    }
    with caplog.at_level(logging.WARNING):
        store = await connect(SecretStr(wrong[what]), seconds=0.5)
    assert not store.is_up
    with pytest.raises(StoreAway):
        await store.run(ADD, b"n", b"1")
    assert "Valkey is away" in caplog.text
    assert ("WRONGPASS" if what == "password" else "refused") in caplog.text.replace(
        "Connect call failed", "refused"
    )
    assert "s3cret" not in caplog.text


async def test_the_metrics_show_it(valkey):
    registry = CollectorRegistry()
    store = SharedStore(valkey.url, registry)
    assert registry.get_sample_value("metrion_shared_limits_up") == 0
    with pytest.raises(StoreAway):
        await store.run(ADD, b"n", b"1")
    assert registry.get_sample_value("metrion_shared_limits_decided_alone_total") == 1
    running = asyncio.create_task(store.run_forever())
    await store.wait_until_connected(5)
    assert registry.get_sample_value("metrion_shared_limits_up") == 1
    running.cancel()
    await asyncio.wait([running])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an authority that nobody but the test knows: a certificate for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "tls.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
async def tls_port(valkey, certificate: Path):
    """TLS before the test's server, as a managed one has it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    port = urlsplit(valkey.url.get_secret_value()).port

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_over_tls(connect, valkey, tls_port, certificate):
    url = f"rediss://:{valkey.password}@127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}"
    store = await connect(SecretStr(url))
    assert await store.run(ADD, b"n", b"1") == 1


async def test_a_certificate_of_nobody_known_is_not_spoken_to(connect, valkey, tls_port, caplog):
    url = f"rediss://:{valkey.password}@127.0.0.1:{tls_port}/0"
    store = await connect(SecretStr(url), seconds=0.5)
    assert not store.is_up
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


async def test_over_a_socket_of_this_machine(connect, valkey, tmp_path):
    port = urlsplit(valkey.url.get_secret_value()).port
    path = Path(tempfile.mkdtemp(dir="/tmp")) / "valkey.sock"  # a short path: 104 bytes at most

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        while data := await reader.read(65536):
            back.write(data)
            writer.write(await there.read(65536))
        back.close()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    store = await connect(SecretStr(f"unix://:{valkey.password}@{path}?db=0"))
    assert await store.run(ADD, b"n", b"1") == 1
    server.close()
    shutil.rmtree(path.parent)


class TestAddress:
    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("redis://host", [(b"PING",)]),
            ("valkey://host:1/2", [(b"SELECT", b"2"), (b"PING",)]),
            ("redis://:p%40ss@host", [(b"AUTH", b"p@ss"), (b"PING",)]),
            ("redis://me:p@host/0", [(b"AUTH", b"me", b"p"), (b"PING",)]),
            ("unix:///run/valkey.sock?db=3", [(b"SELECT", b"3"), (b"PING",)]),
        ],
    )
    def test_what_is_said_first(self, url: str, said: list[tuple[bytes, ...]]) -> None:
        assert StoreAddress.parse(SecretStr(url)).greeting() == said

    def test_places(self) -> None:
        plain = StoreAddress.parse(SecretStr("redis://[::1]"))
        assert (plain.host, plain.port, plain.tls) == ("::1", 6379, None)
        assert StoreAddress.parse(SecretStr("unix:///run/valkey.sock")).path == "/run/valkey.sock"

    @pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
    def test_tls_is_checked(self, scheme: str) -> None:
        context = StoreAddress.parse(SecretStr(f"{scheme}://host")).tls
        assert context is not None
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname

    @pytest.mark.parametrize(
        "url",
        [
            *(
                "redis://",
                "redis://:s3cret@host:port",
                "redis://h/x",
                "redis://h?ssl_cert_reqs=none",
            ),
            *("unix://", "rediss://h?ssl_ca_certs=/no/such/file"),
        ],
    )
    def test_what_cannot_be_read_is_said_and_not_repeated(self, url: str) -> None:
        with pytest.raises(SettingsError, match="METRION_VALKEY_URL must look like") as caught:
            StoreAddress.parse(SecretStr(url))
        assert "s3cret" not in str(caught.value)
        assert "s3cret" not in repr(StoreAddress.parse(SecretStr("redis://:s3cret@host")))
