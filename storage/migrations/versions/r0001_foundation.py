"""Accounts, tokens, provider keys, the request log and its sums, behind row-level security."""

from storage.migrations.scripts import run_scripts

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all of it."""
    run_scripts(
        "r0001_tables.sql", "r0001_partitions.sql", "r0001_functions.sql", "r0001_ingest.sql"
    )


def downgrade() -> None:
    """Drop all of it, with everything that is kept."""
    run_scripts("r0001_down.sql")
