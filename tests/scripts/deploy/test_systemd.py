"""Units: verified by systemd itself, with this checkout in the place of /opt/metrion."""

import subprocess
import sys
from pathlib import Path

import pytest

UNITS = ["metrion-api.service", "metrion-jobs.service", "metrion-migrate.service", "metrion.target"]
HIGHEST_EXPOSURE = 30  # of 100; systemd calls everything below 40 (as 4.0) OK
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def units(deploy, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("units")
    for path in (deploy / "systemd").iterdir():
        text = path.read_text().replace("/opt/metrion/.venv/bin/python", sys.executable)
        (folder / path.name).write_text(text.replace("/opt/metrion", str(ROOT)))
    (folder / "metrion-proxy@8081.service").symlink_to("metrion-proxy@.service")
    return folder


def analyze(tool, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("systemd-analyze"), *arguments], capture_output=True, text=True, check=False
    )


def test_units_are_what_systemd_understands(units, tool):
    paths = [units / name for name in (*UNITS, "metrion-proxy@8081.service")]
    done = analyze(tool, "verify", "--man=no", *paths)
    said = [line for line in done.stderr.splitlines() if "metrion" in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize("name", ["metrion-api.service", "metrion-proxy@8081.service"])
def test_units_are_hardened(units, tool, name):
    done = analyze(
        tool, "security", "--offline=true", f"--threshold={HIGHEST_EXPOSURE}", units / name
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_every_service_is_hardened_alike(deploy):
    parts = {
        path.read_text().partition("CapabilityBoundingSet=")[2].partition("[Install]")[0]
        for path in (deploy / "systemd").glob("*.service")
    }
    assert len(parts) == 1
    assert "NoNewPrivileges=yes" in parts.pop()
