"""The parts of the proxy process, put together from the settings, started and stopped."""

import asyncio
import contextlib
import time

from prometheus_client import CollectorRegistry

from addons.admission import Admission
from addons.body_checker import BodyChecker
from addons.fellow_workers import Fellows
from addons.gateway import Gateway
from addons.keyring import Keyring
from addons.probes import Probes, RequestMetrics
from addons.providers import load_providers
from addons.providers.base import RouteTable
from addons.recorder import Recorder
from addons.replay_cache import ReplayCache
from addons.shared_store import CONNECT_SECONDS, SharedStore
from storage import roles
from storage.callers import Caller, find_caller
from storage.database_url import service_url
from storage.errors import DatabaseUnavailable, SettingsError
from storage.invalidation import InvalidationListener
from storage.journal import Journal
from storage.pricing import PriceBook
from storage.response_cache import ResponseCache
from storage.sealing import MasterKeys
from storage.settings import Settings
from storage.single_statements import SingleStatements

# Waiting longer for the last rows would only delay a restart: they are on disk.
CLOSE_SECONDS = 5.0


class Service:
    """What runs in a proxy process beside mitmproxy.

    Args:
        settings: of this process.
        fellows: the other processes behind the same port; None: there are none.

    Attributes:
        gateway: the way of a request.
    """

    def __init__(self, settings: Settings, fellows: Fellows | None = None) -> None:
        keys = MasterKeys.load(settings)
        url = service_url(settings, roles.PROXY)
        try:
            routes = RouteTable(load_providers(), settings.origins)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        registry = CollectorRegistry()
        # Two: whatever the cache is about, callers are looked up without waiting for it.
        self._callers = SingleStatements(url)
        self._answers = SingleStatements(url)
        self._cache = ReplayCache(ResponseCache(self._answers, keys), registry)
        self._keys = keys
        self._keyring = Keyring(self._find_caller, self._is_listening, time.monotonic)
        self._listener = InvalidationListener(url, self._keyring.invalidate)
        self._recorder = Recorder(
            Journal(settings.data_dir / "journal"),
            url,
            PriceBook(settings.prices_file),
            metrics=registry,
        )
        self._checker = BodyChecker()
        shared = settings.valkey_url
        self._store = SharedStore(shared, registry) if shared is not None else None
        self.gateway = Gateway(
            settings,
            routes=routes,
            keyring=self._keyring,
            admission=Admission(
                self._store,
                rate_per_minute=settings.rate_per_minute,
                monthly_requests_free=settings.monthly_requests_free,
                now=time.time,
                digest=self._digest,
            ),
            keys=keys,
            recorder=self._recorder,
            checker=self._checker,
            cache=self._cache,
            probes=Probes(
                registry,
                self._is_stopping,
                self._is_listening,
                self._is_sharing if self._store is not None else None,
                fellows,
            ),
            metrics=RequestMetrics(registry),
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the listener; connect, so that no request waits for it.

        A database or a store that is away now may come back: requests do without until then.
        """
        loop = asyncio.get_running_loop()
        with contextlib.suppress(DatabaseUnavailable):
            await self._callers.look_up("SELECT 1", [])
        # Owned: cancelled by `stop`.
        self._tasks.append(loop.create_task(self._listener.run()))
        if self._store is not None:
            self._tasks.append(loop.create_task(self._store.run_forever()))
            await self._store.wait_until_connected(CONNECT_SECONDS)

    def start_recorder(self) -> None:
        """Start the recorder's threads, once requests can come in.

        They load the prices first, half a second of work that no request waits for. Rows that come
        before are in the journal.
        """
        self._recorder.start()

    def stop(self) -> None:
        """Stop; rows that the database does not take in time stay in the journal."""
        self.gateway.is_stopping = True
        self._checker.kill()
        for task in self._tasks:
            task.cancel()
        self._recorder.close(CLOSE_SECONDS)

    def flush(self, timeout: float) -> int:
        """Wait until all rows are in the database; return how many still are not."""
        return self._recorder.flush(timeout)

    async def close(self) -> None:
        """Stop, and close the connections to the database in good order."""
        self.stop()
        await self._checker.close()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._cache.close()
        await self._answers.close()
        await self._callers.close()

    async def _find_caller(self, token: str) -> Caller | None:
        return await find_caller(self._callers, self._keys.token_digests(token))

    def _digest(self, text: str) -> str:
        return self._keys.digests("limits", text)[0].hex()

    def _is_stopping(self) -> bool:
        return self.gateway.is_draining or self.gateway.is_stopping

    def _is_listening(self) -> bool:
        return self._listener.listening

    def _is_sharing(self) -> bool:
        return self._store is not None and self._store.is_up


def build_service() -> Service:
    """The service of this process.

    Raises:
        StorageError: with a sentence that says what to do.
    """
    return Service(Settings.load())
