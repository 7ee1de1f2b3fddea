"""Providers, one data file each; a provider exists because its file is here.

A file defines `PROVIDER: Provider`. This package is pure data: it loads no mitmproxy, so that the
API service can read it too.
"""

import importlib
import pkgutil

from addons.providers.base import Provider


def load_providers() -> tuple[Provider, ...]:
    """Every provider that has a file in this folder, in the order of their names."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names if name != "base"]
    return tuple(module.PROVIDER for module in modules)
