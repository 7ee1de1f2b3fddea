import uuid
from datetime import UTC, datetime

from storage.erasure_receipt import write_receipt

MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def receipt(deleted: dict[str, int]) -> tuple[str, str]:
    return write_receipt(
        erasure_id=uuid.UUID(int=7),
        region="eu-west-1",
        requested_at=MOMENT,
        purged_at=MOMENT.replace(minute=6),
        deleted=deleted,
        kept_days=90,
    )


def test_it_says_what_when_where_and_its_number():
    subject, text = receipt({"new_table": 3, "request_logs": 1_234_567, "accounts": 1, "codes": 0})
    assert subject == "Your Metrion account is deleted"
    assert (
        "          1  account\n  1,234,567  requests in the log\n          3  new table\n" in text
    )
    assert "codes" not in text
    assert "Asked for:  2026-02-03 04:05:06 UTC" in text
    assert "Deleted:    2026-02-03 04:06:06 UTC" in text
    assert "Region:     eu-west-1" in text
    assert f"Receipt:    {uuid.UUID(int=7)}" in text
    assert "90 days" in text


def test_it_is_plain_text_for_every_mail_program():
    _, text = receipt({"accounts": 1})
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 100
