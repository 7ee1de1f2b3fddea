"""Gemini: the OpenAI-compatible endpoint and the native one.

https://ai.google.dev/gemini-api/docs/openai and https://ai.google.dev/api.
"""

from addons.providers.base import BEARER, CLIENT_PREFIX, Endpoint, KeyPlace, Provider, versioned

_REQUIRED = {
    "embedContent": ("content",),
    "batchEmbedContents": ("requests",),
    "countTokens": (),  # takes `contents` or a whole `generateContentRequest`
}


def _native(action: str, flavour: str, *, version: str, streams: bool = False) -> Endpoint:
    """A native endpoint names its model in the path."""
    path = f"/{version}/models/{{model}}:{action}"
    return Endpoint(
        name=action,
        client_paths=(path,),
        path=path,
        flavour=flavour,
        required=_REQUIRED.get(action, ("contents",)),
        streams=streams,
    )


def _native_endpoints(version: str) -> tuple[Endpoint, ...]:
    return (
        _native("generateContent", "gemini.generate", version=version),
        _native("streamGenerateContent", "gemini.generate", version=version, streams=True),
        _native("countTokens", "gemini.count_tokens", version=version),
        _native("embedContent", "gemini.embed", version=version),
        # What the official SDK's `embed_content` calls, for one text too.
        _native("batchEmbedContents", "gemini.embed", version=version),
    )


PROVIDER = Provider(
    name="gemini",
    title="Gemini",
    origin="https://generativelanguage.googleapis.com",
    prefixes=(f"{CLIENT_PREFIX}/gemini",),
    # A header: the `?key=` that the API takes too would put the key into URLs that are logged.
    key_place=KeyPlace("x-goog-api-key"),
    key_pattern=r"[A-Za-z0-9_.-]{30,}",
    key_page="https://aistudio.google.com/apikey",
    error_shape="gemini",
    default_headers={},
    endpoints=(
        Endpoint(
            name="chat/completions",
            client_paths=versioned("chat/completions"),
            path="/v1beta/openai/chat/completions",
            key_place=BEARER,
            flavour="openai.chat",
            required=("model", "messages"),
            usage_on_request=True,
        ),
        Endpoint(
            name="embeddings",
            client_paths=versioned("embeddings"),
            path="/v1beta/openai/embeddings",
            key_place=BEARER,
            flavour="openai.embeddings",
            required=("input",),
        ),
        Endpoint(
            name="models",
            client_paths=versioned("models"),
            path="/v1beta/openai/models",
            key_place=BEARER,
            flavour="openai.models",
            method="GET",
        ),
        Endpoint(
            name="models",
            client_paths=("/v1beta/models",),
            path="/v1beta/models",
            flavour="gemini.models",
            method="GET",
        ),
        # By default the official SDK asks here, too. It cannot read the compatible list and would
        # show none; OpenAI's SDKs send a Bearer and get that one.
        Endpoint(
            name="models",
            client_paths=("/v1/models",),
            path="/v1/models",
            flavour="gemini.models",
            method="GET",
            for_keys_in=("x-goog-api-key", "?key="),
        ),
        *_native_endpoints("v1"),
        *_native_endpoints("v1beta"),
    ),
)
