import httpx
import pytest
from fastapi import FastAPI

from api import security
from api.errors import TooManyAttemptsError
from api.security import CONTENT_SECURITY_POLICY, LARGEST_BODY, Attempts, SecurityHeaders

PATHS = ["/healthz", "/readyz", "/api/docs", "/static/icon.svg", "/api/v1/logs", "/nowhere"]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_the_headers(api_alone: httpx.Client, path: str):
    headers = api_alone.get(path).headers
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "set-cookie" not in headers
    assert "strict-transport-security" not in headers  # http on a laptop must stay usable


@pytest.mark.parametrize("name", ["docs.js", "app.css"])
def test_what_is_no_document_is_never_taken_for_one(api_alone: httpx.Client, name: str):
    headers = api_alone.get(f"/static/{name}").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
    assert "content-security-policy" not in headers
    gone = api_alone.get("/static/nowhere.js").headers
    assert gone["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_the_policy_allows_nothing_inline_and_no_other_origin():
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY
    assert "*" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")


def test_data_is_not_kept_by_caches(api_alone: httpx.Client):
    assert api_alone.get("/api/v1/meta").headers["cache-control"] == "no-store"


async def test_transport_security_where_there_is_any():
    app = FastAPI()
    app.add_middleware(SecurityHeaders)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://metrion.test") as client:
        answer = await client.get("/")
    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_attempts_are_bounded_by_address():
    clock = Clock()
    failed = Attempts(3, clock=clock)
    for _ in range(3):
        failed.check("192.0.2.1")
        failed.count("192.0.2.1")
        clock.now += 10
    with pytest.raises(TooManyAttemptsError) as caught:
        failed.check("192.0.2.1")
    assert caught.value.headers == {"Retry-After": "30"}
    failed.check("192.0.2.2")
    clock.now += 30
    failed.check("192.0.2.1")
    failed.count("192.0.2.1")
    with pytest.raises(TooManyAttemptsError):
        failed.check("192.0.2.1")


def test_its_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(security, "_MOST_NETWORKS", 2)
    failed = Attempts(1)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        failed.count(address)
    failed.check("192.0.2.1")
    with pytest.raises(TooManyAttemptsError):
        failed.check("192.0.2.3")


def test_an_ipv6_client_is_its_network():
    failed = Attempts(1)
    failed.count("2001:db8:1:2::1")
    with pytest.raises(TooManyAttemptsError):
        failed.check("2001:db8:1:2:ffff::9")
    failed.check("2001:db8:1:3::1")
    failed.check("")


SIGN_OUT = "/api/v1/auth/sessions/current"


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({}, False),  # no browser
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "something-new"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://metrion.test"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://evil.test"}, False),
        ({"origin": "http://metrion.test"}, False),
        ({"origin": "https://metrion.test"}, False),
        ({"origin": "http://metrion.test:81"}, True),
        ({"origin": "http://metrion.test.evil.test"}, True),
        ({"origin": "https://evil.test"}, True),
        ({"origin": "null"}, True),
    ],
)
def test_another_site_changes_nothing(api_alone: httpx.Client, headers, is_refused):
    answer = api_alone.delete(SIGN_OUT, headers={"host": "metrion.test"} | headers)
    assert answer.status_code == (403 if is_refused else 401)
    if is_refused:
        assert answer.json()["type"] == "/api/docs#problem-cross-origin"
        assert answer.headers["x-metrion-request-id"]


def test_another_site_may_link_here(api_alone: httpx.Client):
    headers = {"sec-fetch-site": "cross-site", "origin": "https://evil.test"}
    assert api_alone.get("/healthz", headers=headers).status_code == 200


def test_bodies_are_bounded(api_alone: httpx.Client):
    answer = api_alone.post("/api/v1/auth/codes", content=b" " * (LARGEST_BODY + 1))
    assert answer.status_code == 413
    assert answer.json()["type"] == "/api/docs#problem-request-too-large"


def test_bodies_of_unknown_length_are_bounded_too(api_alone: httpx.Client):
    parts = (b" " * 1024 for _ in range(LARGEST_BODY // 1024 + 1))
    answer = api_alone.post(
        "/api/v1/auth/codes", content=parts, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.json()["type"] == "/api/docs#problem-request-too-large"
