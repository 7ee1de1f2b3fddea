"""`/api/v1/auth`: signing in with a code sent by mail, and the sessions that come of it."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Request, Response
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
from api.fields import Email
from api.mail import Mail
from api.routes.account import AccountView, view_account
from api.services import Services
from storage.accounts import create_account, find_account
from storage.addresses import checked_email
from storage.codes import CODE_MINUTES, issue_code, try_code
from storage.errors import AlreadyExists, NotFound
from storage.sessions import LIFE, create_session, delete_session, list_sessions

router = APIRouter(prefix="/api/v1/auth", tags=["Signing in"])

_MAIL_TEXT: Final = """\
Your code for signing in to Metrion is

    {code}

It is good for {minutes} minutes and works once. If you did not ask for it, do nothing: without the
code nobody gets in, and nobody from Metrion will ever ask you for it.
"""


class CodeRequest(BaseModel):
    """Who wants to sign in."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "ada@example.com"}]})

    email: Email


class CodeSent(BaseModel):
    """Nothing: whether a mail was sent is told to the address alone."""


class SignIn(BaseModel):
    """An address, and the code that was sent to it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "ada@example.com", "code": "123456"}]}
    )

    email: Email
    code: str = Field(
        pattern="^[0-9]{6}$", description="The six digits of the mail.", examples=["123456"]
    )


class SignedInView(BaseModel):
    """Who is signed in now; the session is in the cookie `metrion_session`."""

    account: AccountView = Field(description="The account of the address.")


class SessionView(BaseModel):
    """Where the account is signed in."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "01994f3b-7c2e-7d10-9f60-2b1c33a0f7aa",
                    "created_at": "2026-01-15T09:30:00Z",
                    "last_seen_at": "2026-01-15T11:02:00Z",
                    "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0",
                    "current": True,
                }
            ]
        }
    )

    id: UUID = Field(description="Names the session; it does not open it.")
    created_at: datetime = Field(description="When somebody signed in.")
    last_seen_at: datetime = Field(description="When it was last used, to the minute.")
    user_agent: str | None = Field(description="The browser, as it named itself.")
    current: bool = Field(description="Whether it is the session of this request.")


class SessionList(BaseModel):
    """The account's sessions."""

    items: list[SessionView] = Field(description="The newest first; at most 50.")


@router.post(
    "/codes",
    status_code=202,
    summary="Send a code",
    responses=documented(InvalidRequestError, TooManyAttemptsError, UnavailableError),
)
async def request_code(request: Request, services: ServicesHere, wanted: CodeRequest) -> CodeSent:
    """Send a code to the address if it may sign in. The answer is the same if it may not.

    An address gets at most 5 codes an hour and 20 a day; the newest one is good.
    """
    email = checked_email(wanted.email)
    client = client_address(request)
    services.code_requests.check(client)
    services.code_requests.count(client)
    if services.mailer.is_full:
        raise UnavailableError("The mail server does not answer; try again in some minutes.")
    async with services.database.system() as connection:
        issued = await issue_code(connection, services.keys, "sign_in", email)
    if issued.account_id is not None or services.settings.registration == "open":
        text = _MAIL_TEXT.format(code=issued.code, minutes=CODE_MINUTES)
        services.mailer.post(Mail(email, f"{issued.code} is your code for Metrion", text))
    return CodeSent()


@router.post(
    "/sessions",
    status_code=201,
    summary="Sign in",
    responses=documented(
        InvalidCodeError, InvalidRequestError, TooManyAttemptsError, UnavailableError
    ),
)
async def sign_in(
    request: Request, response: Response, services: ServicesHere, given: SignIn
) -> SignedInView:
    """Open a session with a code, and set its cookie. The first time makes the account."""
    email = checked_email(given.email)
    client = client_address(request)
    services.failed_codes.check(client)
    async with services.database.system() as connection:
        is_good = await try_code(connection, services.keys, "sign_in", email, given.code)
        account_id = await find_account(connection, email)
    if is_good and account_id is None and services.settings.registration == "open":
        account_id = await _register(services, email)
    if not is_good or account_id is None:
        services.failed_codes.count(client)
        raise InvalidCodeError
    async with services.database.account(account_id) as connection:
        browser = request.headers.get("user-agent")
        session = await create_session(connection, services.keys, account_id, browser)
        account = await view_account(services, connection)
    response.set_cookie(
        SESSION_COOKIE,
        session.secret,
        max_age=int(LIFE.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return SignedInView(account=account)


@router.get("/sessions", summary="List sessions", responses=documented(*SESSION_PROBLEMS))
async def sessions(services: ServicesHere, caller: SessionCaller) -> SessionList:
    """Return where the account is signed in."""
    async with services.database.account(caller.account_id) as connection:
        found = await list_sessions(connection)
    return SessionList(
        items=[
            SessionView(**asdict(session), current=session.id == caller.session_id)
            for session in found
        ]
    )


@router.delete(
    "/sessions/current",
    status_code=204,
    summary="Sign out",
    responses=documented(*SESSION_PROBLEMS),
)
async def sign_out(
    request: Request, response: Response, services: ServicesHere, caller: SessionCaller
) -> None:
    """End this session and take its cookie away."""
    async with services.database.account(caller.account_id) as connection:
        await delete_session(connection, caller.session_id)
    response.delete_cookie(
        SESSION_COOKIE, httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    summary="End a session",
    responses=documented(*SESSION_PROBLEMS, InvalidRequestError, ResourceNotFoundError),
)
async def end_session(
    services: ServicesHere,
    caller: SessionCaller,
    session_id: Annotated[UUID, Field(description="As in the list of sessions.")],
) -> None:
    """End a session, wherever it is; it works no more from now on."""
    async with services.database.account(caller.account_id) as connection:
        await delete_session(connection, session_id)


async def _register(services: Services, email: str) -> UUID:
    """Make the account of somebody who has shown that the address is theirs."""
    try:
        return (await create_account(services.database, services.keys, email)).id
    except AlreadyExists:  # the same person, twice at once
        async with services.database.system() as connection:
            account_id = await find_account(connection, email)
        if account_id is None:
            raise NotFound("the account was deleted meanwhile") from None
        return account_id
