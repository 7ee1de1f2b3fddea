"""What the API answers when it does not do what was asked: one exception tree, RFC 9457 bodies.

A route raises a leaf of `ApiError`; storage's errors become one here. Every error answer is an
`application/problem+json` document with the request's id. No answer holds what an exception said:
only sentences written for the person who asked.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from storage.errors import (
    AlreadyExists,
    BillingUnavailable,
    DatabaseUnavailable,
    InvalidValue,
    NotFound,
    PlanRequired,
    TooManyCodes,
    TooSoon,
)

PROBLEM_TYPE = "application/problem+json"
RETRY_SECONDS = "1"
BILLING_RETRY_SECONDS = "60"
REQUEST_ID_KEY = "metrion.request_id"  # in the ASGI scope; api.telemetry puts it there


# Keys, tokens and codes have digits.
_ORDINARY_NAME: Final = re.compile("[A-Za-z_]{1,40}")


class InvalidField(BaseModel):
    """One value of the request that does not fit."""

    place: str = Field(description="Where it is.", examples=["query.limit"])
    reason: str = Field(
        description="What is wrong with it; the value itself is not repeated.",
        examples=["Input should be less than or equal to 1000"],
    )


class Problem(BaseModel):
    """Why a request was not done (RFC 9457)."""

    type: str = Field(
        description="Names the kind of problem, and where it is explained.",
        examples=["/api/docs#problem-invalid-token"],
    )
    code: str = Field(
        description="The kind as one word, spelt as the gateway spells its own.",
        examples=["invalid_token"],
    )
    title: str = Field(
        description="The kind of problem, in words.", examples=["The token is not valid"]
    )
    status: int = Field(description="The HTTP status.", examples=[401])
    detail: str = Field(
        description="What to do about it.",
        examples=["Copy the Metrion Key from Settings; an older one no longer works."],
    )
    request_id: str = Field(
        description="Also in the header `x-metrion-request-id`; say it when you ask for help.",
        examples=["01994f3b-7c2e-7d10-9f60-2b1c33a0f7aa"],
    )
    errors: list[InvalidField] | None = Field(
        default=None, description="With `invalid-request`: each value that does not fit."
    )


class ApiError(Exception):
    """Root of the tree; a leaf is one kind of problem.

    Attributes:
        status: HTTP status.
        kind: the last part of the problem's type; what a program should look at.
        title: the kind in words, the same every time.
        hint: the detail unless the place that raises knows better.
    """

    status: HTTPStatus
    kind: ClassVar[str]
    title: ClassVar[str]
    hint: ClassVar[str]

    def __init__(self, detail: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        self.detail = detail or self.hint
        self.headers = dict(headers or {})
        super().__init__(self.detail)


class MissingTokenError(ApiError):
    """No token came with the request."""

    status = HTTPStatus.UNAUTHORIZED
    kind = "missing-token"
    title = "A token is needed"
    hint = "Send the header `Authorization: Bearer sk-metrion-…` with your Metrion Key."


class InvalidTokenError(ApiError):
    """The token is malformed, unknown or revoked; which of them is not told."""

    status = HTTPStatus.UNAUTHORIZED
    kind = "invalid-token"
    title = "The token is not valid"
    hint = "Copy the Metrion Key from Settings; an older one no longer works."


class NotSignedInError(ApiError):
    """The route is for people who signed in; there is no live session."""

    status = HTTPStatus.UNAUTHORIZED
    kind = "not-signed-in"
    title = "Nobody is signed in"
    hint = "Sign in with a code sent by mail; a Metrion Key can only read usage and logs."


class InvalidCodeError(ApiError):
    """The code is wrong, used, or too old; which of them is not told."""

    status = HTTPStatus.UNAUTHORIZED
    kind = "invalid-code"
    title = "The code is not valid"
    hint = "Type the newest code that was sent, or ask for another: one is good for 10 minutes."


class PlanRequiredError(ApiError):
    """The account's plan does not have what was asked for; the detail says which has."""

    status = HTTPStatus.FORBIDDEN
    kind = "plan-required"
    title = "The plan does not include this"
    hint = "Switch to the plan that does on Settings, Plan."


class UnsignedEventError(ApiError):
    """A webhook that Stripe did not sign, or not in the last minutes; which of them is not told."""

    status = HTTPStatus.BAD_REQUEST
    kind = "unsigned-event"
    title = "The event is not signed by Stripe"
    hint = "Compare METRION_STRIPE_WEBHOOK_SECRET with the endpoint's secret, and the clocks."


class CrossOriginError(ApiError):
    """A page of another site tried to change something."""

    status = HTTPStatus.FORBIDDEN
    kind = "cross-origin"
    title = "Another site may not do this"
    hint = "The request came from a page of another origin; do it on Metrion's own pages."


class TooManyAttemptsError(ApiError):
    """One client or address tried too often: tokens, codes, or asked for too many mails."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    kind = "too-many-attempts"
    title = "Too many attempts"
    hint = "Wait as long as `Retry-After` says."


class InvalidRequestError(ApiError):
    """A parameter, header or body does not fit."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    kind = "invalid-request"
    title = "A value of the request does not fit"
    hint = "Compare the request with its description in the API documentation."


class ResourceNotFoundError(ApiError):
    """There is nothing at this path, or not for this account."""

    status = HTTPStatus.NOT_FOUND
    kind = "not-found"
    title = "There is nothing here"
    hint = "Compare the path with the API documentation."


class MethodNotAllowedError(ApiError):
    """The path exists, for other methods."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    kind = "method-not-allowed"
    title = "The path has no such method"
    hint = "The header `Allow` lists the methods."


class ConflictError(ApiError):
    """What should be made is there already."""

    status = HTTPStatus.CONFLICT
    kind = "conflict"
    title = "It is there already"
    hint = "Nothing was changed."


class RequestTooLargeError(ApiError):
    """The body is larger than any that a route takes."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    kind = "request-too-large"
    title = "The request is too large"
    hint = "Compare the request with its description in the API documentation."


class UnavailableError(ApiError):
    """The database cannot be reached, or is not ready."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "unavailable"
    title = "Not available now"
    hint = "The database does not answer; try again in a moment."


class InternalError(ApiError):
    """A bug of ours; the log has the rest under the request's id."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    kind = "internal"
    title = "Something went wrong inside Metrion"
    hint = "Nothing you can do about it; the operator finds it in the log by the request's id."


class OtherError(ApiError):
    """What the web framework refuses by itself and that has no kind of its own."""

    kind = "other"
    title = "The request was refused"
    hint = "Compare the request with the API documentation."

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = HTTPStatus(status)


KINDS: Final[tuple[type[ApiError], ...]] = (
    MissingTokenError,
    InvalidTokenError,
    NotSignedInError,
    InvalidCodeError,
    PlanRequiredError,
    UnsignedEventError,
    CrossOriginError,
    TooManyAttemptsError,
    InvalidRequestError,
    ResourceNotFoundError,
    MethodNotAllowedError,
    ConflictError,
    RequestTooLargeError,
    UnavailableError,
    InternalError,
)
"""Every kind that the documentation explains."""


def documented(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """Return a route's `responses`: the problems that it answers, for the OpenAPI document."""
    responses: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        described = responses.setdefault(error.status, {"model": Problem, "description": ""})
        described["description"] = (
            f"{described['description']} `{error.kind}`: {error.title}.".strip()
        )
    return responses


def problem_response(
    scope: Mapping[str, Any], error: ApiError, invalid: Sequence[InvalidField] | None = None
) -> Response:
    """Render an error for the request with this ASGI scope."""
    problem = Problem(
        type=f"/api/docs#problem-{error.kind}",
        code=error.kind.replace("-", "_"),
        title=error.title,
        status=error.status,
        detail=error.detail,
        request_id=str(scope.get(REQUEST_ID_KEY, "")),
        errors=list(invalid) if invalid else None,
    )
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=error.status,
        headers=error.headers,
        media_type=PROBLEM_TYPE,
    )


def add_handlers(app: FastAPI) -> None:
    """Answer every exception that a route may raise; the rest is `api.telemetry`'s."""
    translations: dict[type[Exception], Callable[[Any], ApiError]] = {
        ApiError: lambda error: error,
        HTTPException: _from_framework,
        NotFound: lambda error: ResourceNotFoundError(_sentence(error)),
        AlreadyExists: lambda error: ConflictError(_sentence(error)),
        InvalidValue: lambda error: InvalidRequestError(_sentence(error)),
        PlanRequired: lambda error: PlanRequiredError(_sentence(error)),
        TooManyCodes: lambda error: TooManyAttemptsError(
            "This address was sent enough codes for now; the last one may still be good.",
            headers={"Retry-After": str(error.seconds)},
        ),
        BillingUnavailable: lambda _: UnavailableError(
            "The payment service does not answer; try again in a minute.",
            headers={"Retry-After": BILLING_RETRY_SECONDS},
        ),
        TooSoon: lambda error: TooManyAttemptsError(
            _sentence(error), headers={"Retry-After": str(error.seconds)}
        ),
        # its message names hosts: for the log only
        DatabaseUnavailable: lambda _: UnavailableError(headers={"Retry-After": RETRY_SECONDS}),
    }
    for kind, translate in translations.items():
        app.add_exception_handler(kind, _handler(translate))
    app.add_exception_handler(RequestValidationError, _answer_invalid)


def _handler(
    translate: Callable[[Any], ApiError],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        return problem_response(request.scope, translate(error))

    return answer


async def _answer_invalid(request: Request, error: Exception) -> Response:
    found = cast("RequestValidationError", error).errors()
    invalid = [InvalidField(place=_place(each), reason=each["msg"]) for each in found]
    return problem_response(request.scope, InvalidRequestError(), invalid)


def _place(problem: Mapping[str, Any]) -> str:
    """Say where a value is. The name of a field that does not exist may be anybody's secret."""
    *outer, name = map(str, problem["loc"])
    if problem["type"] == "extra_forbidden" and _ORDINARY_NAME.fullmatch(name) is None:
        name = "…"
    return ".".join((*outer, name))


def _from_framework(error: HTTPException) -> ApiError:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowedError(headers=error.headers)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return RequestTooLargeError()
    if error.status_code == HTTPStatus.BAD_REQUEST:  # a body that is not even text
        return InvalidRequestError()
    return OtherError(error.status_code)


def _sentence(error: Exception) -> str:
    """Return a storage error's message, which is made to be shown, as a sentence."""
    message = str(error)
    return f"{message[:1].upper()}{message[1:]}."
