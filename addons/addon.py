"""Metrion as an addon of mitmproxy, for those who look at flows: mitmdump, mitmweb, the console.

mitmproxy is an open proxy unless told otherwise, so this addon refuses to start it in any other way
than the one that is closed: a reverse target that does not exist, and no listener until the gateway
is ready. What does not pass our layer is killed. Where nobody looks: `addons.production`.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import asyncio
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from mitmproxy import contentviews, ctx, exceptions, http
from mitmproxy.addons.view import View
from mitmproxy.proxy import mode_specs

from addons.bounded_view import BoundedView
from addons.commands import MetrionCommands
from addons.connections import MAX_CLIENTS, TURNS_TO_ACCEPT, drain
from addons.content_view import MetrionContentview
from addons.flow_clients import NO_REPLAY, FlowClients, proxy_server
from addons.inspection import facts_in
from addons.log_redaction import key_log_refusal, redact_logs
from addons.service import Service, build_service
from storage.errors import StorageError

logger = logging.getLogger("metrion")

REVERSE_MODE = re.compile(r"reverse:http://metrion\.invalid(@\S+)?")
# In place of mitmproxy's own, unless somebody chose others: what Metrion knows is the comment. It
# gets the room of the path, beside which a comment has 20 characters.
WEB_COLUMNS = ("status", "comment", "time")


def refusal(options: object, environment: dict[str, str]) -> str | None:
    """Why mitmproxy's flags are not acceptable; None if they are.

    Args:
        options: mitmproxy's.
        environment: of the process.
    """
    modes = list(getattr(options, "mode", []))
    if len(modes) != 1 or not REVERSE_MODE.fullmatch(modes[0]):
        return "the mode has to be the closed one"
    if getattr(options, "server", True):
        return "the listener was opened before Metrion was ready"
    return key_log_refusal(environment) or _unsafe_option(options)


def _unsafe_option(options: object) -> str | None:
    """What is never acceptable, also not for a moment at run time."""
    if getattr(options, "proxy_debug", False):
        return "proxy_debug prints what goes over the wire, provider keys included"
    if not getattr(options, "validate_inbound_headers", True):
        return "validate_inbound_headers guards against request smuggling"
    if any(getattr(options, name, None) for name in ("client_replay", "server_replay")):
        return f"{NO_REPLAY}; `-r FILE` shows saved flows"
    return None


def right_line() -> str:
    """The command line that is accepted."""
    tool = Path(sys.argv[0]).name if sys.argv else "mitmdump"
    if tool not in ("mitmdump", "mitmweb", "mitmproxy"):
        tool = "mitmdump"
    return f"{tool} --mode reverse:http://metrion.invalid --set server=false -s addons/metrion.py"


class MetrionAddon(FlowClients):
    """The hooks.

    Args:
        build: makes the service once the event loop runs.
    """

    def __init__(self, build: Callable[[], Service] = build_service) -> None:
        super().__init__(lambda: self.clients < MAX_CLIENTS)
        self._build = build
        self._service: Service | None = None
        self._start: asyncio.Task[None] | None = None
        self._bounded = BoundedView()
        self._commands = MetrionCommands(self._flush, self.drain)
        self.addons = [self._commands]  # mitmproxy's name for parts

    # ---- start and stop ---------------------------------------------------------------------

    def running(self) -> None:
        """Start: mitmproxy is up, without a listener. Check how it was started, then open it."""
        redact_logs()
        reason = refusal(ctx.options, dict(os.environ))  # noqa: TID251 - no setting, a guard
        if reason:
            _give_up(f"Metrion does not start: {reason}. Start it with\n\n    {right_line()}\n")
            return
        _prepare_views()
        # Owned: cancelled by `done`.
        self._start = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            self._service = self._build()
            self._service.gateway.is_observed = True
            await self._service.start()
            self.policy = self._service.gateway
        except StorageError as error:
            _give_up(f"Metrion does not start: {error}")
            return
        except Exception:
            # Nobody awaits this task: without this, the tool would wait for ever and say nothing.
            logger.exception("Metrion cannot be started")
            _give_up("Metrion does not start: this is a defect of Metrion")
            return
        server = proxy_server()
        while not server.is_running:  # noqa: ASYNC110 - its `running` may come after ours
            await asyncio.sleep(0)
        ctx.options.update(
            connection_strategy="lazy",  # there is nothing to connect to
            block_global=False,  # clients with public addresses are what a gateway is for
        )
        ctx.options.update(server=True)
        # The option opens the listener in a task of mitmproxy's; this waits for it.
        await server.servers.update([mode_specs.ProxyMode.parse(ctx.options.mode[0])])
        if not self.listen_addrs():
            port = ctx.options.listen_port or 8080
            _give_up(f"Metrion does not start: port {port} is taken or not allowed")
            return
        self._service.start_recorder()

    def listen_addrs(self) -> list[tuple[str, int]]:
        """Where clients can come in."""
        return [address[:2] for address in proxy_server().listen_addrs()]

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, and let what is under way finish.

        Args:
            seconds: how long that may take.
        """
        if self._service is None:
            return
        gateway = self._service.gateway
        gateway.is_draining = True
        for _ in range(TURNS_TO_ACCEPT):
            await asyncio.sleep(0)
        await proxy_server().servers.update([])

        def refuse_all() -> None:
            gateway.is_stopping = True

        await drain(self.held, seconds, refuse_all)

    def configure(self, updated: set[str]) -> None:
        """Refuse at run time what `running` refuses at the start."""
        if self._start is None:
            return
        if "mode" in updated:
            raise exceptions.OptionsError("the mode cannot be changed while Metrion runs")
        if reason := _unsafe_option(ctx.options):
            raise exceptions.OptionsError(reason)

    def done(self) -> None:
        """End: what is recorded goes to disk and, if it can, to the database."""
        if self._start is not None:
            self._start.cancel()
        self._commands.cancel()
        if self._service is not None:
            self._service.stop()

    # ---- those who look ---------------------------------------------------------------------

    def response(self, flow: http.HTTPFlow) -> None:
        """An exchange of ours has ended: keep its row for `metrion.rows`, make room in the view."""
        if not flow.live:
            return  # read from a file
        row = facts_in(flow)
        if "latency_ms" in row:
            self._commands.add(row)
        view = cast("View | None", ctx.master.addons.get("view"))
        if view is not None:
            self._bounded.add(flow, view)

    def error(self, flow: http.HTTPFlow) -> None:
        """As `response`."""
        self.response(flow)

    def _flush(self, timeout: float) -> int:
        return self._service.flush(timeout) if self._service is not None else 0


def _prepare_views() -> None:
    """Teach the views to show what Metrion knows."""
    contentviews.add(MetrionContentview)
    if "web_columns" in ctx.options and not ctx.options.has_changed("web_columns"):
        ctx.options.update(web_columns=list(WEB_COLUMNS))


def _give_up(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - for the person at the terminal
    # mitmproxy has no way to end with an exit code from a hook; this ends its event loop.
    asyncio.get_running_loop().call_soon(sys.exit, 1)
