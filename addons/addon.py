"""Metrion as an addon of mitmproxy: starts the gateway, puts its layer into every connection.

mitmproxy is an open proxy unless told otherwise, so this addon refuses to start it in any other way
than the one that is closed: a reverse target that does not exist, and no listener until the gateway
is ready. What does not pass our layer is killed.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import asyncio
import collections
import contextlib
import logging
import os
import re
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import certifi
from mitmproxy import contentviews, ctx, exceptions, http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.view import View
from mitmproxy.connection import Client
from mitmproxy.log import ALERT
from mitmproxy.master import Master
from mitmproxy.proxy import layer, mode_specs
from mitmproxy.proxy.mode_servers import ServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.bounded_view import BoundedView
from addons.commands import MetrionCommands
from addons.connections import Acceptor, FlowClient, Held, close_socket, closed, drain
from addons.content_view import MetrionContentview
from addons.direct.server import DirectServer
from addons.inspection import MARK, facts_in
from addons.layer import GatewayLayer, closed_layer, gateway_layer
from addons.log_redaction import redact_logs
from addons.policy import Policy
from addons.service import Service, build_service
from addons.waiting import MetrionStepHook
from storage.errors import StorageError

logger = logging.getLogger("metrion")

REVERSE_MODE = re.compile(r"reverse:http://metrion\.invalid(@\S+)?")
MAX_CLIENTS = 4096
# HTTP/2 clients may have 100 requests under way; mitmproxy's own bound is 5 connections per target.
MAX_CONNECTIONS_PER_CLIENT = 128
# In place of mitmproxy's own, unless somebody chose others: what Metrion knows is the comment. It
# gets the room of the path, beside which a comment has 20 characters.
WEB_COLUMNS = ("status", "comment", "time")
NO_REPLAY = "Metrion replays nothing: a saved flow has no credentials"
# What waits at the listener when it is to be closed is taken before: select, accept, transport.
TURNS_TO_ACCEPT = 3
_KEY_LOG_VARIABLES = ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE")


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
    if any(environment.get(name) for name in _KEY_LOG_VARIABLES):
        return "SSLKEYLOGFILE would write TLS keys to disk; unset it"
    return _unsafe_option(options)


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


class MetrionAddon:
    """The hooks.

    Args:
        build: makes the service once the event loop runs.
        is_observed: make flows, for mitmweb and its like; production has nobody who looks.
        listeners: sockets to take connections from; none: mitmproxy opens its own.
    """

    def __init__(
        self,
        build: Callable[[], Service] = build_service,
        *,
        is_observed: bool = True,
        listeners: Sequence[socket.socket] = (),
    ) -> None:
        self._build = build
        self._is_observed = is_observed
        self._service: Service | None = None
        self._layers: dict[str, GatewayLayer] = {}
        self._start: asyncio.Task[None] | None = None
        self._listeners = listeners
        self._acceptor: Acceptor | None = None
        self._direct: DirectServer | None = None
        self._bounded = BoundedView()
        self._commands = MetrionCommands(self._flush, self.drain)
        self.addons = [self._commands] if is_observed else []  # mitmproxy's name for parts

    # ---- start and stop ---------------------------------------------------------------------

    def running(self) -> None:
        """Start: mitmproxy is up, without a listener. Check how it was started, then open it."""
        redact_logs()
        reason = refusal(ctx.options, dict(os.environ))  # noqa: TID251 - no setting, a guard
        if reason:
            _give_up(f"Metrion does not start: {reason}. Start it with\n\n    {right_line()}\n")
            return
        if self._is_observed:
            _prepare_views()
        # Owned: cancelled by `done`.
        self._start = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            self._service = self._build()
            self._service.gateway.is_observed = self._is_observed
            await self._service.start()
        except StorageError as error:
            _give_up(f"Metrion does not start: {error}")
            return
        except Exception:
            # Nobody awaits this task: without this, the tool would wait for ever and say nothing.
            logger.exception("Metrion cannot be started")
            _give_up("Metrion does not start: this is a defect of Metrion")
            return
        server = _proxy_server()
        while not server.is_running:  # noqa: ASYNC110 - its `running` may come after ours
            await asyncio.sleep(0)
        ctx.options.update(
            connection_strategy="lazy",  # there is nothing to connect to
            block_global=False,  # clients with public addresses are what a gateway is for
        )
        mode = mode_specs.ProxyMode.parse(ctx.options.mode[0])
        if self._is_observed:
            ctx.options.update(server=True)
            # The option opens the listener in a task of mitmproxy's; this waits for it.
            await server.servers.update([mode])
        else:
            await self._open_directly(self._service.gateway, ServerInstance.make(mode, server))
        if not self.listen_addrs():
            port = ctx.options.listen_port or 8080
            _give_up(f"Metrion does not start: port {port} is taken or not allowed")
            return
        self._service.start_recorder()

    async def _open_directly(self, policy: Policy, tls_clients: ServerInstance[ProxyMode]) -> None:
        """Nobody looks at flows: open a listener of our own; TLS is still mitmproxy's."""
        options = ctx.options
        trusted = options.ssl_verify_upstream_trusted_ca or certifi.where()
        tls = ssl.create_default_context(cafile=trusted)
        tls.set_alpn_protocols(["http/1.1"])
        direct = DirectServer(
            policy,
            tls,
            tls_clients.handle_stream,
            lambda: self.clients < MAX_CLIENTS,
        )
        if self._listeners:
            self._acceptor = Acceptor(self._listeners, direct.client)
            self._direct = direct
            return
        with contextlib.suppress(OSError):  # the caller says that there is no listener
            await direct.start(
                options.listen_host, 8080 if options.listen_port is None else options.listen_port
            )
            self._direct = direct

    def listen_addrs(self) -> list[tuple[str, int]]:
        """Where clients can come in."""
        if self._acceptor is not None:
            return [each.getsockname()[:2] for each in self._listeners]
        if self._direct is not None:
            return self._direct.listen_addrs()
        return [address[:2] for address in _proxy_server().listen_addrs()]

    @property
    def clients(self) -> int:
        """How many clients there are."""
        return len(self._layers) + (self._direct.clients if self._direct is not None else 0)

    def _held(self) -> dict[str, Held]:
        """All connections of clients, of either wire."""
        server = _proxy_server()
        held: dict[str, Held] = {
            client_id: FlowClient(server, client_id, self._layers.get(client_id))
            for client_id in server.connections
            if isinstance(client_id, str)
        }
        if self._direct is not None:
            held |= self._direct.held()
        return held

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
        if self._acceptor is not None:
            await self._acceptor.stop()
        if self._direct is not None:
            self._direct.stop_listening()
        await _proxy_server().servers.update([])

        def refuse_all() -> None:
            gateway.is_stopping = True

        await drain(self._held, seconds, refuse_all)
        if self._direct is not None:
            self._direct.close()

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
        if self._direct is not None:
            self._direct.close()
        if self._service is not None:
            self._service.stop()

    # ---- connections ------------------------------------------------------------------------

    def client_connected(self, client: Client) -> None:
        """Bound the number of clients, and raise the bound on each one's connections."""
        if self.clients >= MAX_CLIENTS:
            client.error = "too many connections"
            return
        handler = _proxy_server().connections.get(client.id)
        if handler is not None:
            handler.max_conns = collections.defaultdict(
                lambda: asyncio.Semaphore(MAX_CONNECTIONS_PER_CLIENT)
            )
        if self._service is not None:
            seconds = self._service.gateway.idle_timeout
            asyncio.get_running_loop().call_later(seconds, self._close_if_silent, client)

    def _close_if_silent(self, client: Client) -> None:
        """A client that has not come as far as HTTP (no byte, or half a TLS handshake) is closed.

        From there on the layer watches it; mitmproxy alone would wait for ten minutes.
        """
        ours = self._layers.get(client.id)
        handler = _proxy_server().connections.get(client.id)
        if handler is not None and (ours is None or not ours.has_started):
            transport = handler.transports.get(client)
            if transport is not None and transport.handler is not None:
                transport.handler.cancel("no request came")

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Put our layer on the connection; if that fails in any way, close it."""
        context = nextlayer.context
        try:
            ours = gateway_layer(nextlayer, self._service.gateway) if self._service else None
        except Exception:
            logger.exception("a connection could not be set up")
            ours = None
        if ours is None:
            nextlayer.layer = closed_layer(context)
        else:
            self._layers[context.client.id] = ours

    async def client_disconnected(self, client: Client) -> None:
        """Hold the providers' connections open while answers are read to their end.

        mitmproxy closes them when this hook returns (`proxy/server.py`, `handle_client`).
        """
        ours = self._layers.get(client.id)
        if ours is None or self._service is None:
            return
        try:
            async with asyncio.timeout(self._service.gateway.drain_seconds):
                await ours.is_empty.wait()
        except TimeoutError:
            logger.info("an answer was not read to its end: its client had left")
        finally:
            del self._layers[client.id]
            await closed(_proxy_server(), client.id)

    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        """See that the provider's socket is closed."""
        close_socket(_proxy_server(), data.client.id, data.server)

    async def metrion_step(self, step: "asyncio.Task[object]") -> None:
        """Wait for a step of the gateway (see `MetrionStepHook`)."""
        await asyncio.wait([step])

    # ---- what did not come through our layer ------------------------------------------------

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Kill a flow that is not ours: it would be forwarded without any check.

        A replayed one still has our mark: it was ours when it was recorded. One that is read from a
        file to be looked at (`-r`) is not live and goes nowhere.
        """
        if not flow.killable:
            return
        if flow.is_replay:
            logger.log(ALERT, "%s; send the request again", NO_REPLAY)
            flow.comment = f"not replayed · {flow.comment}"
        if flow.is_replay or MARK not in flow.metadata:
            flow.kill()

    def request(self, flow: http.HTTPFlow) -> None:
        """As `requestheaders`: replays of whole requests start here."""
        self.requestheaders(flow)

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


def install(master: Master, addon: MetrionAddon) -> None:
    """Add the addon where it has to stand: before mitmproxy's NextLayer (the first to answer wins).

    Scripts (`-s`) stand there by themselves.
    """
    master.addons.register(addon)
    master.addons.chain.insert(0, addon)


assert MetrionStepHook.name == "metrion_step"  # noqa: S101 - the hook above is found by this name


def _proxy_server() -> Proxyserver:
    return cast("Proxyserver", ctx.master.addons.get("proxyserver"))


def _give_up(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - for the person at the terminal
    # mitmproxy has no way to end with an exit code from a hook; this ends its event loop.
    asyncio.get_running_loop().call_soon(sys.exit, 1)
