"""The wheel carries everything that the checkout has, and the command works from it."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)),
        ],
        check=True,
        timeout=120,
        capture_output=True,
    )
    (built,) = folder.glob("metrion-*.whl")
    return built


def test_no_file_of_the_packages_is_missing(wheel: Path):
    tracked = subprocess.run(
        ["git", "ls-files", "addons", "api", "scripts", "storage"],
        cwd=ROOT,
        check=True,
        timeout=20,
        capture_output=True,
        text=True,
    ).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    assert tracked
    assert not set(tracked) - packed


def test_the_command_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path):
    """Not from the checkout: an environment with the wheel, and the dependencies of this one."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = environment / "lib" / version / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    own = Path(pytest.__file__).parent.parent
    # a plain folder of packages: its .pth files, with the editable checkout in them, do not count
    code = (
        f"import sys; sys.path.append({str(own)!r})\n"
        "import addons, scripts.cli\n"
        f"assert addons.__file__.startswith({str(packages)!r}), addons.__file__\n"
        "sys.argv = ['metrion', '--help']\nscripts.cli.main()\n"
    )
    done = subprocess.run(
        [environment / "bin" / "python", "-P", "-c", code],
        cwd=tmp_path,
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert "account" in done.stdout, done.stderr
