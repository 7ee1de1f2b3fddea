"""Keeping programs running, shown on small programs of the shell and Python."""

import asyncio
import errno
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from scripts import supervision
from scripts.console import Console
from scripts.supervision import (
    ChildProcess,
    ChildSpec,
    Fleet,
    StartError,
    answers,
    keep_running,
)

STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"
POLITE = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"


class Heard:
    """A console, and what was said on it."""

    def __init__(self, folder: Path) -> None:
        self._files = [(folder / name).open("w+b", buffering=0) for name in ("out", "errors")]
        self.console = Console(*(file.fileno() for file in self._files))

    def said(self) -> str:
        """What was said, first that on standard output."""
        return "".join(Path(file.name).read_text() for file in self._files)

    async def until(self, text: str) -> None:
        await eventually(lambda: text in self.said())

    def close(self) -> None:
        self.console.close()
        for file in self._files:
            file.close()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def heard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Heard]:
    heard = Heard(tmp_path_factory.mktemp("heard"))
    yield heard
    await asyncio.to_thread(heard.close)


def child(
    heard: Heard,
    script: str,
    *,
    name: str = "child",
    is_ready: Callable[[], Awaitable[bool]] | None = None,
    stop_seconds: float = 20.0,
    environment: dict[str, str] | None = None,
) -> ChildProcess:
    spec = ChildSpec(
        name=name,
        command=["/bin/sh", "-c", script],
        environment={"PATH": os.defpath} if environment is None else environment,
        folder=Path("/"),
        is_ready=is_ready,
        stop_seconds=stop_seconds,
    )
    return ChildProcess(spec, heard.console)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_what_a_child_says_is_passed_on(heard: Heard):
    one = child(heard, "pwd; env; printf 'no newline' >&2", environment={"ONLY": "this"})
    await one.start()
    assert await one.ended() == "status 0"
    assert one.pid is None
    await heard.until("child    | no newline\n")
    assert "child    | /\n" in heard.said()
    assert "child    | ONLY=this\n" in heard.said()
    assert "PATH" not in heard.said()
    await one.stop()


async def test_a_line_without_end_is_cut(heard: Heard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervision, "_LONGEST_LINE_BYTES", 1000)
    one = child(heard, f"exec {sys.executable} -c \"print('x' * 100000)\"")
    await one.start()
    await one.ended()
    await heard.until("x" * 1000)
    assert max(map(len, heard.said().splitlines())) < 1100
    await one.stop()


@pytest.mark.parametrize(
    ("script", "how"),
    [("exit 3", "status 3"), ("kill -9 $$", "killed by SIGKILL"), ("kill -40 $$", "killed by si")],
)
async def test_how_it_ended_is_said(heard: Heard, script: str, how: str):
    one = child(heard, script)
    assert await one.ended() == "not started"
    await one.start()
    assert (await one.ended()).startswith(how)
    await one.stop()


async def test_a_program_that_does_not_exist(heard: Heard):
    spec = ChildSpec("ghost", ["/no/such/program"], {}, Path("/"))
    with pytest.raises(StartError, match="ghost cannot be started: No such file"):
        await ChildProcess(spec, heard.console).start()


async def test_a_child_that_inherits_the_pipes_does_not_hide_the_end(heard: Heard):
    one = child(heard, "sleep 5 & echo up")
    await one.start()
    async with asyncio.timeout(4):
        assert await one.ended() == "status 0"
    await one.start()  # and again
    await one.ended()
    await one.stop()


async def test_a_polite_child_is_asked_to_stop(heard: Heard):
    one = child(heard, POLITE)
    await one.start()
    await heard.until("up")
    pid = one.pid
    await one.stop()
    assert is_gone(pid)
    await heard.until("bye")


async def test_a_stubborn_child_is_killed(heard: Heard):
    one = child(heard, STUBBORN, stop_seconds=0.2)
    await one.start()
    await heard.until("up")
    pid = one.pid
    await one.stop()
    assert is_gone(pid)
    await heard.until("child does not stop and is killed")


async def test_hurry_shortens_a_stop(heard: Heard):
    fleet = Fleet(heard.console)
    await fleet.start(child(heard, STUBBORN), seconds=10)
    await heard.until("up")
    pid = fleet.pids["child"]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fleet.stop())
        await asyncio.sleep(0.1)
        assert not is_gone(pid)
        fleet.hurry()
    assert is_gone(pid)


async def test_ready_is_when_it_says_so(heard: Heard, tmp_path: Path):
    sign = tmp_path / "ready"

    async def is_ready() -> bool:
        return sign.exists()

    fleet = Fleet(heard.console)
    one = child(heard, f"sleep 0.2; touch {sign}; sleep 60", is_ready=is_ready)
    await fleet.start(one, seconds=30)
    assert sign.exists()
    await fleet.stop()
    assert fleet.pids == {}


async def never() -> bool:
    return False


async def test_who_ends_before_being_ready_fails_with_its_last_words(heard: Heard):
    fleet = Fleet(heard.console)
    good = child(heard, POLITE, name="good")
    bad = child(heard, "echo a; echo 'port 8080 is taken' >&2; exit 2", name="bad", is_ready=never)
    with pytest.raises(StartError, match=r"bad ended at its start \(status 2\): port 8080 is tak"):
        await fleet.start(good, bad, seconds=30)
    await fleet.stop()
    assert good.pid is None


async def test_who_is_not_ready_in_time_fails(heard: Heard):
    fleet = Fleet(heard.console)
    with pytest.raises(StartError, match="child was not ready within 0 s"):
        await fleet.start(child(heard, POLITE, is_ready=never), seconds=0.1)
    await fleet.stop()


async def test_groups_are_stopped_in_reverse(heard: Heard):
    fleet = Fleet(heard.console)
    await fleet.start(child(heard, POLITE, name="first"), seconds=10)
    await fleet.start(child(heard, POLITE, name="second"), seconds=10)
    assert set(fleet.pids) == {"first", "second"}
    await heard.until("first    | up")
    await heard.until("second   | up")
    await fleet.stop()
    await heard.until("first    | bye")
    said = heard.said()
    assert said.index("second   | bye") < said.index("first    | bye")


async def test_what_dies_is_started_again_and_others_do_not_notice(heard: Heard):
    fleet = Fleet(heard.console)
    await fleet.start(child(heard, POLITE, name="one"), child(heard, POLITE, name="two"), seconds=9)
    before = fleet.pids
    seen: list[dict[str, int]] = []
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(fleet.keep_running(lambda: seen.append(fleet.pids)))
        os.kill(before["one"], signal.SIGKILL)
        await eventually(lambda: bool(seen))
        keeping.cancel()
    assert seen[0]["one"] != before["one"]
    assert seen[0]["two"] == before["two"]
    await heard.until("one has ended (killed by SIGKILL); it starts again in 0.2 s")
    await fleet.stop()


async def test_what_cannot_be_noted_stops_nobody_and_is_noted_later(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervision, "NOTE_AGAIN_SECONDS", 0.01)
    fleet = Fleet(heard.console)
    await fleet.start(child(heard, POLITE, name="one"), child(heard, POLITE, name="two"), seconds=9)
    before = fleet.pids
    tried: list[dict[str, int]] = []

    def note() -> None:
        tried.append(fleet.pids)
        if len(tried) <= 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(fleet.keep_running(note))
        os.kill(before["one"], signal.SIGKILL)
        await eventually(lambda: len(tried) == 4)
        await asyncio.sleep(0.1)
        assert len(tried) == 4  # it is noted
        keeping.cancel()
    assert tried[3]["one"] != before["one"]
    assert fleet.pids["two"] == before["two"]
    await heard.until("cannot be noted (No space left on device)")
    await fleet.stop()
    await asyncio.to_thread(heard.console.close)
    assert heard.said().count("cannot be noted") == 1


async def test_who_dies_at_once_is_started_less_and_less_often(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervision, "FIRST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(supervision, "LONGEST_DELAY_SECONDS", 0.3)
    starts: list[float] = []
    clock = asyncio.get_running_loop().time
    one = child(heard, "exit 1")
    await one.start()
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(
            keep_running(one, heard.console, lambda: starts.append(clock()))
        )
        await eventually(lambda: len(starts) >= 6)
        keeping.cancel()
    pauses = [after - before for before, after in itertools.pairwise(starts)]
    for pause, least in zip(pauses, [0.1, 0.2, 0.3, 0.3, 0.3], strict=False):
        assert pause >= least
    await one.stop()


async def test_who_ran_steadily_starts_again_at_once(heard: Heard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervision, "STEADY_SECONDS", 0.05)
    starts: list[None] = []
    one = child(heard, "sleep 0.1")
    await one.start()
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(keep_running(one, heard.console, lambda: starts.append(None)))
        await eventually(lambda: len(starts) >= 4)
        keeping.cancel()
    await one.stop()
    await asyncio.to_thread(heard.console.close)
    assert "it starts again in 0.4 s" not in heard.said()


async def test_a_start_that_fails_is_tried_again(heard: Heard, tmp_path: Path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    one = ChildProcess(ChildSpec("child", [str(program)], {}, Path("/")), heard.console)
    await one.start()
    program.chmod(0o644)
    starts: list[None] = []
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(keep_running(one, heard.console, lambda: starts.append(None)))
        await heard.until("child cannot be started: Permission denied")
        program.chmod(0o755)
        await eventually(lambda: bool(starts))
        keeping.cancel()
    await one.stop()


async def test_who_is_told_to_end_and_does_starts_again_without_longer_delays(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervision, "FIRST_DELAY_SECONDS", 0.01)
    one = ChildProcess(ChildSpec("child", ["/bin/sh", "-c", POLITE], {}, Path("/")), heard.console)
    await one.start()
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(keep_running(one, heard.console, lambda: None))
        for count in (1, 2, 3):
            await eventually(lambda count=count: heard.said().count("up") >= count)
            await one.stop()
            await one.wait_for_successor(10)
        keeping.cancel()
    await one.stop()
    assert heard.said().count("(status 0); it starts again in 0.0 s") == 3


async def test_a_successor_that_nobody_starts_is_said(heard: Heard):
    one = ChildProcess(ChildSpec("child", ["/bin/true"], {}, Path("/")), heard.console)
    with pytest.raises(StartError, match="child was not started again"):
        await one.wait_for_successor(0.1)


async def test_a_child_gets_the_files_that_are_for_it_and_this_process_s_output(
    heard: Heard, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("content")
    with (tmp_path / "file").open() as file:
        number = file.fileno()
        script = f"cat /dev/fd/{number}; echo $GREETING"
        spec = ChildSpec(
            "child",
            ["/bin/sh", "-c", script],
            None,
            tmp_path,
            open_files=[number],
            shares_output=True,
        )
        monkeypatched = pytest.MonkeyPatch()
        monkeypatched.setenv("GREETING", "hello")
        one = ChildProcess(spec, heard.console)
        await one.start()
        assert await one.ended() == "status 0"
        monkeypatched.undo()
    assert capfd.readouterr().out == "contenthello\n"
    assert heard.said() == ""
    await one.stop()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"", False),
        (b"what?\r\n", False),
    ],
)
async def test_answers_means_200(reply: bytes, *, expected: bool):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply)
        writer.close()

    asked: list[bytes] = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await answers(f"http://127.0.0.1:{port}/readyz") is expected
    assert asked[0].startswith(f"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode())
    assert await answers(f"http://127.0.0.1:{port}/readyz") is False
