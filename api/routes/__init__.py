"""One file per resource; each defines `router`."""
