"""How a revision runs its SQL files."""

from pathlib import Path
from typing import Any, cast

import psycopg
from alembic import op

SQL_FOLDER = Path(__file__).parent / "sql"


def run_scripts(*names: str) -> None:
    """Run the named files of the `sql` folder, in this order, in the revision's transaction.

    They go to the driver as they are: neither `%` nor `:` means anything but to PostgreSQL.
    """
    driver = cast("psycopg.Connection[Any]", op.get_bind().connection.driver_connection)
    for name in names:
        driver.execute((SQL_FOLDER / name).read_bytes())
