"""Tools that check manifests: from the development dependencies, or the system's where installed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[3] / "scripts" / "deploy"


@pytest.fixture(scope="session")
def deploy() -> Path:
    """The folder with everything that deploys."""
    return DEPLOY


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a program of the system. Without it: skipped, or failed in CI, which installs it."""

    def find(name: str) -> str:
        path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        if path is None:
            assert "CI" not in os.environ, f"{name} is not installed: see .ci/run"
            pytest.skip(f"{name} is not installed")
        return path

    return find
