from datetime import timedelta

import pytest

from scripts.doctor.upkeep import check_upkeep
from storage.diagnostics import today
from storage.retention import AHEAD


@pytest.fixture
def kept_up(administrator) -> None:
    """The jobs have been done."""
    administrator.execute("SELECT metrion.ensure_partitions(%s, %s)", [today(), today() + AHEAD])


def test_jobs_that_are_done(diagnosis, kept_up, findings):
    assert findings(check_upkeep(diagnosis)) == []


def test_jobs_that_nobody_ever_did(diagnosis, findings):
    assert findings(check_upkeep(diagnosis)) == [
        "no partitions of the log were made for a day ([7, 90] days' log)"
    ]


def test_jobs_that_nobody_did_for_two_days(diagnosis, kept_up, administrator, findings):
    last = today() + AHEAD
    for day in (last, last - timedelta(days=1)):
        administrator.execute(f"DROP TABLE metrion.request_logs_7_{day:%Y%m%d}")
    assert findings(check_upkeep(diagnosis)) == [
        "no partitions of the log were made for a day ([7] days' log)"
    ]


def test_partitions_that_nobody_dropped(diagnosis, kept_up, administrator, findings):
    old = today() - timedelta(days=20)
    administrator.execute("SELECT metrion.ensure_partition(7::smallint, %s)", [old])
    assert findings(check_upkeep(diagnosis)) == ["1 partitions should have been dropped long ago"]


def test_mails_that_nobody_sent(diagnosis, kept_up, administrator, findings):
    administrator.execute(
        "INSERT INTO metrion.outbox (id, key, recipient, subject, text_body, created_at)"
        " VALUES (gen_random_uuid(), 'k', 'ada@example.org', 's', 't', now() - interval '2 h')"
    )
    assert findings(check_upkeep(diagnosis)) == ["1 mails should have been sent long ago"]
