"""Records that the dashboard sums up."""

from storage.migrations.scripts import run_scripts

revision = "r0007"
down_revision = "r0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    run_scripts("r0007_usage.sql")


def downgrade() -> None:
    """Drop them."""
    run_scripts("r0007_down.sql")
