"""Every page's shell: it answers, keeps the policy, and loads only what is there."""

import re
from html.parser import HTMLParser
from typing import override

import httpx
import pytest

from api.routes.pages import PAGES, SESSION_COOKIE, TEMPLATES_FOLDER
from api.security import CONTENT_SECURITY_POLICY
from api.static_files import PREFIX, STATIC_FOLDER, static_files

PATHS = [page.path for page in PAGES]
SIGNED_IN = {"cookie": f"{SESSION_COOKIE}=x"}
SCRIPTS = sorted(STATIC_FOLDER.rglob("*.js"))


class Page(HTMLParser):
    """Collects what a strict policy would refuse, what the page loads, where it leads, its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.figures: str | None = None
        self.current: list[str] = []
        self._in_script = False
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("as") == "fetch":
            self.figures = given["href"]
            return
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")
            if tag in ("script", "link", "img", "use") and name in ("src", "href"):
                self.loaded.append((value or "").split("#")[0])
            if tag == "a" and name == "href" and value and value.startswith("/"):
                self.links.append(value)
            if name == "id" and value:
                self.ids.append(value)
        if given.get("aria-current") == "page":
            self.current.append(given.get("href") or "")
        if tag == "style":
            self.inline.append(tag)
        self._in_script = tag == "script"

    @override
    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.inline.append(f"script {data}")


@pytest.mark.parametrize("path", ["/sign-in", *PATHS])
def test_each_page_answers_with_nothing_inline_and_loads_only_from_here(
    api_alone: httpx.Client, path: str
):
    answer = api_alone.get(path, headers=SIGNED_IN)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["cache-control"] == "no-store"
    page = Page(answer.text)
    assert page.inline == []
    assert len(page.loaded) >= 5
    for address in set(page.loaded):
        assert address.startswith("/static/")
        assert api_alone.get(address).status_code == 200, address
    assert len(page.ids) == len(set(page.ids))
    assert "main" in page.ids


@pytest.mark.parametrize(
    ("address", "figures"),
    [
        ("/overview", "overview?range=7d"),
        ("/costs?range=90d&model=a%22%3E%3Cb", "costs?range=90d&model=a%22%3E%3Cb"),
        (
            "/requesters?range=24h&status=5xx&cached=true",
            "requesters?range=24h&status=5xx&cached=true",
        ),
        ("/overview?utm=1", None),
        (f"/overview?model={'x' * 1000}", None),
        ("/logs", None),
        ("/profile", None),
    ],
)
def test_the_head_of_a_tab_says_where_its_figures_are(
    api_alone: httpx.Client, address: str, figures: str | None
):
    page = Page(api_alone.get(address, headers=SIGNED_IN).text)
    assert page.figures == (figures and f"/api/v1/usage/{figures}")
    assert page.inline == []


def test_links_lead_somewhere_and_each_page_knows_where_it_is(api_alone: httpx.Client):
    links: set[str] = set()
    for path in PATHS:
        page = Page(api_alone.get(path, headers=SIGNED_IN).text)
        links |= set(page.links)
        assert path in page.current
    # what the API itself answers is not a page: it would want a database here
    for link in {link for link in links if not link.startswith("/api/v1/")}:
        answer = api_alone.get(link, headers=SIGNED_IN, follow_redirects=True)
        assert answer.status_code == 200, link


@pytest.mark.parametrize("path", PATHS)
def test_a_visitor_without_a_session_is_sent_to_sign_in_and_back(
    api_alone: httpx.Client, path: str
):
    answer = api_alone.get(f"{path}?range=30d&model=a%26b")
    assert answer.status_code == 303
    sent_to = httpx.URL(answer.headers["location"])
    assert sent_to.path == "/sign-in"
    assert sent_to.host == ""
    assert sent_to.params["next"] == f"{path}?range=30d&model=a%26b"


BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def test_a_person_who_mistypes_an_address_gets_a_page(api_alone: httpx.Client):
    answer = api_alone.get("/overveiw<b>", headers=BROWSER)
    assert answer.status_code == 404
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    page = Page(answer.text)
    assert "There is no such page" in answer.text
    assert "overveiw" not in answer.text
    assert page.inline == []
    assert set(page.links) == {"/overview"}
    for address in set(page.loaded):
        assert api_alone.get(address).status_code == 200, address


@pytest.mark.parametrize(
    ("path", "headers"), [("/overveiw", {"accept": "*/*"}), ("/api/v1/nothing", BROWSER)]
)
def test_programs_get_a_problem(api_alone: httpx.Client, path: str, headers: dict[str, str]):
    answer = api_alone.get(path, headers=headers)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not_found"


def test_who_takes_this_for_the_gateway_is_told(api_alone: httpx.Client):
    answer = api_alone.post("/api/proxy/openai/v1/chat/completions", json={})
    assert answer.status_code == 404
    assert answer.json()["detail"].endswith("requests to providers go to the gateway's.")


def test_short_addresses_lead_to_the_first_page(api_alone: httpx.Client):
    assert api_alone.get("/").headers["location"] == "/overview"
    assert api_alone.get("/settings").headers["location"] == "/settings/general"


def test_templates_show_nothing_unescaped():
    for template in TEMPLATES_FOLDER.glob("*.html"):
        assert "|safe" not in template.read_text().replace(" ", ""), template.name


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: str(file.relative_to(STATIC_FOLDER)))
def test_scripts_import_what_is_there_and_write_no_html(file):
    text = file.read_text()
    for name in re.findall(r'(?:from|import) "(\.[^"]+)"', text):
        assert (file.parent / name).resolve().is_file(), name
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|sessionStorage", text
    )
    # nothing is asked of another origin; this one is a name, not an address
    assert set(re.findall(r"https?://[^\"'`]*", text)) <= {"http://www.w3.org/2000/svg"}
    assert len(text.splitlines()) <= 400


@pytest.mark.parametrize("path", ["/sign-in", *PATHS])
def test_a_page_names_all_the_modules_it_needs_at_once(api_alone: httpx.Client, path: str):
    prefix = f"{PREFIX}/{static_files().version}/"
    loaded = Page(api_alone.get(path, headers=SIGNED_IN).text).loaded
    assert all(address.startswith(prefix) for address in loaded)
    named = {STATIC_FOLDER / name.removeprefix(prefix) for name in loaded if name.endswith(".js")}
    for file in named:
        for name in re.findall(r'(?:from|import) "(\.[^"]+)"', file.read_text()):
            assert (file.parent / name).resolve() in named, name
    assert len(named) > 3
