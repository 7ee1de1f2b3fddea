import io
import logging

import pytest

from scripts.proof.fuzzing.error_log import ErrorLog, errors_in
from storage.json_logs import log_as_json


def test_errors_are_kept_and_warnings_are_not():
    log, logger = ErrorLog(), logging.getLogger("tests.error_log")
    logger.addHandler(log)
    try:
        logger.warning("all is well")
        logger.error("%d of them failed", 2)
    finally:
        logger.removeHandler(log)
    assert log.lines == ["2 of them failed"]


@pytest.fixture
def log_of_a_process():
    """What a process of Metrion's writes to its standard error."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    log = io.StringIO()
    log_as_json(log)
    yield log
    root.handlers = before
    root.setLevel(level)


def test_errors_are_found_among_the_lines_of_a_process(log_of_a_process):
    logger = logging.getLogger("tests.error_log")
    logger.warning("all is well")
    assert errors_in(log_of_a_process.getvalue()) == []
    logger.error("it failed")
    logger.critical("all failed")
    try:
        int("x")
    except ValueError:
        logger.exception("it broke")
    found = errors_in(log_of_a_process.getvalue())
    assert len(found) == 3
    assert all(said in line for said, line in zip(("failed", "all", "broke"), found, strict=True))


@pytest.mark.parametrize(
    "line", ["Traceback (most recent call last):", "Segmentation fault", "1", "{}"]
)
def test_what_nobody_logged_is_a_defect(line):
    assert errors_in(f"\n{line}\n") == [line]
