"""One module per revision, named by its number; its SQL is in `../sql`."""
