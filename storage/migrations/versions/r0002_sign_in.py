"""Signing in: codes that were mailed, and the sessions that they open."""

from storage.migrations.scripts import run_scripts

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make both tables and the functions that work before an account is known."""
    run_scripts("r0002_sign_in.sql")


def downgrade() -> None:
    """Drop them: everybody has to sign in again."""
    run_scripts("r0002_down.sql")
