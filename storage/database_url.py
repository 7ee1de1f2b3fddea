"""Where the database is, as whom to go there, and what says that it is away.

Apart from `storage.database`, which brings SQLAlchemy with it: half a second and 25 MB that a proxy
process, which asks in single statements, does without.
"""

from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from storage import embedded
from storage.roles import read_password, roles_folder
from storage.settings import Settings

# A server that vanished without a word is noticed after about ten seconds, idle or sending.
_NETWORK: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "metrion",
}

AWAY: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # a standby, also one that was the primary before a failover
    errors.ReadOnlySqlTransaction,
    # it has ended the connection
    errors.IdleInTransactionSessionTimeout,
    errors.TransactionTimeout,
)
"""Nothing is wrong with what was asked: this server cannot do it, or not now."""


def conninfo(url: SecretStr) -> str:
    """Return libpq's connection string for `url`: with bounded waits, unless the URL sets its own.

    It holds the password.
    """
    return make_conninfo("", **{**_NETWORK, **conninfo_to_dict(url.get_secret_value())})


def service_url(settings: Settings, role: str) -> SecretStr:
    """Return the URL for a service role: the administrator's, with that role's name and password.

    If METRION_DATABASE_URL names the role itself, it is used as it is: a process that gets no other
    URL needs no password file and can do nothing else.

    Raises:
        EmbeddedDatabaseError: there is no METRION_DATABASE_URL and the embedded server is not
            running.
        RightsMissing: the role's password is not in the data directory.
    """
    administrator = administrator_url(settings).get_secret_value()
    parts = urlsplit(administrator)
    # to libpq, unlike to a form, a space is %20 and + is itself
    parameters = dict(parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True))
    if role in (parts.username, parameters.get("user")):
        return SecretStr(administrator)
    parameters.pop("user", None)
    parameters.pop("password", None)
    password = read_password(roles_folder(settings), role)
    hosts = parts.netloc.rpartition("@")[2]
    netloc = f"{role}:{quote(password, safe='')}@{hosts}"
    query = urlencode(parameters, quote_via=quote)
    return SecretStr(urlunsplit(parts._replace(netloc=netloc, query=query)))


def administrator_url(settings: Settings) -> SecretStr:
    """Return METRION_DATABASE_URL, else the embedded server's address.

    Raises:
        EmbeddedDatabaseError: the embedded server is not running.
    """
    if settings.database_url is not None:
        return settings.database_url
    return embedded.administrator_url(settings.data_dir)
