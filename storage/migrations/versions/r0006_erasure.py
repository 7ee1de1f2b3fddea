"""Accounts on their way out."""

from storage.migrations.scripts import run_scripts

revision = "r0006"
down_revision = "r0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    run_scripts("r0006_erasure.sql")


def downgrade() -> None:
    """Drop them."""
    run_scripts("r0006_down.sql")
