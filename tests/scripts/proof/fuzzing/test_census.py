import os
import signal
from functools import partial

from scripts.proof.fuzzing import census


async def test_a_process_counts_its_tasks(tmp_path):
    file = tmp_path / "tasks.txt"
    before = signal.signal(signal.SIGUSR2, partial(census.count_tasks, file))
    try:
        assert census.ask(os.getpid(), file) == 1
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_one_that_does_not_say_is_no_count(tmp_path, monkeypatch):
    monkeypatch.setattr(census, "_SECONDS", 0.05)
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        assert census.ask(os.getpid(), tmp_path / "tasks.txt") is None
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_it_is_the_proxy(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(census.proxy, "main", lambda arguments: asked.append(arguments) or 7)
    before = signal.getsignal(signal.SIGUSR2)
    try:
        assert census.main([str(tmp_path / "tasks.txt"), "--port", "0"]) == 7
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert asked == [["--port", "0"]]
