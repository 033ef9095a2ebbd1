"""`python -m bench run`: all parts one after the other, each result printed and saved as soon as it is there."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace

from .cases import Contestants
from .child import failures
from .machine import ROOT
from .record import Record, load
from .report import say_finding, say_outcome, show_record, write_page
from .runner import WrongAnswer, measure, pin_to_one_core


@dataclass(frozen=True)
class Profile:
    """How much is measured."""

    quick: bool
    rounds: int
    slow: tuple[float, int]  # who needs more seconds for a call plays so many rounds only
    keys_max: int
    memory_sizes: tuple[int, ...]
    memory_rivals: int
    pause_keys: int
    gc_rows: int
    latency_seconds: float
    native_keys: tuple[int, ...]
    step_keys: int


FULL = Profile(
    quick=False,
    rounds=5,
    slow=(1.0, 2),
    keys_max=10_000_000,
    memory_sizes=(100_000, 1_000_000, 10_000_000),
    memory_rivals=1_000_000,
    pause_keys=10_000_000,
    gc_rows=1_000_000,
    latency_seconds=20.0,
    native_keys=(1_000_000, 10_000_000),
    step_keys=10_000_000,
)
QUICK = Profile(
    quick=True,
    rounds=3,
    slow=(0.4, 1),
    keys_max=1_000_000,
    memory_sizes=(100_000, 1_000_000),
    memory_rivals=1_000_000,
    pause_keys=300_000,
    gc_rows=300_000,
    latency_seconds=2.0,
    native_keys=(1_000_000,),
    step_keys=300_000,
)


SLOW_KINDS = ("dict of row numbers", "numba typed.Dict")
SLOW_KEYS = 1_000_000  # from here on they sit out everywhere


def of_size(profile, keys):
    """A profile with the sizes that --keys asks for."""
    if not keys:
        return profile
    last = max(keys)
    sizes = {"keys_max": last, "memory_sizes": tuple(keys), "memory_rivals": last, "pause_keys": last, "gc_rows": last}
    return replace(profile, native_keys=tuple(keys), step_keys=min(last, profile.step_keys), **sizes)


def chosen(name, only):
    """Whether a case's name contains one of the words of --only (or none were given)."""
    return not only or any(word.lower() in name.lower() for word in only)


def contestants(only=None):
    """Everyone who can be imported (and whose name --rivals allows), and the messages for those who cannot."""
    from .ours import map_contestant
    from .rivals import available

    rivals, left_out = available()
    try:
        ours = map_contestant()
    except ImportError as error:
        ours = None
        left_out.insert(0, f"left out: the map itself ({error}): floor and rivals only")
    return Contestants(ours, [rival for rival in rivals if chosen(rival.name, only)]), left_out


class Suite:
    """One run: who plays, how much is measured, and what has been found so far."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.only, self.keys = arguments.only, arguments.keys
        self.profile = of_size(QUICK if arguments.quick else FULL, self.keys)
        self.rounds = arguments.rounds or self.profile.rounds
        self.default_threads = os.environ.get("BENCH_THREADS") == "default"
        self.cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        core = None if self.default_threads else pin_to_one_core()
        settings = {"quick": arguments.quick, "rounds": self.rounds, "clock": arguments.clock, "core": core}
        settings["only"] = " ".join(arguments.only or []) or None
        settings["garbage_collector"] = "off while the clock runs"
        settings["threads"] = "default" if self.default_threads else "one each"
        self.record = Record(arguments.json, settings)
        self.who, left_out = contestants(arguments.rivals)
        about = self.record.machine
        words = [about["processor"], about["system"], f"Python {about['python']}", f"commit {about['commit']}"]
        print(", ".join([*words, f"core {core}"]), flush=True)
        for words in left_out:
            print(words, flush=True)
        self.record.note(*left_out)
        if self.profile.quick and not arguments.rivals:
            left = " and ".join(SLOW_KINDS)
            self.record.note(f"quick profile: {left} play in get_many hits of small tables and in memory only")

    def find(self, batches):
        """Takes findings as they come."""
        for findings in batches:
            self.take_failures()
            self.record.find(findings)
            for finding in findings:
                say_finding(finding)
        self.take_failures()

    def tell(self, words):
        """A word on what is left out or could not be done: printed and recorded."""
        print(words, flush=True)
        self.record.note(words)

    def take_failures(self):
        """Children that ended badly are part of the record: a figure that is missing is told, and the run is red."""
        if failures:
            self.record.wrong += failures
            failures.clear()
            self.record.save()

    def case(self, plan):
        """Measures one case; an error in one is told and does not end the others."""
        print(f"… {plan.name}, {plan.key_count:,} keys", file=sys.stderr, flush=True)
        began = time.perf_counter()
        try:
            case = plan.make(self.players(plan), self.rounds + 1)
            outcome = measure(case, self.rounds, self.arguments.clock, self.profile.slow)
        except WrongAnswer as error:
            failures.append(f"WRONG ANSWER: {error}")
            print(failures[-1], file=sys.stderr, flush=True)
            self.take_failures()
        except MemoryError as error:
            self.tell(f"{plan.name}, {plan.key_count:,} keys: not enough memory ({error})")
        except Exception as error:  # one contestant's fault must not take all other figures with it
            failures.append(f"FAILED: {plan.name}, {plan.key_count:,} keys: {type(error).__name__}: {error}")
            print(failures[-1], file=sys.stderr, flush=True)
            self.take_failures()
        else:
            name = f"{plan.group}: {plan.name}, {plan.key_count:,}"
            self.record.seconds[name] = round(time.perf_counter() - began, 1)
            self.record.add(outcome)
            say_outcome(outcome)

    def players(self, plan):
        """Who plays. In the quick profile some slow ones do only in lookups, where they stand for their kind."""
        if not self.profile.quick or self.arguments.rivals:
            return self.who
        if plan.name.startswith("get_many hits") and plan.group != "threads" and plan.key_count < SLOW_KEYS:
            return self.who
        slow = (*SLOW_KINDS, "dict of arrays") if plan.group == "threads" else SLOW_KINDS
        return Contestants(self.who.map, [rival for rival in self.who.rivals if rival.name not in slow])

    def timed(self):
        """Operations, sizes, patterns, widths, mechanisms, bandwidth."""
        from . import table

        for plan in table.plans(self.profile.quick):
            wanted = chosen(f"{plan.group}: {plan.name}", self.only)
            wanted = wanted and plan.key_count <= self.profile.keys_max and (plan.in_quick or not self.profile.quick)
            if wanted and (not self.keys or plan.key_count in self.keys):
                if (plan.group == "threads") == self.default_threads:
                    self.case(plan)
        self.find(table.pattern_findings(self.record))

    def bandwidth(self):
        from . import bandwidth

        if self.wants("bandwidth"):
            self.find(bandwidth.measure_all(self.rounds, self.keys))

    def threads(self):
        """The second table: a child process in which everyone has as many threads as they like."""
        if self.default_threads:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "threads.json")
            command = [sys.executable, "-m", "bench", "run", "--json", path, "--rounds", str(self.rounds)]
            command += ["--clock", self.arguments.clock] + (["--quick"] if self.profile.quick else [])
            for option, words in (("--keys", self.keys), ("--rivals", self.arguments.rivals), ("--only", self.only)):
                command += [option, *map(str, words)] if words else []
            env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
            env.pop("POLARS_MAX_THREADS", None)
            env["BENCH_THREADS"] = "default"
            print("… the same with default threads", file=sys.stderr, flush=True)
            done = subprocess.run(command, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, preexec_fn=self.unpin)
            if os.path.exists(path):
                told = load(path)
                for outcome in told.outcomes:
                    say_outcome(outcome)
                self.record.wrong += told.wrong
                self.record.add(*told.outcomes)
            if done.returncode not in (0, 2):  # 2: no case of that table has such a name and size
                self.tell(f"the table with default threads ended with code {done.returncode}")

    def unpin(self):
        """In a child: all cores again."""
        if self.cores:
            os.sched_setaffinity(0, self.cores)

    def pause(self):
        from . import collector, pauses

        if self.wants("pauses"):
            self.find(pauses.measure_all(self.who, self.profile.pause_keys))
        if self.wants("gc"):
            self.find(collector.measure_all(self.who, self.profile.gc_rows))

    def memory(self):
        from . import allocations, memory

        if self.wants("memory"):
            self.find(memory.measure_all(self.who, self.profile.memory_sizes, self.profile.memory_rivals))
        if self.wants("allocations"):
            self.find(allocations.measure_all(self.who, min(self.profile.memory_rivals, 100_000), self.tell))

    def latency(self):
        from . import latency

        if self.wants("latency"):
            seconds = self.profile.latency_seconds
            trace = getattr(self.arguments, "perf", False) or not self.profile.quick
            self.find(latency.measure_all(self.who, self.cores, seconds, self.keys, trace, self.tell))

    def native(self):
        from . import c_level

        if self.wants("native"):
            c_level.measure_all(self)

    def wants(self, part):
        """Whether --only names this part (`python -m bench pause` asks for it by its own name)."""
        return bool(self.arguments.parts) or chosen(part, self.only)

    def all(self):
        """The parts asked for, in order."""
        parts = self.arguments.parts or ["bandwidth", "timed", "threads", "memory", "pause", "latency", "native"]
        for part in parts:
            if part == "threads" and not chosen("threads: get_many add_many", self.only):
                continue
            if self.default_threads and part != "timed":
                continue
            began = time.perf_counter()
            getattr(self, part)()
            self.record.seconds[f"part {part}"] = round(time.perf_counter() - began, 1)


def run(arguments):
    """`python -m bench run`, `pause`, `memory`, `latency`, `native`."""
    began = time.perf_counter()
    suite = Suite(arguments)
    try:
        suite.all()
    except KeyboardInterrupt:
        print("\ninterrupted: what was measured so far follows", file=sys.stderr, flush=True)
    else:
        suite.record.finish()
    suite.record.seconds["all"] = round(time.perf_counter() - began, 1)
    suite.record.save()
    if not (suite.record.outcomes or suite.record.findings or suite.record.wrong):
        if not suite.default_threads:
            print("nothing was measured: no case has such a name and size, or its part was left out", file=sys.stderr)
        return 2
    show_record(suite.record, arguments.everyone)
    if arguments.html:
        write_page(suite.record, arguments.html)
    for words in [arguments.json, arguments.html]:
        if words:
            print(words)
    return 1 if suite.record.wrong else 0
