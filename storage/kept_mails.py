"""Mails that are kept as files, where there is no SMTP server: finding and deleting somebody's.

A file is called after the moment its mail was written and the mail's identifier. The name counts,
not the header `Date`: that one knows no fractions of a second, so a mail of the same second as an
erasure's request, but after it, would be taken for one of before.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_string
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr, parsedate_to_datetime
from pathlib import Path
from typing import Final

from storage.addresses import folded

_MOMENT: Final = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, slots=True)
class KeptMail:
    """A mail that is kept as a file."""

    path: Path
    recipient: str
    written_at: datetime

    @property
    def id(self) -> str:
        """What makes it this mail: for a receipt, the identifier of its erasure."""
        return self.path.stem.partition("-")[2]


def file_name(written_at: datetime, mail_id: str) -> str:
    """Return what a mail's file is called; names are in the order in which mails were written."""
    return f"{written_at.astimezone(UTC):{_MOMENT}}-{mail_id}.eml"


async def find_mails(folder: Path, recipient: str) -> list[KeptMail]:
    """Return the mails to an address, however it is written, the oldest first.

    Raises:
        OSError: the folder or a mail cannot be read.
    """
    return await asyncio.to_thread(_find, folder, folded(recipient))


async def delete_mails(mails: list[KeptMail]) -> None:
    """Delete mails; those that are gone already are no error.

    Raises:
        OSError: one cannot be deleted.
    """
    for mail in mails:
        await asyncio.to_thread(mail.path.unlink, missing_ok=True)


def _find(folder: Path, recipient: str) -> list[KeptMail]:
    mails = [mail for path in sorted(folder.glob("*.eml")) if (mail := _read(path)) is not None]
    return [mail for mail in mails if folded(mail.recipient) == recipient]


def _read(path: Path) -> KeptMail | None:
    try:
        content = path.read_bytes()
        changed_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:  # deleted meanwhile
        return None
    head = message_from_string(content.partition(b"\n\n")[0].decode(errors="replace"))
    moments = (_moment_in_name(path), _moment_in_head(head), changed_at)
    written_at = next(moment for moment in moments if moment is not None)
    return KeptMail(path, parseaddr(_text(head, "To"))[1], written_at)


def _moment_in_name(path: Path) -> datetime | None:
    try:
        return datetime.strptime(path.stem.partition("-")[0], _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return None


def _moment_in_head(head: Message) -> datetime | None:
    try:
        return parsedate_to_datetime(_text(head, "Date")).astimezone(UTC)
    except ValueError:
        return None


def _text(head: Message, name: str) -> str:
    """Return a field's text; one that cannot be read is nobody's: it must not hide other mails."""
    try:
        return str(make_header(decode_header(head[name] or "")))
    except (MessageError, LookupError, ValueError):
        return ""
