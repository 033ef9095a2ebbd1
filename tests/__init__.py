"""Tests by floor: core/ in C, python/, docs/; run.py is `make test`, campaigns/ are the longer checks."""
