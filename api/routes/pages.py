"""The dashboard's pages: shells without data, the same for everybody.

Their scripts ask the API for what they show; of the figures of a tab the page's head says where
they are, so that a browser asks for them while it still loads the scripts. A visitor without a
session's cookie is sent to sign in at once; whether the cookie is still good, the API says.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from addons.providers.base import CLIENT_PREFIX
from api.compression import CompressedRoute
from api.deps import services_of
from api.errors import ResourceNotFoundError, problem_response
from api.static_files import PREFIX, STATIC_FOLDER, static_files

router = APIRouter(include_in_schema=False, route_class=CompressedRoute)

TEMPLATES_FOLDER: Final = Path(__file__).parent.parent / "templates"
SESSION_COOKIE: Final = "metrion_session"


@dataclass(frozen=True, slots=True)
class Page:
    """One page: where it is, what it is called, what draws it.

    Attributes:
        path: of the address.
        title: the heading and the window's title.
        name: of its template and its script; pages of one kind share both.
        filtered: whether it has the bar of filters.
        figures: what of `/api/v1/usage` it shows.
    """

    path: str
    title: str
    name: str
    filtered: bool = False
    figures: str = ""


PAGES: Final = (
    Page("/overview", "Overview", "overview", filtered=True, figures="overview"),
    Page("/costs", "Costs", "costs", filtered=True, figures="costs"),
    Page("/latency", "Latency", "latency", filtered=True, figures="latency"),
    Page("/errors", "Errors", "errors", filtered=True, figures="errors"),
    Page("/requesters", "Requesters", "requesters", filtered=True, figures="requesters"),
    Page("/logs", "Logs", "logs", filtered=True),
    Page("/alerts", "Alerts", "alerts"),
    Page("/integrate", "Integrate", "integrate"),
    Page("/settings/general", "General", "settings-general"),
    Page("/settings/key", "Metrion Key", "settings-key"),
    Page("/settings/providers", "Providers", "settings-providers"),
    Page("/settings/plan", "Plan", "settings-plan"),
    Page("/settings/alerts", "Alerts", "settings-alerts"),
    Page("/profile", "Profile", "profile"),
    Page("/mailbox", "Mailbox", "mailbox"),
)
_WITHOUT_MAIL_SERVER: Final = "/mailbox"
"""Where mails are shown that nobody sends: not a page where there is a mail server."""
_IMPORTED: Final = re.compile(r'^(?:import|export)\b[^"]*"(\.[^"]+)";$', re.MULTILINE)
_SIGN_IN: Final = Page("/sign-in", "Sign in", "sign-in")
_MISSING: Final = Page("", "No such page", "missing")
_API: Final = "/api/"
_FOR_THE_GATEWAY: Final = (
    "This is the address of the dashboard and the API; requests to providers go to the gateway's."
)
_FILTERS: Final = {"range", "from", "to", "provider", "model", "requester", "status", "cached"}
_LATEST_RANGE: Final = "range=7d"  # what the scripts ask for when the address says nothing
_LONGEST_QUERY: Final = 1000
_MOST_RENDERED: Final = 256


@router.get("/")
async def home() -> Response:
    """Send on to the page that people want first."""
    return RedirectResponse("/overview", 303)


@router.get("/settings")
async def settings() -> Response:
    """Send on to the first of the sections."""
    return RedirectResponse("/settings/general", 303)


@router.get("/sign-in")
async def sign_in() -> Response:
    """Return the page that asks for an e-mail address, then for the code."""
    return HTMLResponse(_render(_SIGN_IN))


async def _show(page: Page, request: Request) -> Response:
    """Return a page's shell, or send a visitor without a session to sign in."""
    has_mailbox = services_of(request).settings.smtp_url is None
    if page.path == _WITHOUT_MAIL_SERVER and not has_mailbox:
        return _missing(request)
    if SESSION_COOKIE not in request.cookies:
        wanted = page.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?{urlencode({'next': wanted})}", 303)
    return HTMLResponse(_render(page, figures=_figures(page, request), has_mailbox=has_mailbox))


for _page in PAGES:
    router.add_api_route(_page.path, partial(_show, _page), methods=["GET"], name=_page.name)


async def answer_missing(request: Request, _: Exception) -> Response:
    """Answer a request for which there is no route, as an exception handler."""
    return _missing(request)


def _missing(request: Request) -> Response:
    """Say that there is nothing: a page to a person's browser, a problem to everybody else."""
    accepted = request.headers.get("accept", "")
    if "text/html" in accepted and not request.url.path.startswith(_API):
        return HTMLResponse(_render(_MISSING), HTTPStatus.NOT_FOUND)
    detail = _FOR_THE_GATEWAY if request.url.path.startswith(CLIENT_PREFIX) else None
    return problem_response(request.scope, ResourceNotFoundError(detail))


def _figures(page: Page, request: Request) -> str:
    """Return the address that the page's script is going to ask; empty: it cannot be foreseen."""
    query = request.url.query or _LATEST_RANGE
    if not page.figures or len(query) > _LONGEST_QUERY or set(request.query_params) - _FILTERS:
        return ""
    return f"/api/v1/usage/{page.figures}?{query}"


@lru_cache(_MOST_RENDERED)
def _render(page: Page, *, figures: str = "", has_mailbox: bool = False) -> str:
    """Return the page as HTML; it holds nothing that changes while the process runs."""
    everywhere = {"static": f"{PREFIX}/{static_files().version}"}
    return (
        _templates()
        .get_template(f"{page.name}.html", globals=everywhere)
        .render(page=page, figures=figures, modules=_modules(page.name), has_mailbox=has_mailbox)
    )


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _modules(name: str) -> list[str]:
    """Return a page's script, if it has one, and the modules that this needs.

    A browser would find one behind the other.
    """
    script = STATIC_FOLDER / "pages" / f"{name}.js"
    found = [script] if script.exists() else []
    for file in found:
        for imported in _IMPORTED.findall(file.read_text()):
            if (module := (file.parent / imported).resolve()) not in found:
                found.append(module)
    return [module.relative_to(STATIC_FOLDER).as_posix() for module in found]
