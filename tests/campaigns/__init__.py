"""The longer checks, a make word each: what `make test` has no time for.

    python3 -m tests.campaigns NAME [arguments]

A campaign is a module with `main(arguments) -> int`. It makes what it needs in build/ (tests/run.py says how), prints
as it goes, and ends by keeping its counts with `record`, from which `make test-report` prints the table.
"""
