"""Inputs that nobody would send, by the million, and what must hold for each of them.

Every input is made of a seed and a number (`mangling.numbered`), so a failure names all that is
needed to make it again. tests/e2e/test_fuzz*.py run them, `scripts/test -m fuzz` at full length.
"""
