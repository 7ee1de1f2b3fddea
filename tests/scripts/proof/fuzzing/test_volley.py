import asyncio
import contextlib

import pytest

from scripts.proof.fuzzing import volley
from scripts.proof.fuzzing.volley import Shot, all_at_once, answers, shoot

OK = b"HTTP/1.1 200 OK\r\nx-metrion-request-id: %s\r\n\r\n" % (b"0" * 36)


@contextlib.asynccontextmanager
async def server(serve):
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]


async def test_it_reads_until_the_end():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        writer.close()

    async with server(serve) as port:
        shot = await shoot(port, [b"GET /", b" HTTP/1.1\r\n\r\n"])
        assert shot == Shot(OK, ended=True)
        assert shot.forwarded_ids == ["0" * 36]
        assert await answers(port)
    assert Shot(OK.replace(b"x-m", b"x-metrion-error: a\r\nx-m"), ended=True).forwarded_ids == []


async def test_one_that_neither_answers_nor_closes_hangs(monkeypatch):
    monkeypatch.setattr(volley, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(volley, "_AGAIN_SECONDS", 0.05)
    released = asyncio.Event()

    async def serve(reader, writer):
        await released.wait()
        writer.close()

    async with server(serve) as port:
        assert not (await shoot(port, [b"GET"])).ended
        assert not await answers(port)
        assert (await shoot(port, [b"GET"], hangs_up=True)).ended
        released.set()


async def test_nobody_there_is_no_answer(monkeypatch):
    monkeypatch.setattr(volley, "_TRIES", 0)
    assert not await answers(1)


async def test_work_is_done_for_each():
    done = []

    async def work(item):
        await asyncio.sleep(0)
        done.append(item)

    await all_at_once(range(10), work, 3)
    assert sorted(done) == list(range(10))


async def test_what_goes_wrong_is_told():
    async def work(item):
        raise ValueError(item)

    with pytest.raises(ExceptionGroup):
        await all_at_once([1], work, 2)
