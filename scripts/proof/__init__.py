"""Proofs under fire: traffic, faults, inputs and searches that tests put together (`tests/e2e`)."""
