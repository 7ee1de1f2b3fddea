"""The image: linted; nobody's user; nothing of the working directory that is not named."""

import re
import subprocess
import sys
from pathlib import Path


def test_the_dockerfile_has_nothing_to_object_to(deploy):
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--failure-threshold", "style", deploy / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_as_nobodys_user(deploy):
    text = (deploy / "Dockerfile").read_text()
    stage = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", stage, re.MULTILINE)
    assert "--require-hashes" in text
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", text, re.MULTILINE)
    root = deploy.parent.parent
    for source in " ".join(copied).split():
        assert (root / source).exists(), source


def test_only_what_is_named_reaches_the_builder(deploy):
    ignore = (deploy / "Dockerfile.dockerignore").read_text().splitlines()
    lines = [line for line in ignore if line and not line.startswith("#")]
    assert lines[0] == "*"
    named = {line[1:] for line in lines if line.startswith("!")}
    text = (deploy / "Dockerfile").read_text()
    needed = re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE)
    assert named == set(" ".join(needed).split())
    # what an operator keeps beside compose.yaml
    assert {"scripts/deploy/secrets.d", "scripts/deploy/tls.d"} <= set(lines)
