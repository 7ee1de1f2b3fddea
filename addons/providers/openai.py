"""OpenAI: https://platform.openai.com/docs/api-reference."""

from addons.providers.base import BEARER, CLIENT_PREFIX, Endpoint, Provider, versioned

PROVIDER = Provider(
    name="openai",
    title="OpenAI",
    origin="https://api.openai.com",
    prefixes=(f"{CLIENT_PREFIX}/openai",),
    key_place=BEARER,
    key_pattern=r"sk-[A-Za-z0-9_-]{16,}",
    key_page="https://platform.openai.com/api-keys",
    error_shape="openai",
    default_headers={},
    endpoints=(
        Endpoint(
            name="chat/completions",
            client_paths=versioned("chat/completions"),
            path="/v1/chat/completions",
            flavour="openai.chat",
            required=("model", "messages"),
            usage_on_request=True,
        ),
        Endpoint(
            name="responses",
            client_paths=versioned("responses"),
            path="/v1/responses",
            flavour="openai.responses",
            required=("input",),
        ),
        Endpoint(
            name="embeddings",
            client_paths=versioned("embeddings"),
            path="/v1/embeddings",
            flavour="openai.embeddings",
            required=("input",),
        ),
        Endpoint(
            name="models",
            client_paths=versioned("models"),
            path="/v1/models",
            flavour="openai.models",
            method="GET",
        ),
    ),
)
