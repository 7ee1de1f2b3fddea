"""What the routes work with: made once when the app is made, found again in `app.state`."""

from dataclasses import dataclass
from typing import Self

from addons.providers import load_providers
from addons.providers.base import Provider
from api.billing import StripeBilling
from api.mail import Mailer
from api.security import (
    CHECKOUTS_PER_WINDOW,
    FAILED_TOKENS_PER_MINUTE,
    SIGN_IN_SECONDS,
    SIGN_INS_PER_WINDOW,
    Attempts,
)
from api.telemetry import Metrics
from storage import roles
from storage.database import Database
from storage.database_url import service_url
from storage.export import MOST_AT_ONCE, Exports
from storage.sealing import MasterKeys
from storage.settings import Settings
from storage.single_statements import SingleStatements


@dataclass(frozen=True, slots=True)
class Services:
    """The process's parts; one of each."""

    settings: Settings
    database: Database
    lookups: SingleStatements
    """Who is calling: with each request, before anything else."""
    keys: MasterKeys
    providers: tuple[Provider, ...]
    mailer: Mailer
    failed_tokens: Attempts
    code_requests: Attempts
    failed_codes: Attempts
    billing: StripeBilling | None
    checkouts: Attempts
    metrics: Metrics
    exports: Exports

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Make them all. Nothing is connected yet; `close` them at the end.

        Raises:
            MasterKeyError: there is no usable master key.
            RightsMissing: the password of the API's database role is not there.
            EmbeddedDatabaseError: the embedded server is not running.
            SettingsError: METRION_SMTP_URL has not the form of one.
        """
        return cls(
            settings=settings,
            database=Database(service_url(settings, roles.API)),
            lookups=SingleStatements(service_url(settings, roles.API)),
            keys=MasterKeys.load(settings),
            providers=load_providers(),
            mailer=Mailer.open(settings),
            failed_tokens=Attempts(FAILED_TOKENS_PER_MINUTE),
            code_requests=Attempts(SIGN_INS_PER_WINDOW, SIGN_IN_SECONDS),
            failed_codes=Attempts(SIGN_INS_PER_WINDOW, SIGN_IN_SECONDS),
            billing=StripeBilling.open(settings),
            checkouts=Attempts(CHECKOUTS_PER_WINDOW, SIGN_IN_SECONDS),
            metrics=Metrics(),
            # of their own: dashboards do not wait for exports
            exports=Exports(
                Database(service_url(settings, roles.API), pool_size=MOST_AT_ONCE), settings.region
            ),
        )

    async def close(self) -> None:
        """Close what is open."""
        if self.billing is not None:
            self.billing.close()
        await self.exports.close()
        await self.lookups.close()
        await self.database.close()
