"""scripts/venv on a tiny project: real environments and pip, packages from a local folder only."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

VENV = Path(__file__).parents[2] / "scripts" / "venv"

# What `pip install -e` asks of a build backend, in a few lines instead of a package to fetch.
BACKEND = """
import zipfile

METADATA = "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n"
WHEEL = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"

def build_editable(directory, config_settings=None, metadata_directory=None):
    name = "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("tiny.pth", "")
        wheel.writestr("tiny-1.dist-info/METADATA", METADATA)
        wheel.writestr("tiny-1.dist-info/WHEEL", WHEEL)
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return name
"""


def make_wheel(folder: Path, name: str, version: int) -> str:
    """Make a package with one module; return its line for a lock file."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version}\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


class Project:
    """A folder with scripts/venv and lock files."""

    def __init__(self, root: Path, wheels: Path) -> None:
        self.root = root
        self.wheels = wheels
        (root / "scripts").mkdir(parents=True)
        shutil.copy(VENV, root / "scripts")
        (root / "backend.py").write_text(BACKEND)
        (root / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "tiny"\nversion = "1"\n'
        )
        self.lock("requirements.lock", "metrion_a", 1)
        self.lock("requirements-dev.lock", "metrion_b", 1)

    def lock(self, file: str, package: str, version: int) -> None:
        (self.root / file).write_text(make_wheel(self.wheels, package, version))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / "scripts" / "venv", *arguments],
            env={
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(self.wheels),
                "PIP_CONFIG_FILE": os.devnull,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        out, errors = process.communicate(timeout=120)
        return process.returncode, out, errors

    def has(self, package: str, version: int) -> bool:
        probe = f"import {package}; assert {package}.version == {version}"
        return (
            subprocess.run(
                [self.root / ".venv/bin/python", "-c", probe], capture_output=True, check=False
            ).returncode
            == 0
        )


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One project for this module's tests, one after the other: an environment takes seconds."""
    return Project(tmp_path_factory.mktemp("with space") / "project", tmp_path_factory.mktemp("w"))


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 143), (signal.SIGKILL, -9)])
def test_a_signal_ends_an_installation(project: Project, how: signal.Signals, status: int):
    shutil.rmtree(project.root / ".venv", ignore_errors=True)
    # a shell that starts the suite in the background has it ignore SIGINT, and all that come from it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = project.start("echo", "never")
    signal.signal(signal.SIGINT, before)
    eventually((project.root / ".venv" / "pyvenv.cfg").exists)
    process.send_signal(how)
    out, _ = process.communicate(timeout=60)  # until whoever inherited the pipe has ended, too
    assert (process.returncode, out) == (status, "")


def test_after_that_two_at_once_install_once_and_both_go_on(project: Project):
    one = project.start("sh", "-c", "echo $$")
    eventually((project.root / ".venv").exists)
    other = project.start("--dev", "echo", "two  words")
    said_one, said_other = one.communicate(timeout=120), other.communicate(timeout=120)
    assert (one.returncode, other.returncode) == (0, 0)
    assert said_one[0] == f"{one.pid}\n"  # the command has taken the script's process
    assert said_other[0] == "two  words\n"
    said = said_one[1] + said_other[1]
    for sentence in (
        "making .venv",
        "installing 1 packages",
        "installing what checks and tests need",
        "waiting for another installation",
    ):
        assert said.count(sentence) == 1
    assert project.has("metrion_a", 1)
    assert project.has("metrion_b", 1)


def test_nothing_to_do_is_done_in_silence(project: Project):
    before = sorted(path.stat().st_mtime_ns for path in (project.root / ".venv").rglob("*"))
    assert project.run("--dev") == (0, "", "")
    assert project.run() == (0, "", "")
    after = sorted(path.stat().st_mtime_ns for path in (project.root / ".venv").rglob("*"))
    assert before == after
    # also when no Python can be found any more
    assert project.run("/bin/echo", "hello", PATH="/usr/bin:/bin", HOME="/")[:2] == (0, "hello\n")


def test_the_commands_status_is_ours(project: Project):
    assert project.run("sh", "-c", "exit 7")[0] == 7


def test_a_changed_lock_file_is_followed(project: Project):
    project.lock("requirements.lock", "metrion_a", 2)
    status, _, said = project.run()
    assert (status, "making .venv" in said) == (0, False)
    assert project.has("metrion_a", 2)


def test_what_is_not_what_was_locked_is_not_installed(project: Project):
    project.lock("requirements.lock", "metrion_a", 3)
    lock = project.root / "requirements.lock"
    good = lock.read_text()
    lock.write_text(good[:-10] + "000000000\n")
    status, _, said = project.run("echo", "never")
    assert status == 1
    assert "DO NOT MATCH THE HASHES" in said
    assert said.endswith(
        "the installation failed: what pip said is above; the next call tries again\n"
    )


def test_a_moved_environment_is_made_anew(project: Project):
    moved = Project(project.root.parent / "moved", project.wheels)
    shutil.copytree(project.root / ".venv", moved.root / ".venv", symlinks=True)
    process = moved.start()
    assert process.stderr is not None
    assert process.stderr.readline().startswith("metrion: making .venv")
    process.terminate()
    process.communicate(timeout=60)


def test_without_a_python_it_says_what_to_do(tmp_path: Path):
    project = Project(tmp_path / "project", tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("dirname", "cksum", "cat", "sh"):
        (tools / tool).symlink_to(shutil.which(tool))
    too_old = tools / "python3"
    too_old.write_text("#!/bin/sh\nexit 1\n")
    too_old.chmod(0o755)
    status, _, said = project.run(PATH=str(tools), HOME=str(tmp_path))
    assert status == 1
    assert said.startswith("metrion: Python 3.13 or newer is needed; there is none in PATH")
    assert said.count("\n") == 1
    assert not (project.root / ".venv").exists()


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("HOME", ".pyenv/versions/3.13.1/bin/python"),
        ("HOME", ".local/share/uv/python/cpython-3.13.1-linux/bin/python3"),
        ("PYENV_ROOT", "versions/3.14.0/bin/python"),
        ("UV_PYTHON_INSTALL_DIR", "cpython-3.14.0-linux/bin/python3"),
    ],
)
def test_finds_a_python_that_is_not_in_path(tmp_path: Path, variable: str, place: str):
    project = Project(tmp_path / "project", tmp_path)
    python = tmp_path / "home" / place
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && case $2 in *flock*) echo found; exit 1;; esac\n')
    python.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/", variable: str(tmp_path / "home")}
    status, said, _ = project.run(**environment)
    assert (status, said) == (1, "found\n")
