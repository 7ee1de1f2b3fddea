"""Ports of this machine: taken ones are found out before anything is started."""

import asyncio
import errno
import socket
import time
from typing import Final

from storage.errors import SettingsError

HOST: Final = "127.0.0.1"
"""Where everything listens: what others may reach stands behind a balancer with TLS."""

# A predecessor that was killed takes its children with it, but not in the same instant.
_PATIENCE_SECONDS = 2.0
_POLL_SECONDS = 0.1


def claim_port(port: int, option: str) -> int:
    """Return `port` if nobody listens there, a free one for 0.

    Raises:
        SettingsError: it is taken, or not for this user; names the option to choose another with.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return _try_to_listen(port)
        except PermissionError:
            raise SettingsError(f"port {port} is not for this user: choose {option}") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if time.monotonic() > deadline:
                raise SettingsError(f"port {port} is taken: choose another {option}") from None
            time.sleep(_POLL_SECONDS)


async def is_listening(port: int) -> bool:
    """Say whether somebody listens there."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


def _try_to_listen(port: int) -> int:
    with socket.socket() as listener:
        # as servers do: connections of a predecessor that linger do not matter
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
        return listener.getsockname()[1]
