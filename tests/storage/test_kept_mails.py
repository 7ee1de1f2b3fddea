from datetime import UTC, datetime, timedelta, timezone
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from pathlib import Path

import pytest

from storage.kept_mails import delete_mails, file_name, find_mails

WRITTEN_AT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def keep(folder: Path, name: str, recipient: str | Address, policy=SMTP) -> Path:
    mail = EmailMessage(policy)
    mail["To"] = recipient
    mail["Date"] = WRITTEN_AT
    mail.set_content("To: ada@example.com")
    (folder / name).write_bytes(mail.as_bytes())
    return folder / name


async def test_somebodys_mails_are_found_and_deleted(tmp_path):
    mine = [
        keep(tmp_path, "1.eml", "ada@example.com"),
        keep(tmp_path, "2.eml", "Ada@Example.COM"),
        keep(tmp_path, "3.eml", Address("Ada Lovelace", addr_spec="ada@example.com")),
    ]
    others = [
        keep(tmp_path, "4.eml", "eve+ada@example.com"),
        keep(tmp_path, "5.eml", "ada@example.com.evil.example"),
        keep(tmp_path, "6.txt", "ada@example.com"),
    ]
    found = await find_mails(tmp_path, "ADA@example.com")
    assert [mail.path for mail in found] == mine
    assert {mail.written_at for mail in found} == {WRITTEN_AT}
    await delete_mails(found)
    await delete_mails(found)
    assert sorted(tmp_path.iterdir()) == others


async def test_also_of_an_address_that_is_not_ascii(tmp_path):
    path = keep(tmp_path, "1.eml", "jürgen@example.com", SMTPUTF8)
    assert [mail.path for mail in await find_mails(tmp_path, "Jürgen@example.com")] == [path]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"To: ada@example.com\nDate: never\n\nx"])
async def test_what_is_no_mail_is_no_error(tmp_path, content):
    (tmp_path / "1.eml").write_bytes(content)
    found = await find_mails(tmp_path, "ada@example.com")
    assert len(found) == (b"ada" in content)
    assert all(mail.written_at.year >= 2025 for mail in found)


async def test_what_cannot_be_read_hides_no_others(tmp_path):
    (tmp_path / "0.eml").write_text("To: éa@b=?x?q??=\n\nx")
    path = keep(tmp_path, "1.eml", "ada@example.com")
    assert [mail.path for mail in await find_mails(tmp_path, "ada@example.com")] == [path]


async def test_who_only_looks_alike_is_somebody_else(tmp_path):
    keep(tmp_path, "1.eml", "\u212aen@example.com", SMTPUTF8)
    assert await find_mails(tmp_path, "ken@example.com") == []


async def test_when_it_was_written_is_known_to_the_microsecond(tmp_path):
    """Its header knows seconds only."""
    moment = WRITTEN_AT + timedelta(hours=1, microseconds=7)
    name = file_name(moment.astimezone(timezone(timedelta(hours=5))), "0198-ab")
    keep(tmp_path, name, "ada@example.com")
    [mail] = await find_mails(tmp_path, "ada@example.com")
    assert (mail.written_at, mail.id) == (moment, "0198-ab")


def test_names_are_in_the_order_of_time():
    moments = [WRITTEN_AT + timedelta(microseconds=10**number) for number in range(14)]
    names = [file_name(moment, "x") for moment in moments]
    assert names == sorted(names)
    assert len(set(names)) == len(names)


async def test_a_folder_that_does_not_exist_is_empty(tmp_path):
    assert await find_mails(tmp_path / "none", "ada@example.com") == []
