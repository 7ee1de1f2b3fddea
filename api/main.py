"""The app: `create_app(settings)` puts parts and routes together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI

from api.errors import add_handlers
from api.openapi import describe_problems
from api.routes import (
    account,
    alerts,
    auth,
    billing,
    docs,
    erasure,
    export,
    health,
    logs,
    mailbox,
    meta,
    metrics,
    pages,
    provider_keys,
    token,
    usage,
)
from api.security import CrossOriginGuard, SecurityHeaders
from api.services import Services
from api.static_files import PREFIX, static_files
from api.telemetry import Telemetry
from storage.settings import Settings

RESOURCES: Final = (
    auth,
    account,
    export,
    erasure,
    token,
    provider_keys,
    usage,
    logs,
    alerts,
    mailbox,
    billing,
    meta,
    health,
    metrics,
    docs,
    pages,
)
_DESCRIPTION = """\
What Metrion recorded of your account's requests, and all that its pages can do.

Send your Metrion Key as a bearer token. It can only read usage and logs: the token that spends \
money at the providers can neither change anything nor see a provider key. What changes something \
needs the session of a person who signed in with a code sent by mail. Lists come in pages: pass \
the `next_cursor` of one page as `cursor` to get the next. Errors are problem documents \
(RFC 9457); look at their `type`.
"""


def create_app(settings: Settings) -> FastAPI:
    """Make the app. Nothing is connected before the first request needs it.

    Raises:
        StorageError: something it cannot work without is not there; the message says what.
    """
    services = Services.open(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        try:
            async with services.mailer.running():
                yield
        finally:
            await services.close()

    app = FastAPI(
        title="Metrion",
        summary="A gateway for LLM APIs that keeps keys sealed and counts every token and cent.",
        description=_DESCRIPTION,
        version=version("metrion"),
        openapi_url=None,  # api.routes.docs serves it, so that it is counted like everything else
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        redirect_slashes=False,  # a redirect would repeat the request's Host header
        lifespan=lifespan,
    )
    app.state.services = services
    app.add_middleware(CrossOriginGuard)
    app.add_middleware(Telemetry, metrics=services.metrics)
    app.add_middleware(SecurityHeaders)  # the outermost: also for what Telemetry answers
    add_handlers(app)
    app.add_exception_handler(HTTPStatus.NOT_FOUND, pages.answer_missing)
    for resource in RESOURCES:
        app.include_router(resource.router)
    app.mount(PREFIX, static_files(), name="static")
    describe_problems(app)
    return app
