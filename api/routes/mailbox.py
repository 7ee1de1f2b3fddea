"""`/api/v1/mailbox`: the mails that would have been sent, where no mail server is set."""

import asyncio
from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.deps import SESSION_PROBLEMS, ServicesHere, SessionCaller
from api.errors import ResourceNotFoundError, documented
from api.kept_mail import read_mails
from api.mail import mail_folder
from storage.accounts import get_account

router = APIRouter(prefix="/api/v1/mailbox", tags=["Mailbox"])


class KeptMailView(BaseModel):
    """A mail that is kept in a file."""

    name: str = Field(description="Of its file.")
    subject: str = Field(description="Its subject.")
    text: str = Field(description="Its plain text.")
    sent_at: datetime | None = Field(description="When it was written.")


class Mailbox(BaseModel):
    """The mails to the account's address."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "name": "20260115T093000.000000Z-1a2b",
                            "subject": "123456 is your code for Metrion",
                            "text": "Your code is\n\n    123456\n",
                            "sent_at": "2026-01-15T09:30:00Z",
                        }
                    ]
                }
            ]
        }
    )

    items: list[KeptMailView] = Field(description="The newest first; at most 50.")


@router.get(
    "", summary="Read kept mails", responses=documented(*SESSION_PROBLEMS, ResourceNotFoundError)
)
async def mailbox(services: ServicesHere, caller: SessionCaller) -> Mailbox:
    """Return the mails to the account's address. With a mail server there is no such thing."""
    if services.settings.smtp_url is not None:
        raise ResourceNotFoundError("Mails go to a mail server here; none are kept.")
    async with services.database.account(caller.account_id) as connection:
        account = await get_account(connection)
    folder = mail_folder(services.settings)
    mails = await asyncio.to_thread(read_mails, folder, account.email)
    return Mailbox(
        items=[
            KeptMailView(name=mail.name, subject=mail.subject, text=mail.text, sent_at=mail.sent_at)
            for mail in mails
        ]
    )
