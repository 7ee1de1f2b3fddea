"""`scripts/run`: sets everything up, runs it until it is told to stop, and leaves nothing behind.

PostgreSQL (embedded, unless METRION_DATABASE_URL names one), schema, master keys, demo account,
then proxy, API and jobs. What dies is started again; the ready file has the current processes.
"""

import argparse
import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from addons.providers import load_providers
from scripts import valkey_server
from scripts.child_environment import base_environment, child_environment
from scripts.console import Console
from scripts.database_server import DatabaseServer
from scripts.installation import (
    DemoAccount,
    first_account,
    locked_data_dir,
    prepare_demo,
    prepare_master_keys,
)
from scripts.ports import HOST, claim_port, is_listening
from scripts.supervision import ChildProcess, ChildSpec, Fleet, Program, StartError, answers
from scripts.workers import WorkerSockets, worker_spec
from storage import private_files, roles
from storage.core_dumps import forbid_core_dumps
from storage.database_url import service_url
from storage.errors import SettingsError, StorageError
from storage.migrate import migrate
from storage.settings import Settings

_READY_SECONDS = 60.0
_HIGHEST_PORT = 65535
_WORKER_STOP_SECONDS = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM, SIGINT or SIGHUP; return the exit status."""
    options = _parse(arguments)
    forbid_core_dumps()
    with Console() as console:
        try:
            asyncio.run(_run(options, console))
        except (StorageError, StartError) as error:
            console.complain(str(error))
        except OSError as error:
            console.complain(_explain(error))
        else:
            return 0
    return 1


class Supervisor:
    """One run: the settings it has, and what it has started."""

    def __init__(self, settings: Settings, options: argparse.Namespace, console: Console) -> None:
        self.fleet = Fleet(console)
        self._settings = settings
        self._options = options
        self._console = console
        self._ready: dict[str, Any] = {}
        self._sockets: WorkerSockets | None = None

    async def run(self) -> None:
        """Set up, start, keep running; ends by cancellation.

        Raises:
            StorageError, StartError: it cannot be started; says why.
        """
        begun = time.monotonic()
        proxy_port = claim_port(self._options.proxy_port, "--proxy-port")
        if self._options.workers > 1:
            self._sockets = WorkerSockets(HOST, proxy_port, self._options.workers)
        api_port = claim_port(self._options.api_port, "--api-port")
        if self._settings.proxy_url is None:  # what the snippets on Integrate say
            update = {"proxy_url": _url(proxy_port)}
            self._settings = self._settings.model_copy(update=update)
        if self._settings.dashboard_url is None:  # where links in mails lead
            update = {"dashboard_url": _url(api_port)}
            self._settings = self._settings.model_copy(update=update)
        administrator = await self._start_ground()
        self._console.say("bringing the database's schema up to date")
        await asyncio.to_thread(migrate, administrator, roles.roles_folder(self._settings))
        account = await first_account(administrator)
        master_keys = await prepare_master_keys(self._settings, account)
        demo = await prepare_demo(self._settings, master_keys) if self._options.demo else None
        self._console.say("starting proxy, API and jobs")
        api, jobs = self._services(api_port)
        if self._sockets is None:
            await self.fleet.start(self._proxy(proxy_port), api, seconds=_READY_SECONDS)
        else:
            workers = self._workers(self._sockets)
            await self.fleet.start(*workers, seconds=_READY_SECONDS)
            await self.fleet.start(api, seconds=_READY_SECONDS)
        await self.fleet.start(jobs, seconds=_READY_SECONDS)  # it can wait, the others cannot
        self._ready = {
            "proxy_url": _url(proxy_port),
            "api_url": _url(api_port),
            "database_url": administrator.get_secret_value(),
        } | ({"token": demo.token, "email": demo.email} if demo else {})
        self._write_ready_file()
        self._tell(demo, has_accounts=account is not None, seconds=time.monotonic() - begun)
        await self.fleet.keep_running(self._write_ready_file)

    async def stop(self) -> None:
        """Stop all that was started; who knocks meanwhile is refused."""
        if self._sockets is not None:
            self._sockets.close()
        await self.fleet.stop()

    async def _start_ground(self) -> SecretStr:
        """Start what the rest stands on; return the administrator's address of the database."""
        ground: list[Program] = []
        if self._options.demo:
            ground.append(self._fake_provider())
        if self._options.workers > 1 and self._settings.valkey_url is None:
            ground.append(self._valkey())
        if self._settings.database_url is not None:
            self._console.say("using the PostgreSQL of METRION_DATABASE_URL")
            await self.fleet.start(*ground, seconds=_READY_SECONDS)
            return self._settings.database_url
        new = not (self._settings.data_dir / "postgres" / "cluster").exists()
        self._console.say(f"{'making' if new else 'starting'} the database")
        server = DatabaseServer(self._settings.data_dir, self._console)
        await self.fleet.start(*ground, server, seconds=_READY_SECONDS)
        return server.url

    def _fake_provider(self) -> ChildProcess:
        """Return the fake provider; requests go there unless METRION_ORIGINS says otherwise."""
        port = claim_port(0, "")
        origins = {provider.name: _url(port) for provider in load_providers()}
        self._settings = self._settings.model_copy(
            update={"origins": origins | self._settings.origins}
        )
        spec = ChildSpec(
            name="provider",
            # paced, so that a streamed answer is seen to stream
            command=_command("scripts.fake_provider", "--port", str(port), "--pace", "0.02"),
            environment=base_environment(),
            folder=self._settings.data_dir,
            is_ready=partial(is_listening, port),
        )
        return ChildProcess(spec, self._console)

    def _valkey(self) -> ChildProcess:
        """Return the Valkey in which several proxies count together."""
        port = claim_port(0, "")
        configuration, url = valkey_server.configure(self._settings.data_dir / "valkey", port)
        self._settings = self._settings.model_copy(update={"valkey_url": url})
        this = str(os.getpid())
        module = [sys.executable, "-P", "-m", "scripts.valkey_server"]
        spec = ChildSpec(
            name="valkey",
            command=[*module, this, str(configuration)],
            environment=base_environment(),
            folder=self._settings.data_dir,
            is_ready=partial(is_listening, port),
        )
        return ChildProcess(spec, self._console)

    def _proxy(self, port: int) -> ChildProcess:
        spec = ChildSpec(
            name="proxy",
            command=_command("scripts.proxy", "--port", str(port)),
            environment=self._environment("proxy", roles.PROXY),
            folder=self._settings.data_dir,
            is_ready=partial(answers, f"{_url(port)}/readyz"),
        )
        return ChildProcess(spec, self._console)

    def _workers(self, sockets: WorkerSockets) -> list[ChildProcess]:
        environment = self._environment("proxy", roles.PROXY)
        return [
            ChildProcess(
                worker_spec(
                    sockets,
                    number,
                    _command("scripts.proxy"),
                    environment,
                    self._settings.data_dir,
                    stop_seconds=_WORKER_STOP_SECONDS,
                ),
                self._console,
            )
            for number in range(1, self._options.workers + 1)
        ]

    def _services(self, api_port: int) -> tuple[ChildProcess, ChildProcess]:
        api = ChildSpec(
            name="api",
            command=_command("scripts.serve_api", "--port", str(api_port)),
            environment=self._environment("api", roles.API),
            folder=self._settings.data_dir,
            is_ready=partial(answers, f"{_url(api_port)}/readyz"),
        )
        jobs = ChildSpec(
            name="jobs",
            command=_command("scripts.jobs"),
            environment=self._environment("jobs", roles.JOBS),
            folder=self._settings.data_dir,
        )
        console = self._console
        return ChildProcess(api, console), ChildProcess(jobs, console)

    def _environment(self, process: str, role: str) -> dict[str, str]:
        return child_environment(process, self._settings, service_url(self._settings, role))

    def _write_ready_file(self) -> None:
        """Say where everything is; rewritten whenever a process has been started again."""
        if self._options.ready_file is None:
            return
        pids = self.fleet.pids
        pids.pop("provider", None)  # a part of the demo, not of Metrion
        document = json.dumps(self._ready | {"pids": pids}, indent=2)
        private_files.replace(self._options.ready_file, document + "\n")

    def _tell(self, demo: DemoAccount | None, *, has_accounts: bool, seconds: float) -> None:
        """Print where things are and what to do next."""
        lines = [
            f"ready after {seconds:.1f} s; stop with Ctrl-C",
            f"  gateway    {self._ready['proxy_url']}",
            f"  dashboard  {self._ready['api_url']}  (API: /api/docs)",
            f"  data       {self._settings.data_dir}",
        ]
        if self._settings.smtp_url is None:
            lines += [
                f"  mails      {self._settings.data_dir / 'mail'}",
                "             (no METRION_SMTP_URL: codes for signing in are there, too)",
            ]
        if demo is not None:
            lines += [
                f"the demo account {demo.email} has a fake provider behind it, and you can sign in",
                "at the dashboard with its address; its Metrion Key is",
                f"  {demo.token}",
                "try it:",
                _curl(self._ready["proxy_url"], demo.token),
            ]
        elif not has_accounts:
            lines.append(
                "there is no account yet: .venv/bin/metrion account create you@example.com"
            )
        self._console.say("\n".join(lines))


async def _run(options: argparse.Namespace, console: Console) -> None:
    settings = Settings.load(**({"data_dir": options.data_dir} if options.data_dir else {}))
    with locked_data_dir(settings.data_dir), _removed_at_end(options.ready_file):
        supervisor = Supervisor(settings, options, console)
        with _signals(supervisor.fleet, console) as told_to_stop:
            try:
                await supervisor.run()
            except asyncio.CancelledError:
                if not told_to_stop():
                    raise
                console.say("stopping")
            finally:
                await supervisor.stop()


@contextlib.contextmanager
def _signals(fleet: Fleet, console: Console) -> Generator[Any]:
    """Turn the first signal into the cancellation of this task, the next ones into hurry."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    received: list[signal.Signals] = []

    def receive(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1 and task is not None:
            task.cancel()
        else:
            console.say("stopping at once")
            fleet.hurry()

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, receive, number)
    try:
        yield lambda: bool(received)
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _removed_at_end(ready_file: Path | None) -> Generator[None]:
    """Remove the ready file before and after: it says that all of it answers."""
    if ready_file is None:
        yield
        return
    if not ready_file.parent.is_dir():
        raise SettingsError(f"--ready-file: there is no folder {ready_file.parent}")
    ready_file.unlink(missing_ok=True)
    try:
        yield
    finally:
        ready_file.unlink(missing_ok=True)


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def _command(module: str, *arguments: str) -> list[str]:
    """Return the command line of a child. It dies with this process (see scripts.service)."""
    return [sys.executable, "-P", "-m", "scripts.service", str(os.getpid()), module, *arguments]


def _curl(proxy_url: str, token: str) -> str:
    body = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'
    return (
        f"  curl {proxy_url}/api/proxy/openai/v1/chat/completions"
        f" -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{body}'"
    )


def _explain(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk is full: {error.filename or 'the data directory'}"
    return f"{error.strerror or error}: {error.filename}" if error.filename else str(error)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/run", description="Runs Metrion in the foreground until Ctrl-C or SIGTERM."
    )
    parser.add_argument(
        "--demo", action="store_true", help="make a demo account and answer it by a fake provider"
    )
    parser.add_argument("--data-dir", type=Path, help="where all is kept (default: .metrion)")
    parser.add_argument("--proxy-port", type=_port, default=8080, help="0: any free one")
    parser.add_argument("--api-port", type=_port, default=8000, help="0: any free one")
    parser.add_argument("--workers", type=_workers, default=1, help="proxy processes")
    parser.add_argument(
        "--ready-file", type=_absolute, help="written (0600) when everything answers"
    )
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"a port is between 0 and {_HIGHEST_PORT}")
    return port


def _workers(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _absolute(text: str) -> Path:
    return Path(text).absolute()


if __name__ == "__main__":
    sys.exit(main())
