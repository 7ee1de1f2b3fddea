"""The client without manners, against a server that says exactly what a test wants."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from scripts.proof.client import GOOD, Client, Manners

REQUEST = b"POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 4\r\n\r\nbody"
HEAD = b"HTTP/1.1 200 OK\r\nX-Metrion-Request-Id: 7\r\n"
SIZED = HEAD + b"Content-Length: 6\r\n\r\nabcdef"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3;x=y\r\ndef\r\n0\r\n\r\n"
STREAM = HEAD + b"Transfer-Encoding: chunked\r\n\r\n6\r\na\nend\n\r\n"


class Server:
    """Says `text` to each request.

    Attributes:
        arrived: what came on each connection, until it ended.
        connections: how many there were.
    """

    def __init__(self) -> None:
        self.text = b""
        self.closes = True
        self.arrived: list[bytes] = []
        self.ended = asyncio.Event()
        self.connections = 0
        self.address = ("127.0.0.1", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        came = b""
        try:
            while data := await reader.read(1000):
                came += data
                if came.endswith(b"body"):
                    writer.write(self.text)
                    if self.closes:
                        break
        except ConnectionResetError:
            came += b" and a reset"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self.arrived.append(came)
        self.ended.set()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listener = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = listener.sockets[0].getsockname()
    yield made
    listener.close()


@pytest.fixture
async def ask(server: Server) -> AsyncIterator[Callable]:
    client = Client()

    async def ask(text: bytes, manners: Manners = GOOD, last_word: bytes | None = None):
        server.text = text
        return await client.ask(server.address, REQUEST, manners=manners, last_word=last_word)

    ask.client = client
    yield ask
    await client.close()


@pytest.mark.parametrize("text", [SIZED, CHUNKED, HEAD + b"\r\nabcdef"])
async def test_whole_answers(ask, text):
    answer = await ask(text)
    assert (answer.status, bytes(answer.body), answer.whole) == (200, b"abcdef", True)
    assert answer.headers["x-metrion-request-id"] == "7"


@pytest.mark.parametrize("text", [SIZED, CHUNKED])
async def test_all_that_is_cut_off_is_not_whole(ask, text):
    for end in range(len(text) - 1):
        answer = await ask(text[:end])
        assert not answer.whole, text[:end]
        assert answer.status in (None, 200)


async def test_a_stream_is_whole_when_its_last_word_was_read(ask):
    assert (await ask(STREAM, last_word=b"end")).whole, "though HTTP has not ended"
    assert not (await ask(STREAM, last_word=b"END")).whole
    assert not (await ask(STREAM[:-4], last_word=b"end")).whole, "the line has no end"
    ended = CHUNKED.replace(b"def", b"\nen")
    assert not (await ask(ended, last_word=b"end")).whole, "HTTP's end is not the stream's"
    failed = ended.replace(b"200 OK", b"503 No")
    assert (await ask(failed, last_word=b"end")).whole, "an error is no stream"


async def test_interim_answers_are_passed_over(ask):
    answer = await ask(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + SIZED)
    assert (answer.status, answer.whole) == (200, True)
    assert "link" not in answer.headers


async def test_a_connection_is_kept_and_made_anew(server, ask):
    server.closes = False
    for _ in range(3):
        assert (await ask(SIZED)).keeps
    assert server.connections == 1
    assert not (await ask(SIZED.replace(b"X-", b"Connection: close\r\nX-"))).keeps
    assert (await ask(SIZED)).whole
    assert server.connections == 2
    await ask.client.close()


@pytest.mark.parametrize(
    ("manners", "arrived"),
    [
        (Manners("in request", 10), REQUEST[:10]),
        (Manners("after request"), REQUEST),
        (Manners("after head"), REQUEST),
        (Manners("in body", 2), REQUEST),
        (Manners("in body", 2, with_reset=True), REQUEST + b" and a reset"),
        (Manners(sends_slowly=True), REQUEST),
        (Manners(reads_slowly=True), REQUEST),
    ],
)
async def test_manners(server, ask, manners, arrived):
    server.closes = False
    answer = await ask(SIZED, manners)
    stays = manners.leaves == "stays"
    assert answer.whole is stays
    assert (answer.status is None) is (manners.leaves in {"in request", "after request"})
    await ask.client.close()
    await server.ended.wait()
    assert server.arrived == [arrived]


async def test_nobody_there(server):
    answer = await Client().ask(("127.0.0.1", 1), REQUEST)
    assert (answer.status, answer.whole, answer.keeps) == (None, False, False)
