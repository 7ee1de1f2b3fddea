"""One request on its way, with everything that can go wrong at its sockets."""

import contextlib
import itertools
import json
import re
import socket
import threading
import time
from pathlib import Path

import pytest

PATH = "/api/proxy/openai/v1/chat/completions"


def open_sockets(port: int) -> int:
    """Connections of this process to a port, established or being made."""
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    remote = f":{port:04X}"
    return sum(
        fields[2].endswith(remote) and fields[3] in ("01", "02")
        for fields in (line.split() for line in lines)
    )


def wait_until(condition, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.005)


@pytest.fixture
def silent_ports():
    """Two ports: one whose connects never end, one that accepts and says nothing."""
    hole = socket.socket()
    hole.bind(("127.0.0.1", 0))
    hole.listen(0)
    fill = [socket.socket() for _ in range(4)]
    for filler in fill:
        filler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            filler.connect(hole.getsockname())
    mute = socket.socket()
    mute.bind(("127.0.0.1", 0))
    mute.listen(50)
    yield hole.getsockname()[1], mute.getsockname()[1]
    for each in (hole, mute, *fill):
        each.close()


# ---- deadlines ------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["connect", "connect, TLS", "TLS handshake", "head"])
def test_a_silent_provider_is_504_in_every_phase(
    phase, silent_ports, start_proxy, origins, provider, connect_to, chat
):
    hole, mute = silent_ports
    origins["openai"] = {
        "connect": f"http://127.0.0.1:{hole}",
        "connect, TLS": f"https://127.0.0.1:{hole}",
        "TLS handshake": f"https://127.0.0.1:{mute}",
        "head": provider.origin,
    }[phase]
    port = int(origins["openai"].rpartition(":")[2])
    proxy = start_proxy()
    before = open_sockets(port)
    client = connect_to(proxy)
    client.request(PATH, chat(), {"x-fake-stall": "head"})
    status, headers, body = client.response()
    assert status == 504
    assert json.loads(body)["error"]["code"] == "provider_timeout"
    row = proxy.rows.wait(1)[0]
    assert (row["status"], row["outcome"]) == (504, "timeout")
    assert 550 < row["latency_ms"] < 3000
    assert headers["x-metrion-request-id"] == row["id"]
    wait_until(lambda: open_sockets(port) <= before)  # really closed, not only forgotten
    # and the client's connection is still good
    client.request("/api/proxy/mistral/v1/chat/completions", chat())
    assert client.response()[0] == 200


def test_a_slow_answer_within_the_deadline_passes(proxy, client, chat):
    client.request(PATH, chat(), {"x-fake-delay": "0.3"})
    assert client.response()[0] == 200


def test_a_stream_may_last_longer_than_the_deadline(proxy, client, chat):
    client.request(PATH, chat(stream=True), {"x-fake-events": "12", "x-fake-interval": "0.1"})
    status, _, body = client.response()
    assert status == 200
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_stream_that_falls_silent_is_broken_off_visibly(proxy, client, chat, provider):
    client.request(PATH, chat(stream=True), {"x-fake-stall": "2"})
    assert client.head()[0] == 200
    received = []
    with pytest.raises(EOFError):
        received.extend(client.chunks())
    row = proxy.rows.wait(1)[0]
    assert (row["status"], row["outcome"]) == (200, "timeout")
    wait_until(lambda: proxy.open_at(provider) == 0)


def test_a_body_that_stalls_is_broken_off(proxy, client, chat):
    client.request(PATH, chat(), {"x-fake-stall": "20b"})
    _, headers = client.head()
    assert len(client.file.read()) < int(headers["content-length"])
    assert proxy.rows.wait(1)[0]["outcome"] == "timeout"


def test_a_client_that_sends_its_body_too_slowly_is_answered_and_closed(proxy, client):
    client.send(
        b"POST /api/proxy/openai/v1/chat/completions HTTP/1.1\r\nHost: m\r\n"
        b"Authorization: Bearer sk-metrion-" + b"0123456789abcdef" * 2 + b"\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    assert client.head()[0] == 408
    client.file.read()


# ---- failures of the provider ---------------------------------------------------------------


def test_a_provider_that_is_down_is_502_and_asked_again_next_time(
    start_proxy, origins, provider, connect_to, chat
):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        origins["openai"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
        client = connect_to(proxy := start_proxy())
        for count in (1, 2):
            client.request(PATH, chat())
            status, _, body = client.response()
            assert status == 502
            assert json.loads(body)["error"]["code"] == "provider_unreachable"
            assert proxy.rows.wait(count)[-1]["outcome"] == "provider_error"


@pytest.mark.parametrize(
    "knobs",
    [
        {"x-fake-close": "head"},
        {"x-fake-close": "head", "x-fake-close-with": "rst"},
        {"x-fake-garbage": "text"},
        {"x-fake-garbage": "binary"},
        {"x-fake-garbage": "two-lengths"},
        {"x-fake-garbage": "length-and-chunked"},
        {"x-fake-garbage": "endless-head"},
    ],
    ids=str,
)
def test_no_usable_answer_is_502(proxy, client, chat, knobs):
    client.request(PATH, chat(), knobs)
    status, _, body = client.response()
    assert status == 502
    assert json.loads(body)["error"]["code"] == "provider_error"
    client.request(PATH, chat())
    assert client.response()[0] == 200


def test_a_stream_that_the_provider_cuts_is_cut_for_the_client(proxy, client, chat):
    client.request(PATH, chat(stream=True), {"x-fake-close": "2"})
    assert client.head()[0] == 200
    with pytest.raises(EOFError):
        list(client.chunks())
    assert proxy.rows.wait(1)[0]["outcome"] == "upstream_closed"


def test_an_answer_that_ends_with_the_connection_is_framed_for_the_client(proxy, client, chat):
    client.request(PATH, chat(), {"x-fake-framing": "close"})
    status, headers, body = client.response()
    assert status == 200
    assert headers["transfer-encoding"] == "chunked"
    assert json.loads(body)["object"] == "chat.completion"
    client.request(PATH, chat())
    assert client.response()[0] == 200


def test_interim_answers_are_passed_over(proxy, client, chat):
    client.request(PATH, chat(), {"x-fake-informational": "100,103"})
    assert client.response()[0] == 200


def test_a_redirect_is_passed_back_and_not_followed(proxy, client, chat, provider):
    client.request(PATH, chat(), {"x-fake-redirect": "http://evil.example/"})
    status, headers, _ = client.response()
    assert (status, headers["location"]) == (307, "http://evil.example/")
    assert len(provider.requests) == 1


# ---- early answers --------------------------------------------------------------------------


def test_a_refusal_does_not_wait_for_the_body(proxy, client, provider, chat):
    client.send(
        b"POST /api/proxy/openai/v1/chat/completions HTTP/1.1\r\nHost: m\r\n"
        b"Authorization: Bearer nonsense\r\nContent-Length: 200000\r\n\r\n" + b"x" * 10
    )
    status, headers = client.head()
    assert status == 401
    client.file.read(int(headers["content-length"]))
    # the rest of that body is thrown away, and the connection goes on
    client.send(b"x" * 199_990)
    client.request(PATH, chat())
    assert client.response()[0] == 200
    assert len(provider.requests) == 1


def test_an_endless_body_of_a_refused_request_is_not_read_for_ever(proxy, client):
    client.send(b"POST /nowhere HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n")
    status, headers = client.head()
    assert status == 404
    assert headers["connection"] == "close"
    client.send_until_closed(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def test_expect_100_continue(proxy, client, chat):
    body = chat()
    client.send(
        b"POST /api/proxy/openai/v1/chat/completions HTTP/1.1\r\nHost: m\r\n"
        b"Authorization: Bearer sk-metrion-" + b"0123456789abcdef" * 2 + b"\r\n"
        b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    assert client.head()[0] == 100
    client.send(body)
    assert client.response()[0] == 200


def test_a_refused_request_gets_no_100_continue(proxy, client):
    client.send(
        b"POST /nowhere HTTP/1.1\r\nHost: m\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    assert client.head()[0] == 404


def test_head_is_answered_without_a_body(proxy, client, chat):
    client.request(PATH, method="HEAD")
    status, headers = client.head()
    assert status == 405
    assert headers["allow"] == "POST"
    client.request(PATH, chat())  # what follows is not out of step
    assert client.response()[0] == 200


# ---- streams --------------------------------------------------------------------------------


def test_each_event_reaches_the_client_before_the_next_is_sent(proxy, client, chat):
    """The provider's clock and the client's are the same: no event waits for its successor."""
    client.request(PATH, chat(stream=True), {"x-fake-events": "6", "x-fake-interval": "0.1"})
    client.head()
    times = []
    for chunk in client.chunks():
        times.extend([time.monotonic()] * chunk.count(b"\n\n"))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert sum(gap > 0.05 for gap in gaps) >= 5


def test_usage_of_a_stream_is_read_and_its_chunk_kept_back(proxy, client, chat, provider):
    client.request(PATH, chat(stream=True))
    _, _, body = client.response()
    assert b'"choices":[]' not in body
    assert json.loads(provider.requests[-1].body)["stream_options"] == {"include_usage": True}
    usage = proxy.rows.wait(1)[0]["usage"]
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0


def test_a_stream_of_nothing_ends_for_the_client_too(proxy, client, chat, provider):
    """Whose usage chunk would be kept back: its length is not the provider's, but this one is."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n"
    provider.scripts[b"nothing"] = [head]
    client.request(PATH, chat(stream=True), {"x-fake-script": "nothing"})
    status, headers = client.head()
    assert (status, headers.get("content-length")) == (200, "0")
    client.request(PATH, chat())
    assert client.response()[0] == 200


def test_an_explicit_wish_about_usage_is_obeyed(proxy, client, chat, provider):
    client.request(PATH, chat(stream=True, stream_options={"include_usage": True}))
    assert b'"choices":[]' in client.response()[2]
    client.request(PATH, body := chat(stream=True, stream_options={"include_usage": False}))
    assert b'"choices":[]' not in client.response()[2]
    assert provider.requests[-1].body == body
    assert proxy.rows.wait(2)[1]["usage"] is None


# ---- clients that leave ---------------------------------------------------------------------


@pytest.mark.parametrize("farewell", ["close", "reset"])
def test_a_stream_is_read_to_its_end_after_the_client_left(
    proxy, connect, chat, provider, farewell
):
    client = connect()
    client.request(PATH, chat(stream=True), {"x-fake-events": "8", "x-fake-interval": "0.03"})
    client.head()
    next(client.chunks())
    getattr(client, farewell)()
    row = proxy.rows.wait(1)[0]
    assert (row["status"], row["outcome"]) == (200, "client_closed")
    assert row["usage"].output_tokens > 0  # the usage chunk comes last
    wait_until(lambda: proxy.connections == 0)
    wait_until(lambda: proxy.open_at(provider) == 0)


def test_a_json_answer_is_waited_for_after_the_client_left(proxy, connect, chat, provider):
    client = connect()
    client.request(PATH, chat(), {"x-fake-delay": "0.2"})
    wait_until(lambda: provider.requests)
    client.close()
    row = proxy.rows.wait(1)[0]
    assert row["outcome"] == "client_closed"
    assert row["usage"].input_tokens > 0


def test_draining_is_bounded_in_time(start_proxy, connect_to, chat, provider):
    proxy = start_proxy(drain_seconds=0.3, timeout_seconds=5)
    client = connect_to(proxy)
    client.request(PATH, chat(stream=True), {"x-fake-events": "500", "x-fake-interval": "0.02"})
    client.head()
    next(client.chunks())
    client.close()
    assert proxy.rows.wait(1)[0]["outcome"] == "client_closed"
    wait_until(lambda: proxy.connections == 0)
    wait_until(lambda: proxy.open_at(provider) == 0)


def test_draining_is_bounded_in_bytes(start_proxy, connect_to, chat, provider):
    proxy = start_proxy(drain_bytes=2000, timeout_seconds=5)
    client = connect_to(proxy)
    client.request(PATH, chat(stream=True), {"x-fake-events": "500", "x-fake-interval": "0.005"})
    client.head()
    next(client.chunks())
    client.close()
    row = proxy.rows.wait(1)[0]
    assert row["outcome"] == "client_closed"
    assert row["latency_ms"] < 2000
    wait_until(lambda: proxy.open_at(provider) == 0)


def test_a_client_that_leaves_before_the_request_was_sent_causes_none(
    silent_ports, start_proxy, origins, connect_to, chat
):
    hole, _ = silent_ports
    origins["openai"] = f"http://127.0.0.1:{hole}"
    proxy = start_proxy()
    client = connect_to(proxy)
    client.request(PATH, chat())
    time.sleep(0.1)
    client.close()
    row = proxy.rows.wait(1)[0]
    assert (row["status"], row["outcome"]) == (None, "client_closed")
    wait_until(lambda: proxy.connections == 0)


def test_a_client_that_leaves_in_its_own_body_gets_a_row_and_nothing_is_sent(
    proxy, connect, provider
):
    client = connect()
    client.send(
        b"POST /api/proxy/openai/v1/chat/completions HTTP/1.1\r\nHost: m\r\n"
        b"Authorization: Bearer sk-metrion-" + b"0123456789abcdef" * 2 + b"\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    time.sleep(0.1)
    client.close()
    assert proxy.rows.wait(1)[0]["outcome"] == "client_closed"
    assert not provider.requests


# ---- the row comes first --------------------------------------------------------------------


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {
            "x-fake-chunk": "100",
            "x-fake-interval": "0.005",
        },  # its last bytes and its end in one read
        {"x-fake-big": "300000"},
        {"x-fake-framing": "chunked"},
        {"x-fake-framing": "chunked", "x-fake-chunk": "100"},
        {"x-fake-framing": "close"},
        {"x-fake-encoding": "gzip"},
        {"x-fake-status": "429"},
        {"x-fake-status": "204"},
        {"x-fake-big": "0", "x-fake-status": "304"},
    ],
    ids=str,
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_the_row_is_on_disk_before_the_answer_is_whole(proxy, connect, chat, knobs, version):
    def read(client):
        status, headers = client.head()
        if headers.get("transfer-encoding") == "chunked":
            assert b"".join(client.chunks())
        elif status not in (204, 304):
            assert client.file.read(int(headers.get("content-length", -1)))

    check_row_comes_first(proxy, connect(), chat(), knobs, version, read)


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}], ids=str)
@pytest.mark.parametrize(
    "knobs", [{}, {"x-fake-interval": "0.005"}, {"x-fake-chunk": "7"}], ids=str
)
def test_the_row_is_on_disk_before_the_last_word_of_a_stream(proxy, connect, chat, knobs, options):
    def read(client):
        client.head()
        answer = b""
        for chunk in client.chunks():
            answer += chunk
            if answer.endswith(b"data: [DONE]\n\n"):  # SDKs stop reading here
                return
        pytest.fail("the stream had no last word")

    check_row_comes_first(proxy, connect(), chat(stream=True, **options), knobs, "1.1", read)


def check_row_comes_first(proxy, client, body, knobs, version, read) -> None:
    """While the row is being written, the client does not have all of the answer."""
    writing, go_on, done = threading.Event(), threading.Event(), threading.Event()
    record = proxy.rows.record

    def write_slowly(row):
        writing.set()
        assert go_on.wait(5)
        record(row)

    def read_answer():
        read(client)
        done.set()

    proxy.rows.record = write_slowly
    fields = {"authorization": f"Bearer sk-metrion-{'0123456789abcdef' * 2}", **knobs}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"POST {PATH} HTTP/{version}\r\nhost: m\r\ncontent-length: {len(body)}\r\n{head}\r\n"
    client.send(head.encode() + body)
    reader = threading.Thread(target=read_answer)
    reader.start()
    assert writing.wait(5)
    assert not done.wait(0.05)
    go_on.set()
    assert done.wait(5)
    reader.join()


# ---- all of it at once ----------------------------------------------------------------------


def test_faults_at_random_leave_nothing_behind(start_proxy, provider, chat, connect_to, caplog):
    """Many clients, every fault, hang-ups at any moment: one row each, no socket, no complaint."""
    import random  # noqa: PLC0415

    proxy = start_proxy(timeout_seconds=0.3, drain_seconds=0.3, rate_per_minute=100_000)
    faults = [
        {}, {}, {},
        {"x-fake-stall": "head"}, {"x-fake-stall": "2"}, {"x-fake-close": "head"},
        {"x-fake-close": "1", "x-fake-close-with": "rst"}, {"x-fake-garbage": "text"},
        {"x-fake-delay": "0.1"}, {"x-fake-status": "429"}, {"x-fake-framing": "close"},
    ]  # fmt: skip
    sent = [0] * 8

    def act(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(12):
            with contextlib.suppress(EOFError, OSError, ValueError):
                client = connect_to(proxy)
                for _ in range(dice.randint(1, 4)):
                    streamed = dice.random() < 0.5
                    client.request(PATH, chat(stream=streamed), dice.choice(faults))
                    sent[seed] += 1
                    if dice.random() < 0.3:
                        time.sleep(dice.random() * 0.1)
                        break
                    client.response()
                if dice.random() < 0.5:
                    client.reset()
                else:
                    client.close()

    threads = [threading.Thread(target=act, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wait_until(lambda: proxy.connections == 0, 15)
    wait_until(lambda: proxy.open_at(provider) == 0, 15)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    ids = [row["id"] for row in proxy.rows.rows]
    assert len(ids) == len(set(ids))
    # A request whose client was gone before its head was read leaves no row; all others do.
    assert sum(sent) * 0.8 <= len(ids) <= sum(sent)
    assert not re.search(r"crash", caplog.text)
