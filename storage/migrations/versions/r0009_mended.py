"""Addresses are the same by the case of ASCII letters only; two functions are mended."""

from storage.migrations.scripts import run_scripts

revision = "r0009"
down_revision = "r0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Compare addresses so; replace the functions."""
    run_scripts("r0009_addresses.sql", "r0009_functions.sql")


def downgrade() -> None:
    """Put back what was; fails if two addresses are one by the database's rules."""
    run_scripts("r0009_down.sql")
