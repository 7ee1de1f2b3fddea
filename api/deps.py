"""What a route asks for: the services, and who is calling."""

from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.errors import InvalidTokenError, MissingTokenError
from api.services import Services
from storage.callers import AccountCaller, account_by_token
from storage.tokens import is_token

_BEARER = HTTPBearer(
    scheme_name="Metrion Key",
    bearerFormat="sk-metrion-…",
    description="The Metrion Key of the account. Here it can only read.",
    auto_error=False,
)
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="Metrion"'}
_REFUSAL = {"WWW-Authenticate": 'Bearer realm="Metrion", error="invalid_token"'}


def services_of(request: Request) -> Services:
    """Return the app's services."""
    return cast("Services", request.app.state.services)


ServicesHere = Annotated[Services, Depends(services_of)]


async def reading_caller(
    request: Request,
    services: ServicesHere,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> AccountCaller:
    """Return the account whose token came with the request, for reading only.

    Raises:
        MissingTokenError: there is no bearer token.
        InvalidTokenError: it is malformed (then nothing was looked up), unknown or revoked.
        TooManyAttemptsError: too many unknown ones came from this address.
        DatabaseUnavailable: it cannot be looked up now.
    """
    if credentials is None:
        raise MissingTokenError(headers=_CHALLENGE)
    token = credentials.credentials
    if not is_token(token):
        raise InvalidTokenError(headers=_REFUSAL)
    address = request.client.host if request.client else ""
    services.failed_tokens.check(address)
    async with services.database.system() as connection:
        caller = await account_by_token(connection, services.keys.token_digests(token))
    if caller is None:
        services.failed_tokens.count(address)
        raise InvalidTokenError(headers=_REFUSAL)
    return caller


ReadingCaller = Annotated[AccountCaller, Depends(reading_caller)]
