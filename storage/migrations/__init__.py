"""The schema's history: Alembic revisions over SQL files for roles, tables, policies, functions."""
