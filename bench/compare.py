"""Two commits against each other: `python -m bench compare BASE HEAD`.

Each commit is taken out of git and built into an environment of its own under build/compare; NumPy and the build tools
are those of the running Python, so that the map is all that differs. The bench itself is the one that is running, for
both. A worker process of each side makes its tables and waits; the rounds go A-B, B-A, A-B … on one core. Processes are
started afresh a few times on the way, because where a table happens to lie in memory is luck that lasts a process long.

The ratio is HEAD's time over BASE's within each round. Its spread is the interval that holds the true median with 95 %
confidence (by the signs alone: no assumption on how times are distributed). A difference is claimed only where that
interval leaves out 1 and the median is more than one per cent off; else "no difference seen". The floor, which is the
same code on both sides, is measured along: what it shows is noise.
"""

import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

from .machine import ROOT, machine
from .sheets import LOSS, WIN, Cell, Sheet, figure, spread
from .terminal import show

FOLDER = ROOT / "build" / "compare"
SMALLEST_DIFFERENCE = 0.01
CONFIDENCE = 0.95
SETS = 4  # query sets, used in turn


def plans():
    """What is compared: the operations of the table, at sizes that take no more than a minute each."""
    from . import table

    for plan in table.plans(quick=True):
        if plan.group == "operations" and plan.key_count <= 1_000_000:
            yield plan


def name_of(plan):
    return f"{plan.name}, {plan.key_count:,}"


# ---- A worker: one side ----------------------------------------------------------------------------------------------


def work():
    """Answers lines of JSON: {"make": name}, then {"time": contestant, "set": number}, until the input ends."""
    from .ours import map_contestant
    from .runner import time_call
    from .suite import Contestants, pin_to_one_core

    pin_to_one_core()
    known = {name_of(plan): plan for plan in plans()}
    case = entries = None
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "make" in asked:
            case = entries = None  # one case's memory goes before the next one's comes
            case = known[asked["make"]].make(Contestants(map_contestant(), []), SETS)
            entries = {entry.role: entry for entry in case.entries if entry.role in ("map", "floor")}
            for entry in entries.values():
                answer = entry.prepare(0)()
                if entry.check is not None:
                    entry.check(answer, 0)
                del answer
            told = {"roles": list(entries)}
        else:
            call = entries[asked["time"]].prepare(asked["set"] % SETS)
            wall, cpu, _result = time_call(call, case.keep_result)
            del call, _result
            told = {"wall": wall / case.operation_count, "cpu": cpu / case.operation_count}
        print(json.dumps(told), flush=True)


class Worker:
    """The other end of `work`."""

    def __init__(self, python, name):
        self.name = name
        command = [python, "-m", "bench.compare"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
        self.ask()

    def ask(self, **asked):
        if asked:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: the worker ended with code {self.process.wait()}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


# ---- Environments ----------------------------------------------------------------------------------------------------


def git(*words):
    return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, check=True).stdout


def commit_of(name):
    """The full id of whatever git calls `name`; ValueError if it knows no such commit."""
    try:
        return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
    except subprocess.CalledProcessError:
        raise ValueError(f"{name}: git knows no such commit") from None


def environment(commit):
    """The Python of an environment in which that commit is installed; built once, then kept."""
    folder = FOLDER / commit[:12]
    python, done = folder / "venv" / "bin" / "python", folder / "ready"
    if done.exists():
        return python
    print(f"… building {commit[:12]}", file=sys.stderr, flush=True)
    source = folder / "source"
    source.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", source], input=git("archive", commit), check=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder / "venv"], check=True)
    # NumPy, numba and the build tools of this Python, behind the environment's own packages.
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    told = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    places = [place for place in sys.path if place.endswith(("site-packages", "dist-packages"))]
    Path(told.stdout.strip(), "behind.pth").write_text("\n".join(places) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--no-index", "--force-reinstall", source], check=True)
    done.write_text(commit + "\n")
    return python


# ---- Judging ---------------------------------------------------------------------------------------------------------


def interval_of_median(values, confidence=CONFIDENCE):
    """`(low, high)` that holds the median of what the values are drawn from, by the sign test.

    With n values in order, the k-th smallest and the k-th largest enclose the median unless fewer than k values fall on
    one side of it: a binomial probability. The largest k that keeps the confidence is taken. With fewer than six values
    there is none for 95 %, and the interval has no ends.
    """
    ordered, count = sorted(values), len(values)
    chosen, tail = 0, 0.0
    for k in range(1, count // 2 + 1):
        tail += math.comb(count, k - 1) / 2**count
        if 1 - 2 * tail >= confidence:
            chosen = k
    if not chosen:
        return -math.inf, math.inf
    return ordered[chosen - 1], ordered[-chosen]


def verdict(ratios):
    """What may be said of HEAD's time over BASE's."""
    low, high = interval_of_median(ratios)
    middle = statistics.median(ratios)
    if low <= 1 <= high or abs(middle - 1) <= SMALLEST_DIFFERENCE:
        return Cell("no difference seen")
    if middle < 1:
        return Cell(f"HEAD is {(1 / middle - 1):.1%} faster", WIN)
    return Cell(f"HEAD is {(middle - 1):.1%} slower", LOSS)


def sheet_of(measured, base, head):
    """The table; changes first."""
    headings = ("operation", "BASE ns", "HEAD ns", "HEAD ÷ BASE", "95 %", "floor ÷ floor", "")
    sheet = Sheet(f"{head} against {base}", headings, note="median (min–max); HEAD ÷ BASE within each round")
    for name, times in measured.items():
        ratios = [head / base for base, head in times["map"]]
        control = [head / base for base, head in times.get("floor", [])]
        sides = [(statistics.median(side), min(side), max(side)) for side in zip(*times["map"], strict=True)]
        low, high = interval_of_median(ratios)
        row = [name, *map(spread, sides), spread((statistics.median(ratios), min(ratios), max(ratios)))]
        row += [f"{figure(low)}–{figure(high)}" if math.isfinite(low) else "too few rounds"]
        row += [spread((statistics.median(control), min(control), max(control))) if control else "–"]
        sheet.row(*row, verdict(ratios))
    sheet.rows.sort(key=lambda row: {LOSS: 0, WIN: 1}.get(row[-1].verdict, 2))
    return sheet


def measure(name, workers, first_round, rounds, clock, times):
    """Some A-B rounds of one case, added to `times`: `{role: [(base, head), …]}`."""
    roles = [worker.ask(make=name)["roles"] for worker in workers]
    for number in range(first_round, first_round + rounds):
        for role in roles[0]:
            pair = [0.0, 0.0]
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                pair[side] = workers[side].ask(time=role, set=number)[clock]
            times.setdefault(role, []).append(tuple(pair))


def run(arguments):
    """`python -m bench compare BASE HEAD`."""
    from .suite import chosen

    try:
        commits = [commit_of(name) for name in (arguments.base, arguments.head)]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    pythons = [environment(commit) for commit in commits]
    names = [
        name_of(plan)
        for plan in plans()
        if chosen(plan.name, arguments.only) and (not arguments.keys or plan.key_count in arguments.keys)
    ]
    if not names:
        print("no case has such a name and size", file=sys.stderr)
        return 2
    labels = [f"{name} ({commit[:12]})" for name, commit in zip((arguments.base, arguments.head), commits, strict=True)]
    measured, done = {name: {} for name in names}, 0
    restarts = min(arguments.restarts, arguments.rounds)
    try:
        for restart in range(restarts):
            rounds = arguments.rounds * (restart + 1) // restarts - done
            workers = [Worker(python, label) for python, label in zip(pythons, labels, strict=True)]
            for name in names:
                print(f"… {name}, rounds {done + 1}–{done + rounds}", file=sys.stderr, flush=True)
                measure(name, workers, done, rounds, arguments.clock, measured[name])
                keep(arguments.json, labels, measured)
            done += rounds
            for worker in workers:
                worker.close()
    except KeyboardInterrupt:
        print("\ninterrupted: what was measured so far follows", file=sys.stderr, flush=True)
    show(sheet_of({name: times for name, times in measured.items() if times.get("map")}, *labels))
    return 0


def keep(path, labels, measured):
    """Every round, as JSON."""
    if path:
        told = {"base": labels[0], "head": labels[1], "machine": machine(), "when": time.ctime(), "ns": measured}
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    work()
