from pathlib import Path

import pytest

from api import kept_mail
from api.kept_mail import read_mails
from api.mail import Folder, Mail


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    for number in range(4):
        await Folder(tmp_path / "mail").send(Mail("ada@example.com", f"Mail {number}", "text\n"))
    await Folder(tmp_path / "mail").send(Mail("eve@example.com", "Hers", "secret\n", html="<p>"))
    return tmp_path / "mail"


def test_the_newest_first_and_nobody_elses(folder, monkeypatch):
    mails = read_mails(folder, "Ada@example.com")
    assert [mail.subject for mail in mails] == ["Mail 3", "Mail 2", "Mail 1", "Mail 0"]
    assert {mail.text for mail in mails} == {"text\n"}
    (hers,) = read_mails(folder, "eve@example.com")
    assert hers.text == "secret\n"
    monkeypatch.setattr(kept_mail, "MOST_SHOWN", 2)
    assert len(read_mails(folder, "ada@example.com")) == 2


def test_what_is_no_mail_or_too_large_is_passed_over(folder, monkeypatch):
    (folder / "z.eml").write_bytes(b"\xff\x00nothing")
    (folder / "y.eml").mkdir()
    assert len(read_mails(folder, "ada@example.com")) == 4
    monkeypatch.setattr(kept_mail, "_LARGEST_BYTES", 10)
    assert read_mails(folder, "ada@example.com") == []


async def test_whose_mail_it_is_does_not_depend_on_what_letters_look_like(tmp_path):
    for address in ("sue@example.com", "ken@example.com", "strasse@example.com"):
        await Folder(tmp_path).send(Mail(address, "A code", "123456"))
    for address in ("\u017fue@example.com", "\u212aen@example.com", "stra\u00dfe@example.com"):
        assert read_mails(tmp_path, address) == []


@pytest.mark.parametrize("name", ["To", "Subject", "Date", "Content-Type"])
@pytest.mark.parametrize(
    "value", ["é@=?x?q??=", "=?utf-8?b?4?=", "=?x-none?q?a?=", "text/plain; c"]
)
def test_a_mail_that_cannot_be_read_hides_no_others(folder, name, value):
    fields = {"To": "ada@example.com", "Date": "Mon, 01 Jun 2026 10:00:00 +0000", name: value}
    head = "".join(f"{each}: {what}\n" for each, what in fields.items())
    (folder / "z.eml").write_bytes(f"{head}\ntext".encode())
    subjects = [mail.subject for mail in read_mails(folder, "ada@example.com")]
    assert subjects[-4:] == ["Mail 3", "Mail 2", "Mail 1", "Mail 0"]


def test_without_a_folder_there_are_none(tmp_path):
    assert read_mails(tmp_path / "none", "ada@example.com") == []
