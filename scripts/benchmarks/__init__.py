"""Measurements on loopback: what a request costs, and how fast rows reach PostgreSQL.

Processor time comes from the kernel's own accounting of each process, so a busy machine moves it
less than it moves times on the clock; rounds of all contestants alternate, and the middle one
counts. Ratios are what to compare between machines, not microseconds.
"""
