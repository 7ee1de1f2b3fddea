"""Answers that are kept to be given again."""

from storage.migrations.scripts import run_scripts

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    run_scripts("r0004_response_cache.sql")


def downgrade() -> None:
    """Drop them."""
    run_scripts("r0004_down.sql")
