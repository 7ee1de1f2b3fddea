"""Where a request wants to go, and whether the page that sends it may (SPEC sections 4 and 7)."""

from collections.abc import Container, Iterable

from addons.answers import Answer, preflight_answer
from addons.exchange import Exchange
from addons.outcome import Refused
from addons.providers.base import MethodNotAllowedError, RouteTable, UnknownRouteError
from storage.tokens import TOKEN_PREFIX


def cross_origin(exchange: Exchange, listed: Container[bytes], routes: RouteTable) -> Answer | None:
    """CORS: a listed origin is remembered, any other is refused. Returns a preflight's answer.

    Raises:
        Refused: 403 `origin_not_allowed`; 404 for a preflight to no route.
    """
    origin = exchange.header(b"origin")
    if origin is None:
        return None
    if origin not in listed:
        raise Refused(
            403,
            "origin_not_allowed",
            "This origin may not call Metrion from a browser. The operator can list it in "
            "METRION_CORS_ORIGINS.",
        )
    exchange.cors_origin = origin
    if exchange.method != "OPTIONS":
        return None
    if exchange.header(b"access-control-request-method") is None:
        return None
    return preflight_answer(exchange, _methods_of(exchange.path, routes))


def _methods_of(path: str, routes: RouteTable) -> str:
    try:
        routes.match("", path)
    except MethodNotAllowedError as error:
        return str(error)
    except UnknownRouteError:
        raise _unknown_route() from None
    raise AssertionError("no route takes an empty method")


def find_route(exchange: Exchange, routes: RouteTable, key_places: Iterable[str]) -> None:
    """Set route, provider and, if the path names it, model.

    Args:
        exchange: its credentials have been taken off.
        routes: all of them.
        key_places: where they stood.

    Raises:
        Refused: 404 `unknown_route`, 405 `method_not_allowed`.
    """
    try:
        exchange.route = routes.match(exchange.method, exchange.path, key_places)
    except UnknownRouteError:
        raise _unknown_route() from None
    except MethodNotAllowedError as error:
        raise Refused(
            405,
            "method_not_allowed",
            f"This path takes {error} only.",
            headers={"allow": str(error)},
        ) from None
    if TOKEN_PREFIX in exchange.route.path.lower():
        raise _unknown_route()  # a token in the place of a model's name: it leaves in no path
    exchange.provider = exchange.route.provider
    exchange.model = exchange.route.model


def _unknown_route() -> Refused:
    return Refused(
        404,
        "unknown_route",
        "Metrion has no such route. All begin with `/api/proxy`, as in "
        "`/api/proxy/openai/v1/chat/completions`; the README lists them.",
    )
