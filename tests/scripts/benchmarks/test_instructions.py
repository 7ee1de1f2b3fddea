"""Counting instructions takes minutes, so only its reading of a count is tested here."""

import shutil

from scripts.benchmarks import instructions


def test_it_is_possible_where_valgrind_is():
    assert instructions.is_possible() is (
        shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None
    )


def test_a_count_is_found_in_a_dump():
    dump = b"version: 1\npart: 2\n\nevents: Ir\nsummary: 2257335\n\nfn=(1)\n1 5\n"
    found = instructions._COUNTED.search(dump)
    assert found is not None
    assert int(found[1]) == 2257335
