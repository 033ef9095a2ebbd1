"""Interleaved timing: every contestant in every round, in rotating order, each call with queries of its own.

Noise on a shared machine drifts over seconds; interleaving puts it on everyone alike, and ratios are taken within a
round before their median is. The garbage collector is off while the clock runs (this favours dicts of containers).
A fresh result is given back inside the timed call: allocating, filling and freeing it is what a caller pays.
"""

import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace

SLOW = (1.0, 2)  # a contestant whose check call took more seconds than this plays so many rounds only


class WrongAnswer(Exception):
    """A contestant answered otherwise than NumPy: no time is reported."""


@dataclass(frozen=True)
class Entry:
    """A contestant in one case. `prepare(query_set)` is not timed and returns what is."""

    name: str
    role: str  # "floor", "map" or "rival"
    prepare: Callable[[int], Callable[[], object]]
    check: Callable[[object, int], None] | None = None  # raises WrongAnswer
    count: Callable[[], dict[str, float]] | None = None  # what is counted rather than timed, per operation


@dataclass(frozen=True)
class Target:
    """`map <= ratio * floor`, or `best rival >= ratio * map`."""

    against: str  # "floor" or "rival"
    ratio: float
    names: tuple[str, ...] = ()  # rivals that are judged; all of them, if none are named

    def met(self, measured):
        """Whether `measured` reaches it: map / floor, or best rival / map."""
        return measured <= self.ratio if self.against == "floor" else measured >= self.ratio


@dataclass(frozen=True)
class Case:
    """One row of the table: what is done, on how many keys, by whom, and what is to be reached."""

    operation: str
    key_count: int
    operation_count: int  # per call
    entries: list[Entry]
    targets: tuple[Target, ...] = ()
    keep_result: bool = False  # the result is a whole table: freeing it is not part of the operation
    note: str = ""
    group: str = "operations"  # the table it stands in
    width: int = 8  # items in a row
    dtype: str = "float64"
    pattern: str = "uniform"  # of keys or queries
    threads: str = "one each"


@dataclass
class Timing:
    """Nanoseconds per operation, by round."""

    role: str
    wall: dict[int, float] = field(default_factory=dict)
    cpu: dict[int, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)


@dataclass
class Outcome:
    """What came out of a case."""

    case: Case
    timings: dict[str, Timing]
    clock: str = "wall"

    def rounds(self, name):
        return getattr(self.timings[name], self.clock)

    def spread(self, name, clock=None):
        """`(median, min, max)` of one contestant, or None; `clock` says which, wall or cpu."""
        if name is None:
            return None
        values = list((getattr(self.timings[name], clock) if clock else self.rounds(name)).values())
        return (statistics.median(values), min(values), max(values)) if values else None

    def of_role(self, role):
        return [name for name, timing in self.timings.items() if timing.role == role]

    def best_rival(self, among=()):
        """The rival with the smallest median (of those named, if any are), or None."""
        rivals = [name for name in self.of_role("rival") if not among or name in among]
        return min(rivals, key=lambda name: self.spread(name)[0], default=None)

    def ratio(self, above, below):
        """`(median, min, max)` of `above / below`, taken within each round; None where one is missing."""
        if above is None or below is None:
            return None
        over, under = self.rounds(above), self.rounds(below)
        values = [over[r] / under[r] for r in over.keys() & under.keys()]
        return statistics.median(values), min(values), max(values)

    def map_and_floor(self):
        return next(iter(self.of_role("map")), None), next(iter(self.of_role("floor")), None)

    def reached(self, target):
        """`(measured ratio, met)` for a target, or None where a side is missing."""
        ours, floor = self.map_and_floor()
        rival = self.best_rival(target.names)
        measured = self.ratio(ours, floor) if target.against == "floor" else self.ratio(rival, ours)
        return None if measured is None else (measured, target.met(measured[0]))

    def as_json(self):
        """Everything, every round of it."""
        about = {spot.name: getattr(self.case, spot.name) for spot in fields(Case)}
        del about["entries"], about["keep_result"]
        about["targets"] = [asdict(target) for target in self.case.targets]
        return about | {
            "clock": self.clock,
            "contestants": {name: asdict(timing) for name, timing in self.timings.items()},
        }

    @classmethod
    def from_json(cls, told):
        """What `as_json` wrote."""
        about = {name: value for name, value in told.items() if name not in ("clock", "contestants")}
        about["targets"] = tuple(Target(t["against"], t["ratio"], tuple(t["names"])) for t in about["targets"])
        timings = {}
        for name, timing in told["contestants"].items():
            clocks = ({int(r): ns for r, ns in timing[clock].items()} for clock in ("wall", "cpu"))
            timings[name] = Timing(timing["role"], *clocks, timing["counts"])
        return cls(Case(entries=[], **about), timings, told["clock"])


def pin_to_one_core():
    """Pins this process to the last core it may use. Returns its number, or None where the system has no such call."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def time_call(call, keep_result):
    """`(wall, cpu, result or None)` in nanoseconds."""
    gc.collect()
    gc.disable()
    try:
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        result = call()
        if not keep_result:
            result = None
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
    finally:
        gc.enable()
    return wall, cpu, result


def measure(case, rounds, clock="wall", slow=SLOW):
    """Checks every contestant's answer, then times `rounds` interleaved rounds.

    Query set 0 is for the check, which also warms up; entry e plays set `1 + (round + e) % rounds` in each round.
    """
    rounds_of = {}
    for entry in case.entries:
        call = entry.prepare(0)
        started = time.perf_counter()
        answer = call()
        rounds_of[entry.name] = slow[1] if time.perf_counter() - started > slow[0] else rounds
        if entry.check is not None:
            entry.check(answer, 0)
        del answer, call
    timings = {entry.name: Timing(entry.role, counts=entry.count() if entry.count else {}) for entry in case.entries}
    for round_number in range(rounds):
        turn = round_number % len(case.entries)
        order = list(enumerate(case.entries))
        for place, entry in order[turn:] + order[:turn]:
            if round_number >= rounds_of[entry.name]:
                continue
            call = entry.prepare(1 + (round_number + place) % rounds)
            wall, cpu, _result = time_call(call, case.keep_result)
            del call, _result
            timings[entry.name].wall[round_number] = wall / case.operation_count
            timings[entry.name].cpu[round_number] = cpu / case.operation_count
    return Outcome(replace(case, entries=[]), timings, clock)  # the entries hold every contestant's table
