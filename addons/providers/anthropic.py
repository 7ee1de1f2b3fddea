"""Anthropic: https://docs.anthropic.com/en/api."""

from addons.providers.base import CLIENT_PREFIX, Endpoint, KeyPlace, Provider, versioned

PROVIDER = Provider(
    name="anthropic",
    title="Anthropic",
    origin="https://api.anthropic.com",
    # The short paths without the provider's name are the oldest ones and stay.
    prefixes=(f"{CLIENT_PREFIX}/anthropic", CLIENT_PREFIX),
    key_place=KeyPlace("x-api-key"),
    key_pattern=r"sk-ant-[A-Za-z0-9_-]{16,}",
    key_page="https://console.anthropic.com/settings/keys",
    error_shape="anthropic",
    # https://docs.anthropic.com/en/api/versioning: required; SDKs send it, people forget it.
    default_headers={"anthropic-version": "2023-06-01"},
    endpoints=(
        Endpoint(
            name="messages",
            client_paths=versioned("messages"),
            path="/v1/messages",
            flavour="anthropic.messages",
            required=("model", "messages", "max_tokens"),
        ),
        Endpoint(
            name="messages/count_tokens",
            client_paths=versioned("messages/count_tokens"),
            path="/v1/messages/count_tokens",
            flavour="anthropic.count_tokens",
            required=("model", "messages"),
        ),
        Endpoint(
            name="models",
            client_paths=versioned("models"),
            path="/v1/models",
            flavour="anthropic.models",
            method="GET",
        ),
    ),
)
