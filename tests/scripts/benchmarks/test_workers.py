import os
import subprocess
import sys
import time

from scripts.benchmarks.workers import WorkerFigures, _free, _middle, _started_by, worker_lines


def test_the_middle_of_the_rounds():
    rounds = [
        WorkerFigures(2, 1000, 400, 9),
        WorkerFigures(2, 900, 500, 8),
        WorkerFigures(2, 1, 1, 7),
    ]
    assert _middle(rounds) == WorkerFigures(2, 900, 400, 8)


def test_what_is_printed():
    said = worker_lines([WorkerFigures(1, 1000, 500, 0), WorkerFigures(2, 950, 940, 9.6)])
    assert said.splitlines() == [
        "1 worker: 1,000 requests per CPU second, 500 per second",
        "2 workers: 950 requests per CPU second, 940 per second",
        "ratio 0.95; Valkey 10 µs of CPU per request beside",
    ]


def test_whoever_is_measured_may_use_every_processor():
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not (children := _started_by(process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for pid in (process.pid, *children):
        os.sched_setaffinity(pid, {0})
    _free(process.pid)
    everywhere = set(range(os.cpu_count() or 1))
    assert all(os.sched_getaffinity(pid) == everywhere for pid in (process.pid, *children))
    process.communicate(b"\n")
