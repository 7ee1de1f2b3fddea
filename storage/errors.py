"""What can go wrong with what is kept: one tree, every leaf a sentence a person can act on.

No message holds a secret value (token, key, password, master key): it names the place, never what
is in it.
"""


class StorageError(Exception):
    """Root of everything this package raises on purpose."""


class SettingsError(StorageError):
    """The environment, `.env` or command line says something Metrion cannot work with."""


class DatabaseUnavailable(StorageError):  # noqa: N818 - reads as what it is, in `except` too
    """The database cannot be reached now; the same call may work later."""


class SchemaError(StorageError):
    """The database's schema does not fit this program: newer than it, or not Metrion's."""


class RightsMissing(StorageError):  # noqa: N818
    """The database role in use may not do this, or its password is not where it belongs."""


class RowsRejected(StorageError):  # noqa: N818
    """PostgreSQL says that the rows themselves are bad: trying again will not help."""


class SealingError(StorageError):
    """A sealed value does not open: moved, changed, or its key is not on the ring."""


class MasterKeyError(StorageError):
    """The master key is missing, malformed, weak, or readable by others."""


class InvalidValue(StorageError):  # noqa: N818
    """A value given by a caller cannot be what it should be; the message does not repeat it."""


class NotFound(StorageError):  # noqa: N818
    """What was asked for does not exist (or not for this account)."""


class AlreadyExists(StorageError):  # noqa: N818
    """What was to be made is there already."""


class PlanRequired(StorageError):  # noqa: N818
    """The account's plan does not have what was asked for.

    Attributes:
        plan: the name of the smallest plan that has it.
    """

    def __init__(self, message: str, plan: str) -> None:
        super().__init__(message)
        self.plan = plan


class BillingUnavailable(StorageError):  # noqa: N818
    """Stripe cannot be asked now, or did not do what was asked; the same call may work later."""


class ExportUnderWay(StorageError):  # noqa: N818
    """An account's export has not ended yet, or as many others as may be at once."""


class TooManyCodes(StorageError):  # noqa: N818
    """An address was sent enough codes for now.

    Attributes:
        seconds: how long until it may be sent the next one.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__("this address was sent enough codes for now")
        self.seconds = seconds


class TooSoon(StorageError):  # noqa: N818
    """It may be done again, but not yet; the message says how often.

    Attributes:
        seconds: how long until then.
    """

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class EmbeddedDatabaseError(StorageError):
    """The embedded PostgreSQL cannot be found, made, started or stopped."""
