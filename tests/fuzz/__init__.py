"""Fuzzers of the Python surface, the corpora of all fuzzers, and every input that once crashed one.

Each `fuzz_NAME.py` has `one_input(data)`, which reads bytes as things to do to maps and raises where the package does
what it must not. `make fuzz` drives it by atheris; tests/python/test_fuzz_replay.py runs what was found without it. The
fuzzers of the core are tests/core/fuzz_*.c; their inputs lie here too.
"""
