"""Records for every tab of the dashboard, histograms that add up, indexes for the log's filters.

With 10 million rows in the log it takes some minutes, and nothing is written to the log meanwhile:
rows wait in the proxies' journals.
"""

from storage.migrations.scripts import run_scripts

revision = "r0007"
down_revision = "r0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them, from the log and the records that are there."""
    run_scripts("r0007_usage.sql")


def downgrade() -> None:
    """Drop them; daily histograms by model are kept as they were before."""
    run_scripts("r0007_down.sql", "r0004_ingest.sql")
