"""Mails that are kept in files because there is no mail server, for the page that shows them.

Only to whom they are addressed, and only while METRION_SMTP_URL is not set: on a laptop, in a demo.
"""

from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import default
from itertools import islice
from pathlib import Path
from typing import Final

from storage.addresses import folded

MOST_SHOWN: Final = 50
_MOST_READ: Final = 1000
"""Files, the newest first: other people's are among them."""
_LARGEST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeptMail:
    """A mail in a file."""

    name: str
    subject: str
    text: str
    sent_at: datetime | None


def read_mails(folder: Path, address: str) -> list[KeptMail]:
    """Return the mails to an address, the newest first; at most `MOST_SHOWN`."""
    try:
        names = sorted((path.name for path in folder.glob("*.eml")), reverse=True)
    except OSError:
        return []
    found = (_read(folder / name, address) for name in islice(names, _MOST_READ))
    return list(islice((mail for mail in found if mail is not None), MOST_SHOWN))


def _read(path: Path, address: str) -> KeptMail | None:
    """Return the file's mail if it is to this address; None: it is not, or is no mail."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            return None
        message = message_from_bytes(path.read_bytes(), policy=default)
        is_theirs = folded(str(message["To"] or "")) == folded(address)
        return _shown(path.stem, message) if is_theirs else None
    except (OSError, MessageError, LookupError, ValueError):
        return None


def _shown(name: str, message: EmailMessage) -> KeptMail:
    body = message.get_body(("plain",))
    date = message["Date"]
    return KeptMail(
        name=name,
        subject=str(message["Subject"] or ""),
        text="" if body is None else body.get_content().replace("\r\n", "\n"),
        sent_at=None if date is None else date.datetime,
    )
