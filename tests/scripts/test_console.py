import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from scripts import console
from scripts.console import Console, LogVoice


class Pipe:
    """Where a console writes, and its reader."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def read(self) -> str:
        return os.read(self.reader, 1_000_000).decode()

    def read_what_is_there(self) -> str:
        os.set_blocking(self.reader, False)
        try:
            return self.read()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def out() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def errors() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_each_line_says_whose_it_is(out: Pipe, errors: Pipe):
    with Console(out.writer, errors.writer) as told:
        told.say("ready\nstop with Ctrl-C")
        told.line("api", "hello")
        told.line("proxy", "oh no", error=True)
        told.complain("the disk is full")
    assert out.read() == "ready\nstop with Ctrl-C\napi      | hello\n"
    assert errors.read() == "proxy    | oh no\nmetrion: the disk is full\n"


def test_a_reader_that_does_not_read_stops_nobody(
    out: Pipe, errors: Pipe, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(console, "_QUEUED_LINES", 10)
    monkeypatch.setattr(console, "_CLOSE_SECONDS", 0.05)
    told = Console(out.writer, errors.writer)
    for _ in range(100):
        told.line("api", "x" * 10_000)  # a pipe holds 65,536
        time.sleep(0.001)
    told.close()  # gives up
    said = ""
    deadline = time.monotonic() + 20
    while "lines were left out here" not in said:
        assert time.monotonic() < deadline
        # now somebody reads; which of the two gets the next line is the writer's affair
        said += out.read_what_is_there() + errors.read_what_is_there()
        time.sleep(0.001)
    assert said.startswith("api      | xxx")


def test_a_process_ends_though_nobody_reads(out: Pipe, errors: Pipe):
    program = (
        "from scripts.console import Console\n"
        "with Console() as told:\n"
        "    for _ in range(20000): told.say('x' * 100)\n"
    )
    subprocess.run([sys.executable, "-c", program], stdout=out.writer, check=True)


def test_a_reader_that_is_gone_stops_nobody(out: Pipe, errors: Pipe):
    told = Console(out.writer, errors.writer)
    os.close(out.reader)
    told.say("to nobody")
    told.complain("still here")
    told.close()
    assert errors.read() == "metrion: still here\n"
    out.reader = os.open(os.devnull, os.O_RDONLY)


def test_what_is_said_in_the_log(caplog: pytest.LogCaptureFixture):
    voice = LogVoice(logging.getLogger("test"))
    with caplog.at_level(logging.INFO):
        voice.say("ready")
        voice.complain("not %s")
        voice.line("proxy-1", "a line")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "ready"),
        ("WARNING", "not %s"),
        ("INFO", "proxy-1: a line"),
    ]
