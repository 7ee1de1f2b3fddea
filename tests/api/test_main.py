import re
from typing import Any

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


SECRET = "ada-secret"
"""In all texts of Ada's; like her ids and her key, no answer to Eve may have it in it."""


RULE = {"type": "request_volume", "threshold": 2}


class Walk:
    """Calls every operation of the API as Eve, with Ada's ids, cursors and address."""

    def __init__(self, ada: httpx.Client, eve: httpx.Client, document: dict[str, Any]) -> None:
        self.document = document
        self.eve = eve
        rows = ada.get("/api/v1/logs", params={"limit": 1}).json()
        self.cursor = rows["next_cursor"]
        self.ids = {
            "row_id": rows["items"][0]["id"],
            "session_id": ada.get("/api/v1/auth/sessions").json()["items"][0]["id"],
            "rule_id": ada.post("/api/v1/alerts", json=RULE | {"name": SECRET}).json()["id"],
            "provider": "openai",
        }
        self.token = ada.post("/api/v1/token/reveal").json()["token"]
        account_id = ada.get("/api/v1/account").json()["id"]
        self.theirs = [SECRET, account_id, self.token, *list(self.ids.values())[:3]]
        self.calls = 0

    def call(self, method: str, path: str, operation: dict[str, Any]) -> None:
        """Call an operation in every way it can be."""
        path = path.format(**self.ids)
        known = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
        tries = [{}, {"range": "90d", "requester": SECRET}, {"q": SECRET, "cursor": self.cursor}]
        for params in tries:
            if known >= set(params):
                answer = self.eve.request(method, path, params=params, json=self.body(operation))
                self.check(answer, method, path)

    def body(self, operation: dict[str, Any]) -> Any:
        """A body that names what is Ada's wherever it can."""
        if "requestBody" not in operation:
            return None
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        name = schema["$ref"].rpartition("/")[2]
        (example,) = self.document["components"]["schemas"][name]["examples"]
        return example | ({"email": f"{SECRET}@example.com"} if "email" in example else {})

    def check(self, answer: httpx.Response, method: str, path: str) -> None:
        self.calls += 1
        assert answer.status_code < 500, (method, path, answer.text)
        documented = self.document["paths"]
        template = next(t for t in documented if t.format(**self.ids) == path)
        assert str(answer.status_code) in documented[template][method.lower()]["responses"], path
        for each in self.theirs:
            assert each not in answer.text, (method, path)


def everything_of(client: httpx.Client, document: dict[str, Any], walk: Walk) -> dict[str, Any]:
    """What an account sees everywhere."""
    seen: dict[str, Any] = {}
    for path, item in document["paths"].items():
        # anybody may have a code sent to an address; the mailbox shows it to whose it is
        if "get" in item and path.startswith("/api/v1/") and not path.endswith("/mailbox"):
            answer = client.get(path.format(**walk.ids))
            assert answer.status_code == 200, path
            # times that go on by themselves are no change
            seen[path] = re.sub(
                r'"(projection|last_seen_at|exported_at)": ?[^,}]+', "", answer.text
            )
    return seen


def test_no_route_gives_or_takes_anything_of_another_account(api, sign_in, account_of, write_logs):
    document = api.get("/api/openapi.json").json()
    eve = httpx.Client(base_url=api.base_url, timeout=20)
    with httpx.Client(base_url=api.base_url, timeout=20, headers={"user-agent": SECRET}) as ada:
        sign_in(f"{SECRET}@example.com", ada)
        ada.put("/api/v1/provider-keys/openai", json={"key": "sk-" + "x" * 30 + SECRET})
        texts = dict.fromkeys(["model", "requester", "error"], SECRET)
        write_logs(account_of(ada), 3, **texts)
        write_logs(account_of(ada), 2, **texts, status=500, outcome="provider_error")
        with eve:
            sign_in("eve@example.com", eve)
            walk = Walk(ada, eve, document)
            before = everything_of(ada, document, walk)
            assert SECRET in "".join(before.values())
            for path, item in document["paths"].items():
                for method, operation in item.items():
                    if path.endswith("/current"):
                        continue  # the end of Eve's session, at the end
                    walk.call(method.upper(), path, operation)
            eve.cookies.clear()
            for path, item in document["paths"].items():  # nobody at all
                for method, operation in item.items():
                    walk.call(method.upper(), path, operation)
        assert walk.calls > 50
        assert everything_of(ada, document, walk) == before
