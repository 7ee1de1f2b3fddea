"""Indexes for sums that tell statuses apart, by what a filter wants of them."""

from storage.migrations.scripts import run_scripts

revision = "r0008"
down_revision = "r0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    run_scripts("r0008_filtered_sums.sql")


def downgrade() -> None:
    """Drop them."""
    run_scripts("r0008_down.sql")
