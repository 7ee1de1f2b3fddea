"""Mistral: https://docs.mistral.ai/api."""

from addons.providers.base import BEARER, CLIENT_PREFIX, Endpoint, Provider, versioned

PROVIDER = Provider(
    name="mistral",
    title="Mistral",
    origin="https://api.mistral.ai",
    prefixes=(f"{CLIENT_PREFIX}/mistral",),
    key_place=BEARER,
    key_pattern=r"[A-Za-z0-9_-]{24,}",
    key_page="https://console.mistral.ai/api-keys",
    error_shape="openai",
    default_headers={},
    endpoints=(
        # Mistral tells the usage of a stream in its last chunk by itself and refuses unknown
        # fields, so nothing is added to the request (`usage_on_request` stays False).
        Endpoint(
            name="chat/completions",
            client_paths=versioned("chat/completions"),
            path="/v1/chat/completions",
            flavour="openai.chat",
            required=("model", "messages"),
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
