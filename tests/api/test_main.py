import httpx
from fastapi import FastAPI

from api.main import create_app
from storage.settings import Settings


def test_apps_share_nothing(settings_alone: Settings):
    one, two = create_app(settings_alone), create_app(settings_alone)
    assert one.state.services.metrics.registry is not two.state.services.metrics.registry
    assert one.state.services.failed_tokens is not two.state.services.failed_tokens


async def test_it_is_a_plain_asgi_app(app_alone: FastAPI):
    transport = httpx.ASGITransport(app_alone)
    async with httpx.AsyncClient(transport=transport, base_url="http://metrion") as client:
        assert (await client.get("/healthz")).status_code == 200


def test_fastapis_own_pages_are_off(api_alone: httpx.Client):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert api_alone.get(path).status_code == 404
