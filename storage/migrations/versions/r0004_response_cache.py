"""Answers that are kept to be given again, and what that saves."""

from storage.migrations.scripts import run_scripts

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them, and the way into the log that takes what was saved."""
    run_scripts("r0004_response_cache.sql", "r0004_ingest.sql")


def downgrade() -> None:
    """Drop them; the way into the log is the first one again."""
    run_scripts("r0004_down.sql", "r0001_ingest.sql")
