import gzip

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from api.compression import CompressedRoute

COMPRESSED = {"accept-encoding": "gzip"}
FIGURES = {"/api/v1/usage/overview", "/api/v1/usage/latency"}


@pytest.fixture
def app() -> FastAPI:
    """Two routes with the same answer, one of them compressed."""
    plain, compressed = APIRouter(), APIRouter(route_class=CompressedRoute)

    async def answer() -> dict[str, str]:
        return {"text": "again and " * 100}

    async def fail() -> None:
        raise ValueError

    plain.add_api_route("/plain", answer)
    compressed.add_api_route("/compressed", answer)
    compressed.add_api_route("/failing", fail)
    app = FastAPI()
    app.include_router(plain)
    app.include_router(compressed)
    return app


async def test_a_route_says_whether_its_answers_are_compressed(app: FastAPI):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://m") as client:
        plain = await client.get("/plain", headers=COMPRESSED)
        compressed = await client.get("/compressed", headers=COMPRESSED)
        as_it_is = await client.get("/compressed", headers={"accept-encoding": "identity"})
        with pytest.raises(ValueError, match=r"^$"):
            await client.get("/failing", headers=COMPRESSED)
    assert "content-encoding" not in plain.headers
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.headers["vary"] == "Accept-Encoding"
    assert int(compressed.headers["content-length"]) < 200
    assert compressed.json() == plain.json() == as_it_is.json()
    assert "content-encoding" not in as_it_is.headers


async def test_of_all_data_only_the_figures_are_compressed(api, sign_in, write_logs, account_of):
    sign_in("compression@example.com")
    write_logs(account_of(api), 10)
    paths = api.get("/api/openapi.json").json()["paths"]
    asked = [path for path, item in paths.items() if "get" in item and "{" not in path]
    answers = {path: api.get(path, headers=COMPRESSED) for path in asked}
    assert len(answers) > 15
    compressed = {path for path in asked if "content-encoding" in answers[path].headers}
    assert compressed == FIGURES, "a route that is compressed has to be thought about"


def test_pages_are_compressed(api_alone: httpx.Client):
    with api_alone.stream("GET", "/sign-in", headers=COMPRESSED) as answer:
        text = gzip.decompress(b"".join(answer.iter_raw()))
        assert answer.headers["content-encoding"] == "gzip"
        assert int(answer.headers["content-length"]) < len(text) / 2
    assert text.startswith(b"<!doctype html>")
