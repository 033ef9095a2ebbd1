"""`python -m bench …`: the map, its rivals and the floor, measured side by side."""

import argparse
import os
import sys
from importlib import import_module

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "ARROW_NUM_THREADS")

# One thread each, said before anyone is imported; BENCH_THREADS=default leaves everyone their own choice.
if os.environ.get("BENCH_THREADS") != "default":
    for name in THREADS:
        os.environ.setdefault(name, "1")


def later(module):
    """The `run` of a module that is imported only when its command is given."""

    def do(arguments):
        return import_module(f".{module}", __package__).run(arguments)

    return do


def add_selection(parser):
    """What every measuring command takes."""
    parser.add_argument("--quick", action="store_true", help="fewer keys, fewer rounds: minutes instead of an hour")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases by words in their names, or whole parts")
    parser.add_argument("--keys", nargs="+", type=int, metavar="COUNT", help="only so many keys")
    parser.add_argument(
        "--rivals", nargs="+", metavar="NAME", help="only rivals with one of these words in their names"
    )
    parser.add_argument("--rounds", type=int, metavar="COUNT", help="interleaved rounds (5; quick: 3)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which one ratios are taken from")
    parser.add_argument("--json", metavar="FILE", help="everything measured; written after every case")
    parser.add_argument("--html", metavar="FILE", help="and the page made from it")
    parser.add_argument("--everyone", action="store_true", help="print every contestant's own figures too")


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="every table; --only names some of them")
    add_selection(run)
    run.set_defaults(do=later("suite"), parts=None)
    for part, words in (
        ("pause", "the longest single operations, and the garbage collector's pauses"),
        ("memory", "resident and peak memory, and allocations by four counters"),
        ("latency", "a request loop at a fixed rate, pinned and not"),
        ("native", "the core against C++ and Go; make bench-native builds it"),
    ):
        one = commands.add_parser(part, help=words)
        add_selection(one)
        one.set_defaults(do=later("suite"), parts=[part])
        if part == "latency":
            one.add_argument("--perf", action="store_true", help="trace the scheduler with perf sched, where allowed")

    report = commands.add_parser("report", help="tables, page and README from a JSON file")
    report.add_argument("record", metavar="JSON")
    report.add_argument("--html", metavar="FILE", help="the page (default: beside the JSON)")
    report.add_argument("--everyone", action="store_true", help="print every contestant's own figures too")
    report.add_argument("--no-readme", action="store_true", help="leave the README as it is")
    report.set_defaults(do=later("report"))

    compare = commands.add_parser("compare", help="two commits, each in its own environment, A-B-A-B")
    compare.add_argument("base", metavar="BASE", help="a commit")
    compare.add_argument("head", metavar="HEAD", help="another one")
    compare.add_argument("--only", nargs="+", metavar="NAME", help="cases by words in their names")
    compare.add_argument("--keys", nargs="+", type=int, metavar="COUNT", help="only so many keys")
    compare.add_argument("--rounds", type=int, default=15, metavar="COUNT", help="A-B rounds (15)")
    compare.add_argument("--restarts", type=int, default=3, metavar="COUNT", help="fresh processes on the way (3)")
    compare.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: better on a busy machine")
    compare.add_argument("--json", metavar="FILE", help="every round")
    compare.set_defaults(do=later("compare"))

    profile = commands.add_parser("profile", help="a native flame graph and a heap profile, side by side")
    profile.add_argument("workload", metavar="WORKLOAD", help="a name, or list")
    profile.add_argument("--seconds", type=float, default=5.0, help="how long (5)")
    profile.add_argument("--keys", type=int, default=1_000_000, metavar="COUNT")
    profile.add_argument("--folder", metavar="FOLDER", help="where to (default: build/bench/profile-WORKLOAD)")
    profile.set_defaults(do=later("profile"))

    import_module(".files", __package__).register(commands)
    arguments = parser.parse_args()
    return arguments.do(arguments)


if __name__ == "__main__":
    sys.exit(main())
