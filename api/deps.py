"""What a route asks for: the services, and who is calling."""

from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from api.errors import (
    InvalidRequestError,
    InvalidTokenError,
    MissingTokenError,
    NotSignedInError,
    TooManyAttemptsError,
    UnavailableError,
)
from api.services import Services
from storage.accounts import AccountCaller, account_by_token
from storage.sessions import SignedIn, find_session
from storage.tokens import is_token

_BEARER = HTTPBearer(
    scheme_name="Metrion Key",
    bearerFormat="sk-metrion-…",
    description="The Metrion Key of the account. Here it can only read.",
    auto_error=False,
)
SESSION_COOKIE = "metrion_session"
_COOKIE = APIKeyCookie(
    name=SESSION_COOKIE,
    scheme_name="Session",
    description="The cookie of a person who signed in with a code sent by mail.",
    auto_error=False,
)
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="Metrion"'}
_REFUSAL = {"WWW-Authenticate": 'Bearer realm="Metrion", error="invalid_token"'}


async def services_here(request: Request) -> Services:
    """Return the app's services, to a route: a function that is not async gets a thread."""
    return services_of(request)


def services_of(request: Request) -> Services:
    """Return the app's services."""
    return cast("Services", request.app.state.services)


ServicesHere = Annotated[Services, Depends(services_here)]


def client_address(request: Request) -> str:
    """Return the client's address, as the server sees it; empty on a Unix socket."""
    return request.client.host if request.client else ""


async def _signed_in(
    services: ServicesHere, secret: Annotated[str | None, Depends(_COOKIE)]
) -> SignedIn | None:
    if secret is None:
        return None
    return await find_session(services.lookups, services.keys, secret)


async def session_caller(
    found: Annotated[SignedIn | None, Depends(_signed_in)],
) -> SignedIn:
    """Return who is signed in.

    Raises:
        NotSignedInError: nobody; a Metrion Key is not enough here.
        DatabaseUnavailable: it cannot be looked up now.
    """
    if found is None:
        raise NotSignedInError
    return found


async def reading_caller(
    request: Request,
    services: ServicesHere,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    signed_in: Annotated[SignedIn | None, Depends(_signed_in)],
) -> AccountCaller:
    """Return the account whose token or session came with the request, for reading only.

    Raises:
        MissingTokenError: there is neither.
        InvalidTokenError: the token is malformed (then nothing was looked up), unknown or revoked.
        TooManyAttemptsError: too many unknown ones came from this address.
        DatabaseUnavailable: it cannot be looked up now.
    """
    if credentials is None:
        if signed_in is None:
            raise MissingTokenError(headers=_CHALLENGE)
        return signed_in
    token = credentials.credentials
    if not is_token(token):
        raise InvalidTokenError(headers=_REFUSAL)
    address = client_address(request)
    services.failed_tokens.check(address)
    digests = services.keys.token_digests(token)
    caller = await account_by_token(services.lookups, digests)
    if caller is None:
        services.failed_tokens.count(address)
        raise InvalidTokenError(headers=_REFUSAL)
    return caller


ReadingCaller = Annotated[AccountCaller, Depends(reading_caller)]
"""For routes that programs read with the Metrion Key, and pages with their session."""
SessionCaller = Annotated[SignedIn, Depends(session_caller)]
"""For routes that only a person may use."""

READING_PROBLEMS = (
    MissingTokenError,
    InvalidTokenError,
    InvalidRequestError,
    TooManyAttemptsError,
    UnavailableError,
)
SESSION_PROBLEMS = (NotSignedInError, UnavailableError)
