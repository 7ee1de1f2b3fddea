"""The shape of a provider: what one data file beside this module has to say.

A provider is data, not code: which paths a client may call, what they are upstream, where the key
goes, how its errors look. One interpreter (`RouteTable`) serves all of them. A request can choose
an entry of this closed table and nothing else: no part of it can name a host.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

ErrorShape = Literal["openai", "anthropic", "gemini"]

CLIENT_PREFIX = "/api/proxy"
# A model's name inside a path (Gemini's native API). No dots alone, no slashes, no percent signs.
_MODEL = r"(?P<model>[A-Za-z0-9][A-Za-z0-9._-]{0,127})"
_ORIGIN = re.compile(r"(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?/?")
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a key goes upstream: a header, and what stands before the key in it."""

    header: str
    prefix: str = ""


BEARER = KeyPlace("authorization", "Bearer ")  # RFC 6750 section 2.1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of a provider.

    Attributes:
        name: the noun in log rows and records, such as `chat/completions`.
        client_paths: below the provider's prefixes; `{model}` stands for a model's name.
        path: the provider's own path.
        flavour: which parser reads model, usage and errors from the answer (see `addons.meter`).
        method: the only method it takes.
        required: fields without which the provider cannot answer; empty for a GET.
        streams: True if the answer is a stream whatever the body says.
        usage_on_request: True if a streamed answer tells its usage only when asked by
            `stream_options.include_usage` (OpenAI's chat and its imitations).
        key_place: if the key goes elsewhere than at the provider's other endpoints.
        for_keys_in: if not empty, only a request whose credential stands in one of these places (a
            header's name, or `?key=`) comes here; another endpoint has the path for all others.
    """

    name: str
    client_paths: tuple[str, ...]
    path: str
    flavour: str
    method: Literal["GET", "POST"] = "POST"
    required: tuple[str, ...] = ()
    streams: bool = False
    usage_on_request: bool = False
    key_place: KeyPlace | None = None
    for_keys_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider, as its file describes it.

    Attributes:
        name: the noun everywhere: path, table, command, dashboard.
        title: for people.
        origin: scheme, host and port that requests go to unless `Settings.origins` says otherwise.
        endpoints: the closed list of what may be called.
        key_place: where its key goes upstream.
        key_pattern: the form of a key, to catch a paste that cannot be one.
        key_page: where a person makes and revokes keys.
        error_shape: the JSON shape of errors its SDKs understand.
        prefixes: client path prefixes.
        default_headers: set if the client sent none.
    """

    name: str
    title: str
    origin: str
    endpoints: tuple[Endpoint, ...]
    key_place: KeyPlace
    key_pattern: str
    key_page: str
    error_shape: ErrorShape
    prefixes: tuple[str, ...]
    default_headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Route:
    """What the table says about one path: where a request to it goes.

    Attributes:
        path: the provider's path with the model filled in.
        model: the model named in the path, if the provider puts it there.
    """

    provider: Provider
    endpoint: Endpoint
    path: str
    model: str | None = None

    @property
    def key_place(self) -> KeyPlace:
        """Where the key goes on this route."""
        return self.endpoint.key_place or self.provider.key_place


class UnknownRouteError(LookupError):
    """No entry of the table has this path."""


class MethodNotAllowedError(LookupError):
    """The path exists, but not for this method. `args[0]` lists the allowed ones."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a provider listens: nothing but scheme, host and port."""

    scheme: Literal["http", "https"]
    host: str
    port: int

    @property
    def host_header(self) -> str:
        """The value of `Host`: the port is left out where it is the scheme's own."""
        usual = 443 if self.scheme == "https" else 80
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == usual else f"{host}:{self.port}"


def parse_origin(text: str) -> Origin:
    """Read `https://host[:port]`.

    Raises:
        ValueError: the text has a path, credentials, no host, or another scheme.
    """
    found = _ORIGIN.fullmatch(text)
    port = int(found[3]) if found and found[3] else None
    if found is None or (port is not None and not 0 < port <= _MAX_PORT):
        msg = "no origin: write scheme, host and port only, like https://api.openai.com"
        raise ValueError(msg)
    scheme: Literal["http", "https"] = "https" if found[1] == "https" else "http"
    host = found[2].lower().strip("[]")
    return Origin(scheme, host, port or (443 if scheme == "https" else 80))


def _origin_of(provider: Provider, instead: str | None) -> Origin:
    try:
        return parse_origin(provider.origin if instead is None else instead)
    except ValueError as error:
        msg = f"the origin of {provider.name} is {error}"
        raise ValueError(msg) from None


def versioned(path: str) -> tuple[str, str]:
    """Client paths of an endpoint: SDK base URLs are given with and without `/v1`."""
    return f"/v1/{path}", f"/{path}"


class RouteTable:
    """The closed table of all routes.

    Args:
        providers: the providers' files.
        origins: provider name → origin, for those that do not use their own (a region, a test).
    """

    def __init__(self, providers: Iterable[Provider], origins: Mapping[str, str]) -> None:
        self.providers = {provider.name: provider for provider in providers}
        unknown = sorted(set(origins) - set(self.providers))
        if unknown:
            known = ", ".join(sorted(self.providers))
            msg = f"METRION_ORIGINS names {', '.join(unknown)}; the providers are {known}"
            raise ValueError(msg)
        self.origins = {
            name: _origin_of(provider, origins.get(name))
            for name, provider in self.providers.items()
        }
        # The longest first: Anthropic's short paths begin as all others do.
        self._prefixes = sorted(
            ((prefix + "/", p) for p in self.providers.values() for prefix in p.prefixes),
            key=lambda entry: -len(entry[0]),
        )
        self._known: set[tuple[str, str, str | None]] = set()
        self._by_place: dict[tuple[str, str, str], Route] = {}
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], Provider, Endpoint]] = []
        for provider in self.providers.values():
            for endpoint in provider.endpoints:
                self._add(provider, endpoint)

    def _add(self, provider: Provider, endpoint: Endpoint) -> None:
        for prefix in provider.prefixes:
            for client_path in endpoint.client_paths:
                path = prefix + client_path
                for place in endpoint.for_keys_in or (None,):
                    self._claim(endpoint.method, path, place)
                route = Route(provider, endpoint, endpoint.path)
                if endpoint.for_keys_in:
                    for place in endpoint.for_keys_in:
                        self._by_place[endpoint.method, path, place] = route
                    continue
                if "{model}" in path:
                    pattern = re.escape(path).replace(re.escape("{model}"), _MODEL)
                    self._patterns.append((re.compile(pattern + r"\Z"), provider, endpoint))
                    continue
                self._exact.setdefault(path, {})[endpoint.method] = route

    def _claim(self, method: str, path: str, place: str | None) -> None:
        if (method, path, place) in self._known:
            msg = f"{method} {path} stands twice in the route table"
            raise ValueError(msg)
        self._known.add((method, path, place))

    def match(self, method: str, path: str, key_places: Iterable[str] = ()) -> Route:
        """The route of a request.

        Args:
            method: as sent; methods are case-sensitive (RFC 9110 section 9.1).
            path: without the query. It is compared as it stands: nothing is decoded or normalised,
                so an encoded or dotted path matches no entry.
            key_places: where the request carries its credential.

        Raises:
            UnknownRouteError: no such path.
            MethodNotAllowedError: the path is there, for other methods.
        """
        if self._by_place:
            for place in key_places:
                if special := self._by_place.get((method, path, place)):
                    return special
        methods = self._exact.get(path) or self._match_patterns(path)
        if not methods:
            raise UnknownRouteError(path)
        route = methods.get(method)
        if route is None:
            raise MethodNotAllowedError(", ".join(sorted(methods)))
        return route

    def _match_patterns(self, path: str) -> dict[str, Route]:
        routes: dict[str, Route] = {}
        for pattern, provider, endpoint in self._patterns:
            if found := pattern.match(path):
                model = found["model"]
                upstream = endpoint.path.replace("{model}", model)
                routes[endpoint.method] = Route(provider, endpoint, upstream, model)
        return routes

    def provider_of(self, path: str) -> Provider | None:
        """Whose error shape an answer to this path takes, also where the path is no route."""
        for prefix, provider in self._prefixes:
            if path.startswith(prefix):
                return provider
        return None
