"""The API's process: `python -m scripts.serve_api --port 8000`.

JSON log lines go to standard error. SIGTERM and SIGINT end it gracefully, with exit code 0. If it
cannot start it says why in a sentence on standard error: exit code 2.
"""

import argparse
import gc
import signal
import socket
import sys

import uvicorn

from api.main import create_app
from storage.core_dumps import forbid_core_dumps
from storage.errors import StorageError
from storage.json_logs import log_as_json
from storage.settings import Settings

# Beyond these a request is refused with 503 instead of piling up with the others.
_MOST_CONNECTIONS = 1000
_KEEP_ALIVE_SECONDS = 65  # longer than the usual 60 s of a balancer: it, not we, closes first
_GRACE_SECONDS = 10
_MOST_HEAD_BYTES = 32 * 1024
_CANNOT_START = 2


def make_server(settings: Settings) -> uvicorn.Server:
    """Make the server, ready to `run(sockets=[…])`.

    Raises:
        StorageError: the app cannot work with these settings.
    """
    return uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            loop="asyncio",  # and not uvloop because it is there: it waits for the database
            access_log=False,  # it writes query strings; api.telemetry writes ours
            log_config=None,
            server_header=False,
            ws="none",
            lifespan="on",
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            h11_max_incomplete_event_size=_MOST_HEAD_BYTES,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket whose connections send small answers at once.

    asyncio sets TCP_NODELAY only where a socket says that it is TCP, which `create_server` leaves
    out: an answer's body would wait 40 ms for the client to acknowledge its head.

    Raises:
        OSError: it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    return socket.socket(family, listener.type, socket.IPPROTO_TCP, fileno=listener.detach())


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.serve_api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    options = parser.parse_args(arguments)
    log_as_json(sys.stderr)
    forbid_core_dumps()
    try:
        server = make_server(Settings.load())
        listener = listen(options.host, options.port)
    except StorageError as error:
        print(f"metrion api: {error}", file=sys.stderr)
        return _CANNOT_START
    except OSError as error:
        where = f"{options.host} port {options.port}"
        print(f"metrion api: cannot listen on {where}: {error.strerror}", file=sys.stderr)
        return _CANNOT_START
    # After a graceful end uvicorn raises the signal once more for whoever handled it before: the
    # default would kill the process by it, and an orderly end would look like a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    # What is loaded by now stays: a full collection need not look at it, which would take more than
    # a tenth of a second, in the middle of somebody's request.
    gc.freeze()
    server.run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
