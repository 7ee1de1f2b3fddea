import logging

from scripts.proof.fuzzing.error_log import ErrorLog


def test_errors_are_kept_and_warnings_are_not():
    log, logger = ErrorLog(), logging.getLogger("tests.error_log")
    logger.addHandler(log)
    try:
        logger.warning("all is well")
        logger.error("%d of them failed", 2)
    finally:
        logger.removeHandler(log)
    assert log.lines == ["2 of them failed"]
