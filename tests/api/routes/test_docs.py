import re
from html.parser import HTMLParser
from typing import override

import httpx
import pytest

from api.static_files import STATIC_FOLDER


class Page(HTMLParser):
    """Collects what a strict policy would refuse, and what the page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.loaded: list[str] = []
        self._in_script = False

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")
            if tag in ("script", "link", "img") and name in ("src", "href"):
                self.loaded.append(value or "")
        if tag == "style":
            self.inline.append(tag)
        self._in_script = tag == "script"

    @override
    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.inline.append(f"script {data}")


def test_the_page_has_nothing_inline_and_loads_only_from_here(api_alone: httpx.Client):
    answer = api_alone.get("/api/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page()
    page.feed(answer.text)
    assert page.inline == []
    assert len(page.loaded) >= 4
    for address in page.loaded:
        assert address.startswith("/static/")
        loaded = api_alone.get(address)
        assert loaded.status_code == 200
        assert loaded.headers["cache-control"] == "no-cache"
        assert (
            api_alone.get(address, headers={"if-none-match": loaded.headers["etag"]}).status_code
            == 304
        )


@pytest.mark.parametrize("file", sorted(STATIC_FOLDER.glob("*.js")), ids=lambda file: file.name)
def test_scripts_import_only_what_is_there_and_write_no_html(file):
    text = file.read_text()
    for name in re.findall(r'from "\./([^"]+)"', text):
        assert (STATIC_FOLDER / name).is_file()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text)
    assert not re.search(r"https?://", text)


def test_files_outside_the_folder_are_not_served(api_alone: httpx.Client):
    for path in (
        "/static/../main.py",
        "/static/..%2fmain.py",
        "/static/%2e%2e/main.py",
        "/static/",
    ):
        assert api_alone.get(path).status_code == 404


def test_the_document_is_served(api_alone: httpx.Client):
    document = api_alone.get("/api/openapi.json").json()
    assert document["openapi"].startswith("3.1")
