from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api.static_files import STATIC_FOLDER, StaticFiles, static_files

STYLE = "a { color: red }\n" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "style.css").write_text(STYLE)
    (tmp_path / "lib" / "small.js").write_text("export {};\n")
    (tmp_path / "unknown.xyz").write_bytes(b"\xff\x00")
    return tmp_path


def client_of(files: StaticFiles) -> httpx.AsyncClient:
    app = FastAPI()
    app.mount("/static", files)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://m")


async def test_a_file_is_sent_as_it_is_or_compressed(folder: Path):
    async with client_of(StaticFiles(folder)) as client:
        plain = await client.get("/static/style.css", headers={"accept-encoding": "identity"})
        compressed = await client.get("/static/style.css")
        small = await client.get("/static/lib/small.js")
        unknown = await client.get("/static/unknown.xyz")
        head = await client.head("/static/style.css")
    assert plain.text == compressed.text == STYLE
    assert "content-encoding" not in plain.headers
    assert compressed.headers["content-encoding"] == "gzip"
    assert int(compressed.headers["content-length"]) < 100
    assert plain.headers["vary"] == compressed.headers["vary"] == "Accept-Encoding"
    assert plain.headers["content-type"] == "text/css; charset=utf-8"
    assert small.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "content-encoding" not in small.headers
    assert unknown.headers["content-type"] == "application/octet-stream"
    assert (unknown.content, head.content) == (b"\xff\x00", b"")


async def test_a_browser_asks_once_for_a_version_and_each_time_without(folder: Path):
    files = StaticFiles(folder)
    async with client_of(files) as client:
        plain = await client.get("/static/style.css")
        again = {"if-none-match": f'"other", {plain.headers["etag"]}'}
        unchanged = await client.get("/static/style.css", headers=again)
        final = await client.get(f"/static/{files.version}/lib/small.js")
        other = await client.get("/static/v-000000000000/lib/small.js")
    assert plain.headers["cache-control"] == "no-cache"
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert final.headers["cache-control"] == "public, max-age=31536000, immutable"
    # a page that is open while the server is replaced gets what there is, and does not keep it
    assert (other.text, other.headers["cache-control"]) == (final.text, "no-cache")


def test_the_version_changes_with_any_file_and_its_name(folder: Path):
    version = StaticFiles(folder).version
    assert StaticFiles(folder).version == version
    (folder / "lib" / "small.js").write_text("export { };\n")
    changed = StaticFiles(folder).version
    (folder / "lib" / "small.js").rename(folder / "lib" / "little.js")
    assert len({version, changed, StaticFiles(folder).version}) == 3


@pytest.mark.parametrize(
    "path", ["", "lib", "lib/", "v-1", "v-1/", "nothing.js", "../secret", "%2e%2e/secret", "//x"]
)
async def test_nothing_else_is_there(folder: Path, path: str):
    (folder.parent / "secret").write_text("secret")
    async with client_of(StaticFiles(folder)) as client:
        assert (await client.get(f"/static/{path}")).status_code == 404


async def test_files_are_only_read(folder: Path):
    async with client_of(StaticFiles(folder)) as client:
        answer = await client.post("/static/style.css")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_the_process_has_one_and_all_files_are_in_it():
    assert static_files() is static_files()
    assert (STATIC_FOLDER / "app.css").is_file()
