"""What goes wrong becomes the official SDKs' own typed exceptions, in their provider's shape."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from google import genai
from google.genai import errors, types
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

pytestmark = pytest.mark.usefixtures("few_certificates")

MESSAGES = [{"role": "user", "content": "Hello there!"}]
WRONG_TOKENS = {"unknown": f"sk-metrion-{'0' * 32}", "malformed": "sk-metrion-0123"}
OWN_KEY = f"sk-OWN-{'y' * 24}"


@dataclass(frozen=True)
class Wish:
    """One request: to which gateway, with which key and headers, right or wrong."""

    url: str
    key: str
    headers: dict[str, str] = field(default_factory=dict)
    malformed: bool = False
    streamed: bool = False

    @property
    def model(self) -> str:
        """An empty name passes the SDKs' own checks, but not Metrion's."""
        return "" if self.malformed else "m-1"


def ask_openai(wish: Wish, provider: str = "openai") -> Any:
    with openai.OpenAI(
        base_url=f"{wish.url}/api/proxy/{provider}/v1",
        api_key=wish.key,
        default_headers=wish.headers,
        max_retries=0,
    ) as sdk:
        answer = sdk.chat.completions.create(
            model=wish.model, messages=MESSAGES, stream=wish.streamed
        )
        return list(answer) if wish.streamed else answer


def ask_grok(wish: Wish) -> Any:
    return ask_openai(wish, "grok")


def ask_anthropic(wish: Wish) -> Any:
    with anthropic.Anthropic(
        base_url=f"{wish.url}/api/proxy",
        api_key=wish.key,
        default_headers=wish.headers,
        max_retries=0,
    ) as sdk:
        answer = sdk.messages.create(
            model=wish.model, max_tokens=99, messages=MESSAGES, stream=wish.streamed
        )
        return list(answer) if wish.streamed else answer


def ask_mistral(wish: Wish) -> Any:
    with (
        httpx2.Client(headers=wish.headers) as http,
        Mistral(api_key=wish.key, server_url=f"{wish.url}/api/proxy/mistral", client=http) as sdk,
    ):
        if wish.streamed:
            with sdk.chat.stream(model=wish.model, messages=MESSAGES) as stream:
                return list(stream)
        return sdk.chat.complete(model=wish.model, messages=MESSAGES)


def ask_google(wish: Wish) -> Any:
    options = types.HttpOptions(
        base_url=f"{wish.url}/api/proxy/gemini",
        headers=wish.headers,
        extra_body={"contents": None} if wish.malformed else None,
    )
    with genai.Client(api_key=wish.key, http_options=options) as sdk:
        if wish.streamed:
            return list(sdk.models.generate_content_stream(model="m-1", contents="Hi"))
        return sdk.models.generate_content(model="m-1", contents="Hi")


@dataclass(frozen=True)
class Sdk:
    """How one SDK is asked, and which of its exceptions it raises for which of our answers."""

    provider: str
    ask: Callable[[Wish], Any]
    exceptions: dict[int, type[Exception]]
    """Status → exactly this class, or one below it."""

    def status_and_message(self, error: Any) -> tuple[int, str]:
        return (error.code if self.provider == "gemini" else error.status_code), str(error)

    def headers(self, error: Any) -> Any:
        if self.provider == "mistral":
            return error.headers
        return error.response.headers


def classes(module: Any) -> dict[int, type[Exception]]:
    return {
        400: module.BadRequestError,
        401: module.AuthenticationError,
        429: module.RateLimitError,
        502: module.InternalServerError,
        504: module.InternalServerError,
    }


OF_GOOGLE = {
    **dict.fromkeys((400, 401, 429), errors.ClientError),
    **dict.fromkeys((502, 504), errors.ServerError),
}
SDKS = [
    Sdk("openai", ask_openai, classes(openai)),
    Sdk("grok", ask_grok, classes(openai)),
    Sdk("anthropic", ask_anthropic, classes(anthropic)),
    Sdk("mistral", ask_mistral, dict.fromkeys(OF_GOOGLE, SDKError)),
    Sdk("gemini", ask_google, OF_GOOGLE),
]
# What they raise for a stream that does not end as it should: most of them leave it to httpx.
BROKEN_OFF = (openai.APIConnectionError, httpx2.RemoteProtocolError)
EVERY_SDK = pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.provider)


def refused(sdk: Sdk, wish: Wish, status: int) -> Any:
    """The exception, which is the right one for the status."""
    with pytest.raises(sdk.exceptions[status]) as caught:
        sdk.ask(wish)
    said, message = sdk.status_and_message(caught.value)
    assert said == status, message
    assert wish.key not in message
    assert sdk.headers(caught.value)["x-metrion-request-id"]
    return caught.value


@EVERY_SDK
@pytest.mark.parametrize("form", WRONG_TOKENS)
@pytest.mark.parametrize("mode", ["stored", "pass-through"])
def test_a_wrong_token(deployment, provider, sdk, form, mode):
    token = WRONG_TOKENS[form]
    wish = Wish(deployment.proxy_url, token)
    if mode == "pass-through":
        wish = Wish(deployment.proxy_url, OWN_KEY, {"x-metrion-token": token})
    error = refused(sdk, wish, 401)
    assert token not in str(error)
    assert not provider.requests


@EVERY_SDK
def test_a_key_without_a_token(deployment, provider, sdk):
    error = refused(sdk, Wish(deployment.proxy_url, OWN_KEY), 401)
    assert "x-metrion-token" in str(error)
    assert not provider.requests


@pytest.fixture(scope="module")
def keyless(deployment):
    """An account without any stored key."""
    return deployment.create_account(with_keys=False)


@EVERY_SDK
def test_no_stored_key(deployment, provider, keyless, sdk):
    error = refused(sdk, Wish(deployment.proxy_url, keyless.token), 401)
    assert f"key set EMAIL {sdk.provider}" in str(error)
    assert not provider.requests


@EVERY_SDK
def test_a_bad_body(deployment, provider, account, sdk):
    refused(sdk, Wish(deployment.proxy_url, account.token, malformed=True), 400)
    assert not provider.requests


def test_the_rate_is_exceeded(deployment, provider, account):
    with httpx.Client(headers={"authorization": f"Bearer {account.token}"}) as http:
        for _ in range(100):
            assert http.get(f"{deployment.proxy_url}/api/proxy/openai/models").status_code == 200
    assert len(provider.requests) == 100
    for sdk in SDKS:
        error = refused(sdk, Wish(deployment.proxy_url, account.token), 429)
        assert 1 <= int(sdk.headers(error)["retry-after"]) <= 60
    assert len(provider.requests) == 100
    rows = deployment.rows(account.token, 100 + len(SDKS))
    assert [row["outcome"] for row in rows[: len(SDKS)]] == ["refused"] * len(SDKS)


def test_the_provider_is_silent(deployment, provider, account):
    wish = Wish(deployment.proxy_url, account.token, {"x-fake-stall": "head"})
    with ThreadPoolExecutor() as threads:
        for outcome in [threads.submit(refused, sdk, wish, 504) for sdk in SDKS]:
            outcome.result()
    rows = deployment.rows(account.token, len(SDKS))
    assert {(row["outcome"], row["status"]) for row in rows} == {("timeout", 504)}


def test_the_provider_is_down(deployment, provider, account):
    provider.stop()
    try:
        for sdk in SDKS:
            refused(sdk, Wish(deployment.proxy_url, account.token), 502)
    finally:
        provider.start()
    for sdk in SDKS:  # and up again
        assert sdk.ask(Wish(deployment.proxy_url, account.token))
    rows = deployment.rows(account.token, 2 * len(SDKS))
    assert [row["outcome"] for row in rows[len(SDKS) :]] == ["provider_error"] * len(SDKS)


@EVERY_SDK
def test_errors_of_the_provider_are_its_own(deployment, provider, account, sdk):
    headers = {"x-fake-status": "429", "x-fake-retry-after": "17"}
    with pytest.raises(sdk.exceptions[429], match="was asked to answer 429") as caught:
        sdk.ask(Wish(deployment.proxy_url, account.token, headers))
    assert sdk.headers(caught.value)["retry-after"] == "17"


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [({"x-fake-close": "2"}, "upstream_closed"), ({"x-fake-stall": "2"}, "timeout")],
)
def test_a_stream_that_breaks_off_is_an_exception(deployment, provider, account, fault, outcome):
    wish = Wish(deployment.proxy_url, account.token, fault, streamed=True)

    def broken(sdk: Sdk) -> None:
        with pytest.raises(BROKEN_OFF):
            sdk.ask(wish)

    with ThreadPoolExecutor() as threads:
        for result in [threads.submit(broken, sdk) for sdk in SDKS]:
            result.result()
    rows = deployment.rows(account.token, len(SDKS))
    assert {(row["outcome"], row["streamed"]) for row in rows} == {(outcome, True)}
