"""What Stripe says of an account's subscription."""

from storage.migrations.scripts import run_scripts

revision = "r0005"
down_revision = "r0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make both tables, and the functions for webhooks, jobs and erasure."""
    run_scripts("r0005_billing.sql")


def downgrade() -> None:
    """Drop them: plans stay as they are, subscriptions go on at Stripe."""
    run_scripts("r0005_down.sql")
