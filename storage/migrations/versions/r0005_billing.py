"""What Stripe says of an account's subscription."""

from storage.migrations.scripts import run_scripts

revision = "r0005"
down_revision = "r0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    run_scripts("r0005_billing.sql")


def downgrade() -> None:
    """Drop them."""
    run_scripts("r0005_down.sql")
