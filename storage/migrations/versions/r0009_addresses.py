"""Upper and lower case of an address are the same for ASCII letters only."""

from storage.migrations.scripts import run_scripts

revision = "r0009"
down_revision = "r0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Compare so."""
    run_scripts("r0009_addresses.sql")


def downgrade() -> None:
    """Compare by the database's rules again; fails if two addresses are one by them."""
    run_scripts("r0009_down.sql")
