"""From when on an account's log is whole: what a smaller plan let go does not come back."""

from storage.migrations.scripts import run_scripts

revision = "r0010"
down_revision = "r0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep it."""
    run_scripts("r0010_log_from.sql")


def downgrade() -> None:
    """Forget it."""
    run_scripts("r0010_down.sql")
