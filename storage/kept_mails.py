"""Mails that are kept as files, where there is no SMTP server: finding and deleting somebody's."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_string
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr, parsedate_to_datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KeptMail:
    """A mail that is kept as a file."""

    path: Path
    recipient: str
    written_at: datetime


async def find_mails(folder: Path, recipient: str) -> list[KeptMail]:
    """Return the mails to an address (upper and lower case are the same), the oldest first.

    Raises:
        OSError: the folder or a mail cannot be read.
    """
    return await asyncio.to_thread(_find, folder, recipient.lower())


async def delete_mails(mails: list[KeptMail]) -> None:
    """Delete mails; those that are gone already are no error.

    Raises:
        OSError: one cannot be deleted.
    """
    for mail in mails:
        await asyncio.to_thread(mail.path.unlink, missing_ok=True)


def _find(folder: Path, recipient: str) -> list[KeptMail]:
    mails = [mail for path in sorted(folder.glob("*.eml")) if (mail := _read(path)) is not None]
    return [mail for mail in mails if mail.recipient.lower() == recipient]


def _read(path: Path) -> KeptMail | None:
    try:
        content = path.read_bytes()
        changed_at = path.stat().st_mtime
    except FileNotFoundError:  # deleted meanwhile
        return None
    head = message_from_string(content.partition(b"\n\n")[0].decode(errors="replace"))
    try:
        written_at = parsedate_to_datetime(_text(head, "Date")).astimezone(UTC)
    except ValueError:
        written_at = datetime.fromtimestamp(changed_at, UTC)
    return KeptMail(path, parseaddr(_text(head, "To"))[1], written_at)


def _text(head: Message, name: str) -> str:
    return str(make_header(decode_header(head[name] or "")))
