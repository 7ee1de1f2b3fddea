"""Official SDKs, changed in base URL and key only, get from Metrion what the provider would give.

In both modes: the Metrion token as the SDK's key, and a key of one's own beside `x-metrion-token`.
Every test also looks at what the provider got (`arrived`); errors are in test_sdk_errors.py.
"""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai import types
from mistralai.client import Mistral

pytestmark = pytest.mark.usefixtures("few_certificates")

TEXT = "Hello there!"
MESSAGES = [{"role": "user", "content": TEXT}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "The weather.", "parameters": WEATHER}
TOOLS = [{"type": "function", "function": FUNCTION}]
TOOL_CHOICE = {"type": "function", "function": {"name": "weather"}}
CLAUDE = "claude-opus-4-1"
# Those who speak OpenAI's language, and a model of each.
COMPATIBLE = {
    "openai": "gpt-4o-mini",
    "grok": "grok-4",
    "mistral": "mistral-small-latest",
    "gemini": "gemini-2.5-flash",
}
EVERY_COMPATIBLE = pytest.mark.parametrize("name", COMPATIBLE)


@pytest.fixture(scope="module")
def expected_rows(deployment, caller):
    """Test and row of each of the caller's requests; looked at when all have run.

    Rows take a moment to come: all of them together take no longer.
    """
    expected: list[tuple[str, dict[str, Any]]] = []
    yield expected
    rows = reversed(deployment.rows(caller.account.token, len(expected)))
    for row, (test, fields) in zip(rows, expected, strict=True):
        assert {name: row[name] for name in fields} == fields, test
        assert "cost_usd" in fields or row["cost_usd"] > 0, test
        assert row["latency_ms"] >= row["ttfb_ms"] > row["overhead_ms"] > 0, test


@pytest.fixture
def passed(request, caller, arrived, expected_rows):
    """Look at a request that was answered: at what the provider got, and, later, at its row."""

    def passed(name: str, path: str, **fields: Any):
        good = {"mode": caller.mode, "outcome": "ok", "status": 200, "cached": False, "error": None}
        expected_rows.append((request.node.name, good | {"provider": name} | fields))
        return arrived(name, path)

    return passed


class TestOpenAI:
    """`openai`, for all that speak its language (xAI names no other SDK over HTTP)."""

    @pytest.fixture
    def connect(self, deployment, caller):
        clients: list[openai.OpenAI] = []

        def connect(name: str, version: str = "/v1") -> openai.OpenAI:
            client = openai.OpenAI(
                base_url=f"{deployment.proxy_url}/api/proxy/{name}{version}",
                api_key=caller.key(name),
                default_headers=caller.headers,
                max_retries=0,
            )
            clients.append(client)
            return client

        yield connect
        for client in clients:
            client.close()

    @pytest.fixture
    def sdk(self, connect) -> openai.OpenAI:
        return connect("openai")

    @staticmethod
    def upstream(name: str, endpoint: str) -> str:
        return f"/v1beta/openai/{endpoint}" if name == "gemini" else f"/v1/{endpoint}"

    @EVERY_COMPATIBLE
    @pytest.mark.parametrize("version", ["/v1", ""])  # the documents give both base URLs
    def test_chat(self, connect, passed, name, version):
        model = COMPATIBLE[name]
        answer = connect(name, version).chat.completions.create(model=model, messages=MESSAGES)
        assert TEXT in (answer.choices[0].message.content or "")
        assert answer.usage is not None
        request = passed(
            name,
            self.upstream(name, "chat/completions"),
            endpoint="chat/completions",
            model=model,
            streamed=False,
            input_tokens=answer.usage.prompt_tokens,
            total_tokens=answer.usage.total_tokens,
        )
        assert request.json() == {"model": model, "messages": MESSAGES}

    @EVERY_COMPATIBLE
    def test_stream(self, connect, passed, name):
        stream = connect(name).chat.completions.create(
            model=COMPATIBLE[name], messages=MESSAGES, stream=True
        )
        chunks = list(stream)
        assert TEXT in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason == "stop"
        path = self.upstream(name, "chat/completions")
        request = passed(name, path, streamed=True, input_tokens=3)
        if name == "mistral":  # tells its usage unasked, and refuses the question
            assert "stream_options" not in request.json()
        else:  # the wish is Metrion's, and so is the chunk that it brings
            assert request.json()["stream_options"] == {"include_usage": True}
            assert all(chunk.usage is None for chunk in chunks)

    def test_stream_with_usage(self, sdk, passed):
        *_, last = sdk.chat.completions.create(
            model="gpt-4o",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
        assert (last.choices, last.usage.prompt_tokens) == ([], 3)
        passed("openai", "/v1/chat/completions", streamed=True, input_tokens=3)

    def test_stream_helper(self, sdk, passed):
        with sdk.chat.completions.stream(model="gpt-4o", messages=MESSAGES) as stream:
            answer = stream.get_final_completion()
        assert TEXT in (answer.choices[0].message.content or "")
        passed("openai", "/v1/chat/completions", streamed=True)

    @EVERY_COMPATIBLE
    def test_tools(self, connect, passed, name):
        answer = connect(name).chat.completions.create(
            model=COMPATIBLE[name], messages=MESSAGES, tools=TOOLS, tool_choice=TOOL_CHOICE
        )
        (call,) = answer.choices[0].message.tool_calls or []
        assert (call.function.name, call.function.arguments) == ("weather", '{"city":"example"}')
        request = passed(name, self.upstream(name, "chat/completions"))
        assert request.json()["tools"] == TOOLS

    def test_streamed_tools(self, sdk, passed):
        with sdk.chat.completions.stream(
            model="gpt-4o", messages=MESSAGES, tools=TOOLS, tool_choice=TOOL_CHOICE
        ) as stream:
            answer = stream.get_final_completion()
        (call,) = answer.choices[0].message.tool_calls or []
        assert (call.function.name, call.function.arguments) == ("weather", '{"city":"example"}')
        passed("openai", "/v1/chat/completions", streamed=True)

    @pytest.mark.parametrize(
        ("name", "model"),
        [
            ("openai", "text-embedding-3-small"),
            ("mistral", "mistral-embed"),
            ("gemini", "gemini-embedding-001"),
        ],
    )
    def test_embeddings(self, connect, passed, name, model):
        answer = connect(name).embeddings.create(model=model, input=[TEXT, TEXT])
        assert [len(each.embedding) for each in answer.data] == [1536, 1536]
        used = answer.usage.prompt_tokens
        passed(name, self.upstream(name, "embeddings"), endpoint="embeddings", input_tokens=used)

    @EVERY_COMPATIBLE
    def test_models(self, connect, passed, name):
        assert list(connect(name).models.list())
        passed(name, self.upstream(name, "models"), endpoint="models", cost_usd=0)

    @pytest.mark.parametrize("name", ["openai", "grok"])
    def test_responses(self, connect, passed, name):
        sdk = connect(name)
        answer = sdk.responses.create(model=COMPATIBLE[name], input=TEXT)
        assert TEXT in answer.output_text
        passed(name, "/v1/responses", endpoint="responses", **self.counted(answer.usage))
        with sdk.responses.stream(model=COMPATIBLE[name], input=TEXT) as stream:
            answer = stream.get_final_response()
        assert TEXT in answer.output_text
        passed(name, "/v1/responses", streamed=True, **self.counted(answer.usage))

    @staticmethod
    def counted(usage: Any) -> dict[str, int]:
        return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}

    def test_headers(self, sdk, passed):
        answer = sdk.chat.completions.with_raw_response.create(
            model="gpt-4o",
            messages=MESSAGES,
            extra_headers={"x-metrion-user": "Ada", "openai-organization": "org-1"},
        )
        assert answer.headers["x-request-id"]  # the provider's own
        identifier = answer.headers["x-metrion-request-id"]
        request = passed("openai", "/v1/chat/completions", id=identifier, requester="Ada")
        assert request.header("openai-organization") == "org-1"


class TestAnthropic:
    """`anthropic`."""

    @pytest.fixture
    def connect(self, deployment, caller):
        clients: list[anthropic.Anthropic] = []

        def connect(base: str = "/api/proxy", **credential: str) -> anthropic.Anthropic:
            client = anthropic.Anthropic(
                base_url=deployment.proxy_url + base,
                default_headers=caller.headers,
                max_retries=0,
                **(credential or {"api_key": caller.key("anthropic")}),
            )
            clients.append(client)
            return client

        yield connect
        for client in clients:
            client.close()

    @pytest.fixture
    def sdk(self, connect) -> anthropic.Anthropic:
        return connect()

    @pytest.mark.parametrize("base", ["/api/proxy", "/api/proxy/anthropic"])
    def test_chat(self, connect, passed, base):
        answer = connect(base).messages.create(model=CLAUDE, max_tokens=99, messages=MESSAGES)
        assert TEXT in answer.content[0].text
        request = passed(
            "anthropic",
            "/v1/messages",
            endpoint="messages",
            model=CLAUDE,
            streamed=False,
            input_tokens=answer.usage.input_tokens,
            output_tokens=answer.usage.output_tokens,
        )
        assert request.json() == {"model": CLAUDE, "max_tokens": 99, "messages": MESSAGES}

    @pytest.mark.parametrize("place", ["api_key", "auth_token"])  # x-api-key, Authorization
    def test_both_places_for_a_key(self, connect, caller, passed, place):
        sdk = connect(**{place: caller.key("anthropic")})
        assert sdk.messages.create(model=CLAUDE, max_tokens=99, messages=MESSAGES).content
        passed("anthropic", "/v1/messages")

    def test_stream(self, sdk, passed):
        with sdk.messages.stream(model=CLAUDE, max_tokens=99, messages=MESSAGES) as stream:
            text = "".join(stream.text_stream)
            answer = stream.get_final_message()
        assert TEXT in text == answer.content[0].text
        spent = answer.usage.output_tokens
        passed("anthropic", "/v1/messages", streamed=True, output_tokens=spent)

    def test_tools(self, sdk, passed):
        tools = [{"name": "weather", "input_schema": WEATHER}]
        answer = sdk.messages.create(
            model=CLAUDE,
            max_tokens=99,
            messages=MESSAGES,
            tools=tools,
            tool_choice={"type": "tool", "name": "weather"},
        )
        (call,) = answer.content
        assert (call.name, call.input) == ("weather", {"city": "example"})
        assert passed("anthropic", "/v1/messages").json()["tools"] == tools

    def test_cached_tokens_are_counted_once(self, sdk, passed):
        answer = sdk.messages.create(
            model=CLAUDE,
            max_tokens=99,
            messages=MESSAGES,
            extra_headers={"x-fake-usage": "cached"},
        )
        used = answer.usage
        read, written = used.cache_read_input_tokens or 0, used.cache_creation_input_tokens or 0
        assert read
        assert written
        passed(
            "anthropic",
            "/v1/messages",
            cache_read_tokens=read,
            cache_write_tokens=written,
            input_tokens=used.input_tokens + read + written,
        )

    def test_count_tokens(self, sdk, passed):
        assert sdk.messages.count_tokens(model=CLAUDE, messages=MESSAGES).input_tokens == 3
        name = "messages/count_tokens"
        passed("anthropic", f"/v1/{name}", endpoint=name, cost_usd=0)

    def test_models(self, sdk, passed):
        assert [model.id for model in sdk.models.list()]
        passed("anthropic", "/v1/models", endpoint="models", cost_usd=0)

    def test_versions_are_the_clients(self, sdk, passed):
        sdk.beta.messages.create(
            model=CLAUDE,
            max_tokens=99,
            messages=MESSAGES,
            betas=["context-1m-2025-08-07"],
            extra_headers={"anthropic-version": "2031-12-24"},
        )
        request = passed("anthropic", "/v1/messages")
        assert request.header("anthropic-beta") == "context-1m-2025-08-07"
        assert request.header("anthropic-version") == "2031-12-24"


class TestMistral:
    """`mistralai`."""

    MODEL = "mistral-small-latest"

    @pytest.fixture
    def sdk(self, deployment, caller) -> Iterator[Mistral]:
        with (
            httpx2.Client(headers=caller.headers) as http,
            Mistral(
                api_key=caller.key("mistral"),
                server_url=f"{deployment.proxy_url}/api/proxy/mistral",
                client=http,
            ) as client,
        ):
            yield client

    def test_chat(self, sdk, passed):
        answer = sdk.chat.complete(model=self.MODEL, messages=MESSAGES)
        assert TEXT in answer.choices[0].message.content
        passed(
            "mistral",
            "/v1/chat/completions",
            endpoint="chat/completions",
            input_tokens=answer.usage.prompt_tokens,
            output_tokens=answer.usage.completion_tokens,
        )

    def test_stream(self, sdk, passed):
        with sdk.chat.stream(model=self.MODEL, messages=MESSAGES) as stream:
            events = list(stream)
        assert TEXT in "".join(event.data.choices[0].delta.content or "" for event in events)
        used = events[-1].data.usage
        assert used is not None
        spent = used.completion_tokens
        passed("mistral", "/v1/chat/completions", streamed=True, output_tokens=spent)

    def test_tools(self, sdk, passed):
        answer = sdk.chat.complete(
            model=self.MODEL, messages=MESSAGES, tools=TOOLS, tool_choice=TOOL_CHOICE
        )
        (call,) = answer.choices[0].message.tool_calls or []
        assert (call.function.name, call.function.arguments) == ("weather", '{"city":"example"}')
        passed("mistral", "/v1/chat/completions")

    def test_embeddings(self, sdk, passed):
        answer = sdk.embeddings.create(model="mistral-embed", inputs=[TEXT])
        assert len(answer.data[0].embedding or []) == 1536
        used = answer.usage.prompt_tokens
        passed("mistral", "/v1/embeddings", endpoint="embeddings", input_tokens=used)

    def test_models(self, sdk, passed):
        assert sdk.models.list().data
        passed("mistral", "/v1/models", endpoint="models", cost_usd=0)


class TestGoogle:
    """`google-genai`: Gemini's native API."""

    MODEL = "gemini-2.5-flash"

    @pytest.fixture
    def connect(self, deployment, caller):
        clients: list[genai.Client] = []

        def connect(version: str | None = None) -> genai.Client:
            options = types.HttpOptions(
                base_url=f"{deployment.proxy_url}/api/proxy/gemini",
                api_version=version,
                headers=caller.headers,
            )
            clients.append(genai.Client(api_key=caller.key("gemini"), http_options=options))
            return clients[-1]

        yield connect
        for client in clients:
            client.close()

    @pytest.fixture
    def sdk(self, connect) -> genai.Client:
        return connect()

    @pytest.mark.parametrize("version", ["v1", "v1beta"])
    def test_chat(self, connect, passed, version):
        answer = connect(version).models.generate_content(model=self.MODEL, contents=TEXT)
        assert TEXT in (answer.text or "")
        passed(
            "gemini",
            f"/{version}/models/{self.MODEL}:generateContent",
            endpoint="generateContent",
            model=self.MODEL,
            streamed=False,
            input_tokens=answer.usage_metadata.prompt_token_count,
            total_tokens=answer.usage_metadata.total_token_count,
        )

    def test_stream(self, sdk, passed):
        chunks = list(sdk.models.generate_content_stream(model=self.MODEL, contents=TEXT))
        assert TEXT in "".join(chunk.text or "" for chunk in chunks)
        used = chunks[-1].usage_metadata.total_token_count
        path = f"/v1/models/{self.MODEL}:streamGenerateContent"
        assert passed("gemini", path, streamed=True, total_tokens=used).query == "alt=sse"

    def test_tools(self, sdk, passed):
        wish = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
        tool = types.Tool(
            function_declarations=[
                types.FunctionDeclaration(name="weather", parameters_json_schema=WEATHER)
            ]
        )
        config = types.GenerateContentConfig(
            tools=[tool], tool_config=types.ToolConfig(function_calling_config=wish)
        )
        answer = sdk.models.generate_content(model=self.MODEL, contents=TEXT, config=config)
        (call,) = answer.function_calls or []
        assert (call.name, call.args) == ("weather", {"city": "example"})
        passed("gemini", f"/v1/models/{self.MODEL}:generateContent")

    def test_embeddings(self, sdk, passed):
        answer = sdk.models.embed_content(model="gemini-embedding-001", contents=[TEXT, TEXT])
        assert [len(each.values) for each in answer.embeddings] == [3072, 3072]
        passed(
            "gemini",
            "/v1/models/gemini-embedding-001:batchEmbedContents",
            endpoint="batchEmbedContents",
            model="gemini-embedding-001",
            input_tokens=None,  # what Google does not count is not zero
            cost_usd=None,
        )

    def test_count_tokens(self, sdk, passed):
        assert sdk.models.count_tokens(model=self.MODEL, contents=TEXT).total_tokens == 3
        path = f"/v1/models/{self.MODEL}:countTokens"
        passed("gemini", path, endpoint="countTokens", cost_usd=0)

    @pytest.mark.parametrize("version", [None, "v1", "v1beta"])
    def test_models(self, connect, passed, version):
        # by default it asks at /v1/models, where OpenAI's SDKs ask for the compatible list
        names = [model.name for model in connect(version).models.list()]
        assert f"models/{self.MODEL}" in names
        passed("gemini", f"/{version or 'v1'}/models", endpoint="models", cost_usd=0)
