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
def done(request, caller, arrived, expected_rows):
    """Look at a request that was answered: what the provider got, and, later, its row."""

    def done(name: str, path: str, **fields: Any):
        good = {"mode": caller.mode, "outcome": "ok", "status": 200, "cached": False, "error": None}
        expected_rows.append((request.node.nodeid, good | {"provider": name} | fields))
        return arrived(name, path)

    return done


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
    def test_chat(self, connect, arrived, name, version, expect_row):
        model = COMPATIBLE[name]
        answer = connect(name, version).chat.completions.create(model=model, messages=MESSAGES)
        assert TEXT in (answer.choices[0].message.content or "")
        request = arrived(name, self.upstream(name, "chat/completions"))
        assert request.json() == {"model": model, "messages": MESSAGES}
        assert answer.usage is not None
        expect_row(
            provider=name,
            endpoint="chat/completions",
            streamed=False,
            input_tokens=answer.usage.prompt_tokens,
            total_tokens=answer.usage.total_tokens,
        )

    @EVERY_COMPATIBLE
    def test_stream(self, connect, arrived, name, expect_row):
        stream = connect(name).chat.completions.create(
            model=COMPATIBLE[name], messages=MESSAGES, stream=True
        )
        chunks = list(stream)
        assert TEXT in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason == "stop"
        request = arrived(name, self.upstream(name, "chat/completions"))
        if name == "mistral":  # tells its usage unasked, and refuses the question
            assert "stream_options" not in request.json()
        else:  # the wish is Metrion's, and so is the chunk that it brings
            assert request.json()["stream_options"] == {"include_usage": True}
            assert all(chunk.usage is None for chunk in chunks)
        expect_row(provider=name, streamed=True, input_tokens=3)

    def test_stream_with_usage(self, sdk, arrived):
        *_, last = sdk.chat.completions.create(
            model="gpt-4o",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
        assert (last.choices, last.usage.prompt_tokens) == ([], 3)
        arrived("openai", "/v1/chat/completions")

    def test_stream_helper(self, sdk, arrived):
        with sdk.chat.completions.stream(model="gpt-4o", messages=MESSAGES) as stream:
            answer = stream.get_final_completion()
        assert TEXT in (answer.choices[0].message.content or "")
        arrived("openai", "/v1/chat/completions")

    @EVERY_COMPATIBLE
    def test_tools(self, connect, arrived, name):
        answer = connect(name).chat.completions.create(
            model=COMPATIBLE[name], messages=MESSAGES, tools=TOOLS, tool_choice=TOOL_CHOICE
        )
        (call,) = answer.choices[0].message.tool_calls or []
        assert (call.function.name, call.function.arguments) == ("weather", '{"city":"example"}')
        request = arrived(name, self.upstream(name, "chat/completions"))
        assert request.json()["tools"] == TOOLS

    def test_streamed_tools(self, sdk, arrived):
        with sdk.chat.completions.stream(
            model="gpt-4o", messages=MESSAGES, tools=TOOLS, tool_choice=TOOL_CHOICE
        ) as stream:
            answer = stream.get_final_completion()
        (call,) = answer.choices[0].message.tool_calls or []
        assert (call.function.name, call.function.arguments) == ("weather", '{"city":"example"}')
        arrived("openai", "/v1/chat/completions")

    @pytest.mark.parametrize(
        ("name", "model"),
        [
            ("openai", "text-embedding-3-small"),
            ("mistral", "mistral-embed"),
            ("gemini", "gemini-embedding-001"),
        ],
    )
    def test_embeddings(self, connect, arrived, name, model, expect_row):
        answer = connect(name).embeddings.create(model=model, input=[TEXT, TEXT])
        assert [len(each.embedding) for each in answer.data] == [1536, 1536]
        arrived(name, self.upstream(name, "embeddings"))
        expect_row(provider=name, endpoint="embeddings", input_tokens=answer.usage.prompt_tokens)

    @EVERY_COMPATIBLE
    def test_models(self, connect, arrived, name):
        assert list(connect(name).models.list())
        arrived(name, self.upstream(name, "models"))

    @pytest.mark.parametrize("name", ["openai", "grok"])
    def test_responses(self, connect, arrived, name, expect_row):
        sdk = connect(name)
        answer = sdk.responses.create(model=COMPATIBLE[name], input=TEXT)
        assert TEXT in answer.output_text
        arrived(name, "/v1/responses")
        with sdk.responses.stream(model=COMPATIBLE[name], input=TEXT) as stream:
            streamed = stream.get_final_response()
        assert TEXT in streamed.output_text
        arrived(name, "/v1/responses")
        for used in (answer.usage, streamed.usage):
            assert used is not None
            expect_row(
                provider=name,
                endpoint="responses",
                input_tokens=used.input_tokens,
                output_tokens=used.output_tokens,
            )

    def test_headers(self, sdk, arrived, expect_row):
        answer = sdk.chat.completions.with_raw_response.create(
            model="gpt-4o",
            messages=MESSAGES,
            extra_headers={"x-metrion-user": "Ada", "openai-organization": "org-1"},
        )
        request = arrived("openai", "/v1/chat/completions")
        assert request.header("openai-organization") == "org-1"
        assert answer.headers["x-request-id"]  # the provider's own
        expect_row(id=answer.headers["x-metrion-request-id"], requester="Ada")


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
    def test_chat(self, connect, arrived, base, expect_row):
        answer = connect(base).messages.create(model=CLAUDE, max_tokens=99, messages=MESSAGES)
        assert TEXT in answer.content[0].text
        request = arrived("anthropic", "/v1/messages")
        assert request.json() == {"model": CLAUDE, "max_tokens": 99, "messages": MESSAGES}
        expect_row(
            provider="anthropic",
            endpoint="messages",
            streamed=False,
            input_tokens=answer.usage.input_tokens,
            output_tokens=answer.usage.output_tokens,
        )

    def test_the_other_place_for_a_key(self, connect, caller, arrived):
        # `auth_token` goes out as `Authorization: Bearer`; Anthropic gets it as `x-api-key`
        sdk = connect(auth_token=caller.key("anthropic"))
        assert sdk.messages.create(model=CLAUDE, max_tokens=99, messages=MESSAGES).content
        arrived("anthropic", "/v1/messages")

    def test_stream(self, sdk, arrived, expect_row):
        with sdk.messages.stream(model=CLAUDE, max_tokens=99, messages=MESSAGES) as stream:
            text = "".join(stream.text_stream)
            answer = stream.get_final_message()
        assert TEXT in text == answer.content[0].text
        arrived("anthropic", "/v1/messages")
        expect_row(streamed=True, output_tokens=answer.usage.output_tokens)

    def test_tools(self, sdk, arrived):
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
        assert arrived("anthropic", "/v1/messages").json()["tools"] == tools

    def test_cached_tokens_are_counted_once(self, sdk, arrived, expect_row):
        answer = sdk.messages.create(
            model=CLAUDE,
            max_tokens=99,
            messages=MESSAGES,
            extra_headers={"x-fake-usage": "cached"},
        )
        arrived("anthropic", "/v1/messages")
        used = answer.usage
        read, written = used.cache_read_input_tokens or 0, used.cache_creation_input_tokens or 0
        assert read
        assert written
        expect_row(
            cache_read_tokens=read,
            cache_write_tokens=written,
            input_tokens=used.input_tokens + read + written,
        )

    def test_count_tokens(self, sdk, arrived, expect_row):
        assert sdk.messages.count_tokens(model=CLAUDE, messages=MESSAGES).input_tokens == 3
        arrived("anthropic", "/v1/messages/count_tokens")
        expect_row(endpoint="messages/count_tokens", cost_usd=0)

    def test_models(self, sdk, arrived):
        assert [model.id for model in sdk.models.list()]
        arrived("anthropic", "/v1/models")

    def test_versions_are_the_clients(self, sdk, arrived):
        sdk.beta.messages.create(
            model=CLAUDE,
            max_tokens=99,
            messages=MESSAGES,
            betas=["context-1m-2025-08-07"],
            extra_headers={"anthropic-version": "2031-12-24"},
        )
        request = arrived("anthropic", "/v1/messages")
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

    def test_chat(self, sdk, arrived, expect_row):
        answer = sdk.chat.complete(model=self.MODEL, messages=MESSAGES)
        assert TEXT in answer.choices[0].message.content
        arrived("mistral", "/v1/chat/completions")
        expect_row(
            provider="mistral",
            endpoint="chat/completions",
            input_tokens=answer.usage.prompt_tokens,
            output_tokens=answer.usage.completion_tokens,
        )

    def test_stream(self, sdk, arrived, expect_row):
        with sdk.chat.stream(model=self.MODEL, messages=MESSAGES) as stream:
            events = list(stream)
        assert TEXT in "".join(event.data.choices[0].delta.content or "" for event in events)
        used = events[-1].data.usage
        assert used is not None
        arrived("mistral", "/v1/chat/completions")
        expect_row(streamed=True, output_tokens=used.completion_tokens)

    def test_tools(self, sdk, arrived):
        answer = sdk.chat.complete(
            model=self.MODEL, messages=MESSAGES, tools=TOOLS, tool_choice=TOOL_CHOICE
        )
        (call,) = answer.choices[0].message.tool_calls or []
        assert (call.function.name, call.function.arguments) == ("weather", '{"city":"example"}')
        arrived("mistral", "/v1/chat/completions")

    def test_embeddings(self, sdk, arrived):
        answer = sdk.embeddings.create(model="mistral-embed", inputs=[TEXT])
        assert len(answer.data[0].embedding or []) == 1536
        arrived("mistral", "/v1/embeddings")

    def test_models(self, sdk, arrived):
        assert sdk.models.list().data
        arrived("mistral", "/v1/models")


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
    def test_chat(self, connect, arrived, version, expect_row):
        answer = connect(version).models.generate_content(model=self.MODEL, contents=TEXT)
        assert TEXT in (answer.text or "")
        arrived("gemini", f"/{version}/models/{self.MODEL}:generateContent")
        expect_row(
            provider="gemini",
            endpoint="generateContent",
            streamed=False,
            input_tokens=answer.usage_metadata.prompt_token_count,
            total_tokens=answer.usage_metadata.total_token_count,
        )

    def test_stream(self, sdk, arrived, expect_row):
        chunks = list(sdk.models.generate_content_stream(model=self.MODEL, contents=TEXT))
        assert TEXT in "".join(chunk.text or "" for chunk in chunks)
        request = arrived("gemini", f"/v1/models/{self.MODEL}:streamGenerateContent")
        assert request.query == "alt=sse"
        expect_row(streamed=True, total_tokens=chunks[-1].usage_metadata.total_token_count)

    def test_tools(self, sdk, arrived):
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
        arrived("gemini", f"/v1/models/{self.MODEL}:generateContent")

    def test_embeddings(self, sdk, arrived, expect_row):
        answer = sdk.models.embed_content(model="gemini-embedding-001", contents=[TEXT, TEXT])
        assert [len(each.values) for each in answer.embeddings] == [3072, 3072]
        arrived("gemini", "/v1/models/gemini-embedding-001:batchEmbedContents")
        expect_row(
            endpoint="batchEmbedContents",
            model="gemini-embedding-001",
            input_tokens=None,  # what Google does not count is not zero
            cost_usd=None,
        )

    def test_count_tokens(self, sdk, arrived):
        assert sdk.models.count_tokens(model=self.MODEL, contents=TEXT).total_tokens == 3
        arrived("gemini", f"/v1/models/{self.MODEL}:countTokens")

    def test_models(self, connect, arrived):
        # by default it asks at /v1/models, which is the OpenAI-compatible list here
        names = [model.name for model in connect("v1beta").models.list()]
        assert f"models/{self.MODEL}" in names
        arrived("gemini", "/v1beta/models")
