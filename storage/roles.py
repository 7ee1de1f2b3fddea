"""The database's service roles and where their passwords are."""

from pathlib import Path
from typing import Final

from storage import private_files
from storage.errors import RightsMissing
from storage.settings import Settings

PROXY: Final = "metrion_proxy"
API: Final = "metrion_api"
JOBS: Final = "metrion_jobs"
OWNER: Final = "metrion_owner"
DEFINER: Final = "metrion_definer"
LOGIN_ROLES: Final = (PROXY, API, JOBS)


def roles_folder(settings: Settings) -> Path:
    """Return the folder in the data directory that holds the roles' passwords."""
    return settings.data_dir / "roles"


def password_path(folder: Path, role: str) -> Path:
    """Return the file with a login role's password; `storage.migrate` makes it."""
    return folder / f"{role}.password"


def read_password(folder: Path, role: str) -> str:
    """Return a login role's password.

    Raises:
        RightsMissing: the file is not there, or others can read it.
    """
    path = password_path(folder, role)
    try:
        return private_files.read(path).strip()
    except FileNotFoundError:
        raise RightsMissing(
            f"there is no password for {role} at {path}: run `metrion migrate`"
        ) from None
    except OSError as error:
        raise RightsMissing(f"the password of {role} cannot be read: {error}") from None
