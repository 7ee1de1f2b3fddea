"""What goes upstream: where to, with which headers, and the key that is opened for one write."""

from addons.credentials import KeyGuard
from addons.exchange import Exchange, Headers, Mode
from addons.headers import upstream_headers
from addons.providers.base import Origin
from storage.callers import key_binding
from storage.sealing import MasterKeys


def prepare(exchange: Exchange, origin: Origin) -> None:
    """Say what the provider gets, but for its key.

    Args:
        exchange: after routing; its body has been checked.
        origin: where the provider listens.
    """
    if exchange.route is None:
        raise RuntimeError("nothing to forward without a route")
    exchange.upstream_headers = upstream_headers(exchange, origin.host_header)
    query = f"?{exchange.query}" if exchange.query else ""
    exchange.upstream_path = exchange.route.path + query


def wire_headers(exchange: Exchange, keys: MasterKeys) -> Headers:
    """The header that holds the provider key, opened for this one write.

    The caller puts it into the head that is written and drops it. What stays until the exchange
    ends is the guard that keeps the key out of what comes back.
    """
    route, caller = exchange.route, exchange.caller
    if route is None:
        raise RuntimeError("no key without a route")
    if exchange.mode is Mode.PASS_THROUGH:
        if exchange.own_key is None:
            raise RuntimeError("a caller's own key is written once")
        key, exchange.own_key = exchange.own_key.encode(), None
    elif caller is not None:
        provider = route.provider.name
        key = keys.open(caller.sealed_keys[provider], key_binding(caller.account_id, provider))
    else:
        raise RuntimeError("no stored key without an account")
    exchange.guard = KeyGuard(key)
    place = route.key_place
    return [(place.header.encode(), place.prefix.encode() + key)]
