"""`python -m bench run`: the map, its rivals and the floor, in one interleaved run."""

import argparse
import os
import sys
from importlib import import_module

# One thread each, said before anyone is imported.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "ARROW_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def contestants(only=None):
    """Everyone who can be imported (and whose name --rivals allows), and the messages for those who cannot."""
    from .cases import Contestants
    from .ours import map_contestant
    from .rivals import available

    rivals, left_out = available()
    try:
        ours = map_contestant()
    except ImportError as error:
        ours = None
        left_out.insert(0, f"left out: the map itself ({error}): floor and rivals only")
    return Contestants(ours, [rival for rival in rivals if chosen(rival.name, only)]), left_out


def chosen(name, only):
    """Whether a case's name contains one of the words of --only (or none were given)."""
    return not only or any(word.lower() in name.lower() for word in only)


def run(arguments):
    """All of the table: timed operations, then pauses, memory and allocations in child processes."""
    from . import memory, pauses, report, table
    from .runner import WrongAnswer, measure, pin_to_one_core

    core = pin_to_one_core()
    who, left_out = contestants(arguments.rivals)
    rounds = arguments.rounds or (3 if arguments.quick else 5)
    settings = {"quick": arguments.quick, "rounds": rounds, "clock": arguments.clock, "core": core}
    settings["garbage_collector"] = "off while the clock runs"
    about = report.machine()
    print(", ".join([about["processor"], about["system"], f"Python {about['python']}", f"core {core}"]), flush=True)
    print("\n".join(left_out), flush=True)
    outcomes, wrong = [], []
    for plan in table.plans():
        if not chosen(plan.name, arguments.only) or (arguments.quick and not plan.in_quick):
            continue
        if arguments.keys and plan.key_count not in arguments.keys:
            continue
        print(f"… {plan.name}, {plan.key_count:,} keys", file=sys.stderr, flush=True)
        try:
            outcomes.append(measure(plan.make(who, rounds + 1), rounds, arguments.clock))
        except WrongAnswer as error:
            wrong.append(f"WRONG ANSWER: {error}")
            print(wrong[-1], file=sys.stderr, flush=True)
    report.print_timed(outcomes)
    findings = []
    if chosen("pauses", arguments.only):
        findings += pauses.measure_all(who, arguments.quick)
        report.print_measured("Longest single operation (of each operation the least of several runs)", findings)
    if chosen("memory", arguments.only):
        held = memory.measure_all(who, arguments.quick)
        report.print_measured("Memory in fresh child processes, and allocations", held)
        findings += held
    if arguments.json:
        report.write_json(arguments.json, outcomes, findings, settings)
    print("\n".join(wrong))
    return 1 if wrong else 0


def native(arguments):
    """The C level."""
    from . import c_level

    return c_level.run(arguments)


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="every row of the table")
    runs.add_argument("--quick", action="store_true", help="up to 1e6 keys, three rounds")
    runs.add_argument("--only", nargs="+", metavar="NAME", help="cases by words in their names; pauses; memory")
    runs.add_argument("--keys", nargs="+", type=int, metavar="COUNT", help="only timed cases with so many keys")
    runs.add_argument("--rivals", nargs="+", metavar="NAME", help="only rivals whose name contains one of these words")
    runs.add_argument("--rounds", type=int, metavar="COUNT", help="interleaved rounds (5; quick: 3)")
    runs.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: this process's own time")
    runs.add_argument("--json", metavar="FILE", help="write everything measured there")
    runs.set_defaults(do=run)
    natives = commands.add_parser("native", help="the core against C++ and Go; make -C bench/native builds it")
    natives.add_argument("--quick", action="store_true", help="1e6 keys only")
    natives.add_argument("--keys", nargs="+", type=int, metavar="COUNT")
    natives.add_argument("--rounds", type=int, metavar="COUNT", help="interleaved rounds (9)")
    natives.set_defaults(do=native)
    import_module(".files", __package__).register(commands)
    arguments = parser.parse_args()
    return arguments.do(arguments)


if __name__ == "__main__":
    sys.exit(main())
