"""Settings that work, but send keys over a network in clear or leave a file open."""

from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

from scripts.doctor.result import Result, finding, ok
from storage.settings import ENV_FILE, Settings

_HERE = {"localhost", "127.0.0.1", "::1"}


def check_settings(settings: Settings) -> Generator[Result]:
    """Look at the values; that they load has been seen before."""
    faults = list(_faults(settings))
    yield from faults
    if not faults:
        yield ok("settings", f"they load; region {settings.region}, data in {settings.data_dir}")


def _faults(settings: Settings) -> Generator[Result]:
    for provider, origin in settings.origins.items():
        parts = urlsplit(origin)
        if parts.scheme == "http" and parts.hostname not in _HERE:
            yield finding(
                "settings",
                f"METRION_ORIGINS: keys for {provider} go to {parts.hostname} unencrypted",
                "use its https:// origin",
            )
    if settings.proxy_url is not None:
        parts = urlsplit(settings.proxy_url)
        if parts.scheme == "http" and parts.hostname not in _HERE:
            yield finding(
                "settings",
                f"METRION_PROXY_URL: clients send their tokens to {parts.hostname} unencrypted",
                "put TLS in front (scripts/deploy/nginx.conf) and use https://",
            )
    if settings.anonymous_pass_through:
        yield finding(
            "settings",
            "METRION_ANONYMOUS_PASS_THROUGH is on: whoever reaches the proxy can use it as a relay",
            "turn it off, unless only your own network reaches the proxy",
        )
    private = Path(ENV_FILE)
    if private.is_file() and private.stat().st_mode & 0o077:
        yield finding(
            "settings",
            f"others can read {private.absolute()}, where passwords and keys may be",
            f"chmod 600 {private.absolute()}",
        )
