"""`python -m scripts.fake_provider`: the stand-in as a process of its own."""

import argparse
import asyncio
import json
import signal
import ssl
import sys

from scripts.fake_provider.records import Records
from scripts.fake_provider.server import HOST, Server


async def serve(port: int, tls: ssl.SSLContext | None, pace: float) -> None:
    """Serve until SIGTERM or SIGINT; says `{"origin": …}` on standard output when ready.

    In the end it says how many connections there were: `{"connections": …}`.

    Raises:
        OSError: the port is taken.
    """
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    # nobody can ask this process what it got
    server = Server(Records(), recording=False, pace=pace)
    bound = await server.listen(port, tls)
    scheme = "https" if tls else "http"
    print(json.dumps({"origin": f"{scheme}://{HOST}:{bound}"}), flush=True)
    await ended.wait()
    await server.close()
    print(json.dumps({"connections": server.accepted}), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.fake_provider", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--pace", type=float, default=0.0, help="seconds between a stream's events (a demo: 0.05)"
    )
    parser.add_argument("--certificate", help="PEM file with certificate and key: speak TLS")
    options = parser.parse_args(arguments)
    tls = None
    if options.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.certificate)
    try:
        asyncio.run(serve(options.port, tls, options.pace))
    except OSError as error:
        print(f"fake provider: cannot listen on port {options.port}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
