import asyncio
import contextlib
import email
import email.policy
import logging
import socket
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import mail
from api.kept_mail import read_mails
from api.mail import Folder, Mail, Mailer, MailError, SmtpServer
from storage.addresses import checked_email
from storage.errors import InvalidValue, SettingsError
from storage.kept_mails import find_mails
from storage.settings import Settings

LETTER = Mail("ada@example.com", "Your code", "123456\n")


class Mailbox:
    """An SMTP server's handler that keeps what it gets, and refuses on demand."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], str]] = []
        self.refusals = 0

    async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refusals:
            self.refusals -= 1
            return "451 later"
        self.mails.append((envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"


@pytest.fixture
def mailbox():
    return Mailbox()


@pytest.fixture
def smtp(mailbox):
    def check(server, session, envelope, mechanism, data) -> AuthResult:
        good = (data.login, data.password) == (b"me", b"p@ss")
        return AuthResult(success=good, handled=False)

    controller = Controller(
        mailbox, "127.0.0.1", 0, authenticator=check, auth_require_tls=False, auth_required=False
    )
    # it asks its own configured port whether it is up: give it a free one
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        controller.port = free.getsockname()[1]
    controller.start()
    yield controller
    controller.stop()


async def deliver(mailer: Mailer, *mails: Mail) -> None:
    async with mailer.running():
        for each in mails:
            mailer.post(each)


async def test_without_a_server_mails_are_files_the_newest_last(tmp_path: Path):
    for number in range(5):
        await deliver(Mailer.open(Settings(data_dir=tmp_path)), Mail("a@b.c", f"{number}", "text"))
    paths = sorted((tmp_path / "mail").iterdir())
    found = [
        email.message_from_string(path.read_text(), policy=email.policy.default) for path in paths
    ]
    assert [each["Subject"] for each in found] == list("01234")
    assert {path.suffix for path in paths} == {".eml"}
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    assert found[0]["To"] == "a@b.c"
    assert found[0].get_content() == "text\n"
    kept = await find_mails(tmp_path / "mail", "a@b.c")
    assert [mail.path for mail in kept] == paths
    assert any(mail.written_at.microsecond for mail in kept), "storage reads the names"


async def test_its_date_is_when_it_was_posted_not_when_it_left(tmp_path: Path):
    """An erasure deletes the mails of before it, also one that was waiting meanwhile."""
    mailer = Mailer(Folder(tmp_path))
    mailer.post(Mail("a@b.c", "s", "t"))
    requested_at = datetime.now(UTC)
    async with mailer.running():
        pass
    [kept] = await find_mails(tmp_path, "a@b.c")
    assert kept.written_at < requested_at


async def test_a_mail_reaches_the_server(smtp, mailbox):
    url = f"smtp://me:p%40ss@127.0.0.1:{smtp.port}?from=metrion@example.com"
    await deliver(Mailer(SmtpServer.parse(url)), LETTER)
    ((recipients, content),) = mailbox.mails
    assert recipients == ["ada@example.com"]
    assert "123456" in content
    assert "From: Metrion <metrion@example.com>" in content


async def test_a_server_that_is_busy_is_asked_again(smtp, mailbox, monkeypatch, caplog):
    monkeypatch.setattr(mail, "_PAUSES_SECONDS", (0.01, 0.01))
    mailbox.refusals = 2
    with caplog.at_level(logging.WARNING):
        await deliver(Mailer(SmtpServer.parse(f"smtp://127.0.0.1:{smtp.port}")), LETTER)
    assert len(mailbox.mails) == 1
    assert [record.__dict__["reason"] for record in caplog.records] == [
        "the mail server answered 451"
    ] * 2


@pytest.mark.parametrize("url", ["smtp://127.0.0.1:1", "smtps://127.0.0.1:1"])
async def test_a_mail_that_cannot_be_sent_is_given_up_and_said_so(url, monkeypatch, caplog):
    monkeypatch.setattr(mail, "_PAUSES_SECONDS", (0.01,))
    with caplog.at_level(logging.WARNING):
        await deliver(Mailer(SmtpServer.parse(url)), LETTER)
    assert [record.getMessage() for record in caplog.records] == [
        "mail not sent",
        "mail not sent",
        "mail given up",
    ]
    assert "ada@example.com" not in caplog.text
    assert "123456" not in caplog.text


async def test_an_unencrypted_server_elsewhere_gets_nothing(smtp, mailbox):
    server = SmtpServer.parse(f"smtp://127.0.0.1:{smtp.port}")
    elsewhere = SmtpServer(
        **{name: getattr(server, name) for name in server.__slots__} | {"start_tls": True}
    )
    with pytest.raises(MailError):
        await elsewhere.send(LETTER)
    assert mailbox.mails == []


async def test_a_wrong_password_is_told_without_repeating_it(smtp):
    with pytest.raises(MailError, match="answered 535") as caught:
        await SmtpServer.parse(f"smtp://me:wrong-secret@127.0.0.1:{smtp.port}").send(LETTER)
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example.com", (587, False, True, "metrion@mail.example.com")),
        ("smtps://mail.example.com", (465, True, False, "metrion@mail.example.com")),
        ("smtp://localhost:25", (25, False, None, "metrion@localhost")),
        ("smtp://relay:25?tls=none", (25, False, False, "metrion@relay")),
        ("smtp://m%40example.com:x@relay", (587, False, True, "m@example.com")),
    ],
)
def test_what_a_url_says(url, expected):
    server = SmtpServer.parse(url)
    assert (server.port, server.implicit_tls, server.start_tls, server.sender) == expected


@pytest.mark.parametrize(
    "url",
    ["smtp://", "smtp://host:port", "smtp://host?tls=yes", "smtp://host?other=1", "smtp://[x"],
)
def test_a_url_that_says_something_else_is_refused(url):
    with pytest.raises(SettingsError, match="METRION_SMTP_URL must look like"):
        SmtpServer.parse(url)


def test_no_secret_is_shown():
    assert "p4ss" not in repr(SmtpServer.parse("smtp://me:p4ss@host"))
    assert "123456" not in repr(LETTER)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.from_regex(r"[^@\s\x00-\x20\x7f]{1,90}@[^@\s\x00-\x20\x7f]{1,90}", fullmatch=True),
    st.sampled_from(["", "é", "=?x?q??=", "=?utf-8?b?4?="]),
)
async def test_what_is_an_address_gets_a_mail_that_is_found_again(tmp_path, address, more):
    """Or none can be written, and that is said: never anything else, never to somebody else."""
    folder = tmp_path / str(uuid.uuid4())
    try:
        address = checked_email(more + address)
        await Folder(folder).send(Mail(address, "Your code", "123456"))
    except (InvalidValue, MailError):
        assert not folder.exists()
    else:
        assert len(await find_mails(folder, address)) == 1
        assert len(read_mails(folder, address)) == 1


class Fickle:
    """A transport with a defect for one address."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    async def send(self, mail: Mail) -> None:
        self.tried.append(mail.to)
        if mail.to == "bad@example.com":
            raise IndexError("string index out of range")


async def test_whatever_one_mail_does_the_others_are_sent(monkeypatch, caplog):
    monkeypatch.setattr(mail, "_PAUSES_SECONDS", (0, 0))
    transport = Fickle()
    mailer = Mailer(transport)
    async with mailer.running():
        for address in ("bad@example.com",) * 9 + ("ada@example.com",):
            mailer.post(Mail(address, "s", "t"))
    assert transport.tried.count("ada@example.com") == 1
    assert transport.tried.count("bad@example.com") == 27
    assert "bad@example.com" not in caplog.text
    assert {record.reason for record in caplog.records} >= {"IndexError"}


async def test_the_queue_has_a_bound(monkeypatch, tmp_path):
    monkeypatch.setattr(mail, "_MOST_WAITING", 1)
    mailer = Mailer(Folder(tmp_path))
    assert not mailer.is_full
    mailer.post(LETTER)
    assert mailer.is_full
    with pytest.raises(MailError, match="too many"):
        mailer.post(LETTER)


async def test_a_server_that_says_nothing_holds_the_end_up_for_a_bounded_time(monkeypatch):
    monkeypatch.setattr(mail, "_GRACE_SECONDS", 0.05)
    left = asyncio.Event()

    async def hold(reader, writer) -> None:
        await reader.read()
        writer.close()
        left.set()

    silent = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    await deliver(Mailer(SmtpServer.parse(f"smtp://127.0.0.1:{port}")), LETTER)
    await asyncio.wait_for(left.wait(), 5)
    silent.close()


async def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "mail").write_text("a file")
    with pytest.raises(MailError, match="cannot be written"):
        await Folder(tmp_path / "mail").send(LETTER)


@pytest.mark.parametrize("address", ["no-at-sign", "a b@c", ""])
async def test_an_odd_address_is_a_mail_error(tmp_path, address):
    with pytest.raises(MailError):
        await Folder(tmp_path).send(Mail(address, "s", "t"))


async def test_an_address_in_any_script(tmp_path):
    await Folder(tmp_path).send(Mail("jürgen@münchen.example", "s", "t"))
    (path,) = tmp_path.iterdir()
    assert "jürgen@münchen.example" in path.read_text()
