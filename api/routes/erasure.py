"""`/api/v1/account`, its end: deleting the account with a code sent by mail."""

from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.deps import (
    SESSION_COOKIE,
    SESSION_PROBLEMS,
    ServicesHere,
    SessionCaller,
    client_address,
)
from api.errors import (
    InvalidCodeError,
    InvalidRequestError,
    ResourceNotFoundError,
    TooManyAttemptsError,
    UnavailableError,
    documented,
)
from api.mail import Mail
from storage.accounts import get_account
from storage.codes import CODE_MINUTES, issue_code, try_code
from storage.erasure import request_erasure
from storage.invalidation import until_known

router = APIRouter(prefix="/api/v1/account", tags=["Account"])

_MAIL_TEXT: Final = """\
Your code for deleting your Metrion account is

    {code}

It is good for {minutes} minutes and works once. Whoever types it deletes everything: log, usage
records, provider keys, alert rules, stored answers and the account itself. A subscription is
cancelled. Nothing can bring it back; download an export first if you want to keep something.

If you did not ask for it, somebody is signed in as you: end the sessions that you do not know on
Metrion's page Profile.
"""


class DeletionCodeSent(BaseModel):
    """Nothing: the code is in the mail."""


class Deletion(BaseModel):
    """The code that was sent for deleting the account."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "123456"}]})

    code: str = Field(
        pattern="^[0-9]{6}$", description="The six digits of the mail.", examples=["123456"]
    )


class DeletionBegun(BaseModel):
    """The account is shut, and everything of it is being deleted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"receipt": "01994f3b-7c2e-7d10-9f60-2b1c33a0f7aa", "state": "requested"}]
        }
    )

    receipt: UUID = Field(description="The number that the receipt has, which comes by mail.")
    state: Literal["requested"] = Field(
        description="Nobody gets in any more; the rest goes in the next moments."
    )


@router.post(
    "/deletion-codes",
    status_code=202,
    summary="Send a code for deleting the account",
    responses=documented(*SESSION_PROBLEMS, TooManyAttemptsError, UnavailableError),
)
async def request_deletion_code(services: ServicesHere, caller: SessionCaller) -> DeletionCodeSent:
    """Send a code to the account's address, which `DELETE /api/v1/account` asks for.

    At most 5 codes an hour and 20 a day; the newest one is good.
    """
    if services.mailer.is_full:
        raise UnavailableError("The mail server does not answer; try again in some minutes.")
    async with services.database.account(caller.account_id) as connection:
        email = (await get_account(connection)).email
        issued = await issue_code(connection, services.keys, "deletion", email)
    text = _MAIL_TEXT.format(code=issued.code, minutes=CODE_MINUTES)
    subject = f"{issued.code} is your code for deleting your Metrion account"
    services.mailer.post(Mail(email, subject, text))
    return DeletionCodeSent()


@router.delete(
    "",
    status_code=202,
    summary="Delete the account",
    responses=documented(
        *SESSION_PROBLEMS,
        InvalidCodeError,
        InvalidRequestError,
        ResourceNotFoundError,
        TooManyAttemptsError,
    ),
)
async def delete_account(
    request: Request,
    response: Response,
    services: ServicesHere,
    caller: SessionCaller,
    given: Annotated[Deletion, Body()],
) -> DeletionBegun:
    """Delete the account and everything that belongs to it, for ever.

    When this has answered the Metrion Key and all sessions are dead everywhere. A subscription is
    cancelled first; then rows, keys, rules and stored answers are deleted, and a receipt that says
    how many is mailed. What is under way meanwhile is dropped.
    """
    client = client_address(request)
    services.failed_codes.check(client)
    erasure_id = None
    async with services.database.account(caller.account_id) as connection:
        email = (await get_account(connection)).email
        if await try_code(connection, services.keys, "deletion", email, given.code):
            erasure_id = await request_erasure(connection, services.keys, services.settings.region)
    if erasure_id is None:  # only now: the try counts
        services.failed_codes.count(client)
        raise InvalidCodeError
    await until_known()
    response.delete_cookie(
        SESSION_COOKIE, httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
    return DeletionBegun(receipt=erasure_id, state="requested")
