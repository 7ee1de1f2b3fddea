"""Alert rules, and the outbox that mails wait in."""

from storage.migrations.scripts import run_scripts

revision = "r0003"
down_revision = "r0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    run_scripts("r0003_alerts.sql")


def downgrade() -> None:
    """Drop them."""
    run_scripts("r0003_down.sql")
