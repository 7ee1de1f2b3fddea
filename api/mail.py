"""Mails to people: to an SMTP server, or without one into files that the operator can read.

Sending happens behind a request's back: `Mailer.post` only queues, so that no answer's time tells
whether a mail was sent, and a mail server that is slow keeps nobody waiting. The mails of the
outbox (storage.outbox) are sent by the jobs process, over the same transports.
"""

import asyncio
import logging
import secrets
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, make_msgid
from functools import partial
from pathlib import Path
from typing import Final, Protocol, Self
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib

from storage import private_files
from storage.errors import SettingsError
from storage.kept_mails import file_name
from storage.settings import Settings

_SENDERS: Final = 4  # mails on their way at once
_MOST_WAITING: Final = 1000
_PAUSES_SECONDS: Final = (1.0, 5.0, 20.0)  # between tries
_MAIL_SECONDS: Final = 30.0  # one try, from connecting to the server's last word
_GRACE_SECONDS: Final = 8.0  # what is queued when the process ends
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}
_FORM: Final = "METRION_SMTP_URL must look like smtp://user:password@host:587?from=metrion@host"

# What the standard library raises for headers that cannot be parsed, encoded or folded.
_UNWRITABLE: Final = (MessageError, LookupError, ValueError)

log = logging.getLogger("metrion.mail")


@dataclass(frozen=True, slots=True)
class Mail:
    """A text to one person."""

    to: str
    subject: str
    text: str = field(repr=False)
    html: str | None = field(default=None, repr=False)
    """The same, for who wants to see it so."""
    id: uuid.UUID | None = None
    """Makes a mail that is sent again the same mail: its Message-ID and its file's name."""
    written_at: datetime = field(default_factory=partial(datetime.now, UTC))
    """When there was a reason for it, not when it left: an erasure deletes those of before it."""


class MailError(Exception):
    """A mail could not be handed over; the message names no person."""


class Transport(Protocol):
    """Where mails go."""

    async def send(self, mail: Mail) -> None:
        """Hand a mail over.

        Raises:
            MailError: it did not work; it may later.
        """
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """Keeps mails as files, the newest last by name."""

    path: Path

    async def send(self, mail: Mail) -> None:
        """Write the mail's file, for its owner only."""
        name = file_name(mail.written_at, str(mail.id or secrets.token_hex(2)))
        message = _compose(mail, "metrion@localhost").as_string()
        try:
            await asyncio.to_thread(self._write, self.path / name, message)
        except OSError as error:
            raise MailError(f"the mail folder cannot be written: {error.strerror}") from None

    def _write(self, path: Path, message: str) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_files.replace(path, message)


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Hands mails to an SMTP server; encrypted, unless it is on this machine or the URL says not.

    The URL: `smtps://` is TLS from the start (port 465), `smtp://` is STARTTLS (port 587), which is
    then demanded. `?from=ADDRESS` is the sender, `?tls=none` allows an unencrypted relay.
    """

    host: str
    port: int
    user: str | None
    password: str | None = field(repr=False)
    sender: str
    implicit_tls: bool
    start_tls: bool | None
    """True: demanded; None: if it is offered; False: never."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read the URL.

        Raises:
            SettingsError: it has not the form; it is not repeated.
        """
        try:
            parts = urlsplit(url)
            port, host = parts.port, parts.hostname
        except ValueError:
            raise SettingsError(_FORM) from None
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if not host or options.keys() - {"from", "tls"} or options.get("tls", "none") != "none":
            raise SettingsError(_FORM)
        user = unquote(parts.username) if parts.username else None
        sender = options.get("from") or (user if user and "@" in user else f"metrion@{host}")
        implicit = parts.scheme == "smtps"
        unencrypted = "tls" in options or implicit
        return cls(
            host=host,
            port=port or (465 if implicit else 587),
            user=user,
            password=unquote(parts.password) if parts.password else None,
            sender=sender,
            implicit_tls=implicit,
            start_tls=False if unencrypted else None if host in _LOOPBACK else True,
        )

    async def send(self, mail: Mail) -> None:
        """Hand the mail to the server, within `_MAIL_SECONDS`."""
        message = _compose(mail, self.sender)
        try:
            async with asyncio.timeout(_MAIL_SECONDS):
                await aiosmtplib.send(
                    message,
                    sender=self.sender,
                    recipients=[mail.to],
                    hostname=self.host,
                    port=self.port,
                    username=self.user,
                    password=self.password,
                    use_tls=self.implicit_tls,
                    start_tls=None if self.implicit_tls else self.start_tls,
                    timeout=_MAIL_SECONDS,
                )
        except aiosmtplib.SMTPResponseException as error:
            raise MailError(f"the mail server answered {error.code}") from None
        except (aiosmtplib.SMTPException, OSError, *_UNWRITABLE) as error:
            # their words may hold the address or what the server was told
            raise MailError(f"the mail server cannot be used: {type(error).__name__}") from None


def open_transport(settings: Settings) -> Transport:
    """Return where the settings say that mails go.

    Raises:
        SettingsError: METRION_SMTP_URL has not the form of one.
    """
    if settings.smtp_url is None:
        return Folder(mail_folder(settings))
    return SmtpServer.parse(settings.smtp_url.get_secret_value())


def mail_folder(settings: Settings) -> Path:
    """Return where mails are kept without an SMTP server."""
    return settings.data_dir / "mail"


class Mailer:
    """The process's mails: a queue with a bound, and what empties it while `running`."""

    def __init__(self, transport: Transport) -> None:
        """Prepare; nothing is sent before `running` is entered."""
        self._transport = transport
        self._waiting: asyncio.Queue[Mail] = asyncio.Queue(_MOST_WAITING)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Make the mailer that the settings ask for.

        Raises:
            SettingsError: METRION_SMTP_URL has not the form of one.
        """
        return cls(open_transport(settings))

    @property
    def is_full(self) -> bool:
        """Whether no mail can be taken now: the mail server has been away for long."""
        return self._waiting.full()

    def post(self, mail: Mail) -> None:
        """Queue a mail and return at once; that it cannot be sent is told in the log.

        Raises:
            MailError: the queue is full.
        """
        try:
            self._waiting.put_nowait(mail)
        except asyncio.QueueFull:
            raise MailError("too many mails are waiting") from None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Send what is posted; at the end what is left, for a few seconds."""
        async with asyncio.TaskGroup() as tasks:
            senders = [tasks.create_task(self._send_all()) for _ in range(_SENDERS)]
            try:
                yield
            finally:
                self._waiting.shutdown()
                _, late = await asyncio.wait(senders, timeout=_GRACE_SECONDS)
                for sender in late:
                    sender.cancel()

    async def _send_all(self) -> None:
        while True:
            try:
                mail = await self._waiting.get()
            except asyncio.QueueShutDown:
                return
            await self._send(mail)

    async def _send(self, mail: Mail) -> None:
        for pause in (*_PAUSES_SECONDS, None):
            try:
                await self._transport.send(mail)
            except MailError as error:
                log.warning("mail not sent", extra={"reason": str(error)})
            except Exception as error:  # noqa: BLE001 - one mail never ends everybody's
                log.warning("mail not sent", extra={"reason": type(error).__name__})
            else:
                return
            if pause is not None:
                await asyncio.sleep(pause)
        log.error("mail given up", extra={"reason": "see the warnings before"})


def _compose(mail: Mail, sender: str) -> EmailMessage:
    """Return the mail as a message that can be written; raises MailError if there is none."""
    try:
        message = _message(mail, sender)
        message.as_bytes()  # some headers can be set, but not be written
    except _UNWRITABLE:
        raise MailError("the address cannot be written in a mail") from None
    return message


def _message(mail: Mail, sender: str) -> EmailMessage:
    policy = SMTP if mail.to.isascii() else SMTPUTF8
    message = EmailMessage(policy)
    message["From"] = Address("Metrion", addr_spec=sender)
    # Address takes ASCII only; as text a header takes no line breaks either
    message["To"] = Address(addr_spec=mail.to) if mail.to.isascii() else mail.to
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(mail.written_at)
    domain = sender.rpartition("@")[2]
    message["Message-ID"] = f"<{mail.id}@{domain}>" if mail.id else make_msgid(domain=domain)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    if mail.html is not None:
        message.add_alternative(mail.html, subtype="html")
    return message
