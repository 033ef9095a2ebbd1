"""A metrics collector's request loop at a fixed rate: what a request waits, and what the scheduler does to it.

A request is a scrape: some hundred samples, each a series id and a bucket of that series' histogram, to be counted
(`m.add_at(ids, buckets)`; the same in a dict of arrays). The load is *open*: requests are due at fixed times whatever
became of those before, and a latency is counted from the moment its request was due, so that a stall is felt by all
who had to wait behind it. Percentiles are kept by an HDR histogram (1 µs to 60 s, three digits).

Each contestant runs in a child process of its own, unpinned and pinned to one core, on a quiet machine and beside a
neighbour who computes all the time. Context switches and migrations come from the kernel's accounting of the process
(/proc/self/status, schedstat, sched).
"""

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from . import workloads
from .child import ask
from .machine import ROOT
from .record import Finding

SERIES_COUNT, BUCKET_COUNT, SAMPLES = 100_000, 16, 200
RATE = 1_000  # requests a second: a fifth of what the slower contestant can do
PERCENTILES = (50, 90, 99, 99.9, 99.99)
SCRAPES = 512  # prepared before the clock starts, used over and over
NOTHING = "nothing (the timer)"
SELF = Path("/proc/self")
# A row of `perf sched latency`: task | runtime | switches | average delay | maximum delay
PERF_ROW = re.compile(
    r"python\S*\s*\|\s*[\d.]+ ms \|\s*(?P<switches>\d+) \| avg:\s*(?P<mean>[\d.]+) ms \| max:\s*(?P<most>[\d.]+) ms"
)


def handlers(name, series):
    """The function that takes one scrape, and the one that gives all the counts."""
    if name == NOTHING:
        return (lambda ids, buckets: None), None
    if name == "IntArrayMap":
        from intarraymap import IntArrayMap

        table = IntArrayMap(BUCKET_COUNT, "int64")
        return table.add_at, lambda: table.get_many(series, 0)
    counts = {}

    def count_each(ids, buckets):
        for number, bucket in zip(ids.tolist(), buckets.tolist(), strict=True):
            here = counts.get(number)
            if here is None:
                here = counts[number] = np.zeros(BUCKET_COUNT, np.int64)
            here[bucket] += 1

    empty = np.zeros(BUCKET_COUNT, np.int64)
    return count_each, lambda: np.array([counts.get(number, empty) for number in series.tolist()])


def accounting():
    """Context switches, migrations, and time spent waiting for a core, as the kernel has counted them so far."""
    found = {}
    for line in (SELF / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"):
            found[name.replace("_ctxt_switches", " switches")] = int(value)
    try:
        for line in (SELF / "sched").read_text().splitlines():
            if line.startswith("se.nr_migrations"):
                found["migrations"] = int(line.split(":")[1])
    except OSError:
        pass  # a kernel without scheduler debugging
    try:
        found["waiting for a core, µs"] = int((SELF / "schedstat").read_text().split()[1]) // 1000
    except OSError:
        pass
    return found


def serve(name, seconds, rate, core):
    """Runs the loop; percentiles in µs."""
    from hdrh.histogram import HdrHistogram

    series = workloads.random_keys(SERIES_COUNT)
    rng = np.random.default_rng(7)
    # Busy series are asked for more often, as metrics are.
    ranks = (rng.zipf(workloads.ZIPF_EXPONENT, (SCRAPES, SAMPLES)) - 1) % SERIES_COUNT
    scrapes = list(zip(series[ranks], rng.integers(0, BUCKET_COUNT, ranks.shape), strict=True))
    handle, answer = handlers(name, series)
    for ids, buckets in scrapes:  # every series that will come is there: a collector that has run for a while
        handle(ids, buckets)
    if answer is not None:
        wanted = np.zeros((SERIES_COUNT, BUCKET_COUNT), np.int64)
        order = np.argsort(series)
        for ids, buckets in scrapes:
            np.add.at(wanted, (order[np.searchsorted(series, ids, sorter=order)], buckets), 1)
        if not np.array_equal(answer(), wanted):
            raise ValueError(f"{name}: the counts differ from NumPy's")
    if core is not None:
        os.sched_setaffinity(0, {core})
    histogram = HdrHistogram(1, 60_000_000, 3)
    service = HdrHistogram(1, 60_000_000, 3)
    clock, period = time.perf_counter_ns, 1_000_000_000 // rate
    before = accounting()
    count = int(seconds * rate)
    first = clock() + 1_000_000
    for number in range(count):
        due = first + number * period
        wait = due - clock()
        if wait > 0:
            time.sleep(wait / 1e9)
        began = clock()
        handle(*scrapes[number % SCRAPES])
        ended = clock()
        histogram.record_value(max(1, (ended - due) // 1000))
        service.record_value(max(1, (ended - began) // 1000))
    after = accounting()
    return {
        "requests": count,
        "rate": rate,
        "samples": SAMPLES,
        "percentiles": {str(p): histogram.get_value_at_percentile(p) for p in PERCENTILES},
        "max": histogram.get_max_value(),
        "service_percentiles": {str(p): service.get_value_at_percentile(p) for p in PERCENTILES},
        "columns": {what: after[what] - before[what] for what in after},
        "encoded": histogram.encode().decode(),
    }


def compute_for_ever(core):
    """The neighbour."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    number = 1
    while True:
        number = number * 6364136223846793005 % 2**64


def beside_neighbour(cores, own_core, measured):
    """Runs `measured` while one process computes: on another core than a pinned loop, else wherever it likes."""
    others = sorted(cores - {own_core}) if own_core is not None else []
    neighbour = multiprocessing.Process(target=compute_for_ever, args=(others[0] if others else None,), daemon=True)
    neighbour.start()
    try:
        return measured()
    finally:
        neighbour.terminate()
        neighbour.join()


def trace_scheduler(name, seconds, core, note):
    """Findings of `perf sched latency` over one run; a note that says why, where there are none."""
    perf = shutil.which("perf")
    if perf is None:
        note("perf sched: not traced, perf is not installed")
        return []
    placed = "unpinned" if core is None else f"pinned to core {core}"
    path = ROOT / "build" / "bench" / f"perf-sched-{'unpinned' if core is None else 'pinned'}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        traced = os.path.join(scratch, "perf.sched")
        where = "-" if core is None else str(core)
        child = [sys.executable, "-m", "bench.latency", name, str(seconds), str(RATE), where]
        command = [perf, "sched", "record", "-o", traced, "--", *child]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode or not os.path.exists(traced):
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            reason = lines[0] if lines else f"code {done.returncode}"
            note(
                f"perf sched: not traced, the machine does not allow it ({reason.strip()}); "
                "it needs root or kernel.perf_event_paranoid = -1, and a kernel with scheduler trace points"
            )
            return []
        told = subprocess.run([perf, "sched", "latency", "-i", traced], cwd=ROOT, capture_output=True, text=True)
    path.write_text(told.stdout)
    row = PERF_ROW.search(told.stdout)
    if row is None:
        note(f"perf sched: no row of this Python in {path.relative_to(ROOT)}")
        return []
    note(f"perf sched, {placed}: the whole table is in {path.relative_to(ROOT)}")
    parts = ("switches", int(row["switches"]), ""), ("mean wait for a core", float(row["mean"]) * 1e3, "µs")
    parts += (("longest wait for a core", float(row["most"]) * 1e3, "µs"),)
    return [
        Finding("scheduler", f"perf sched, {placed}: {what}", SERIES_COUNT, value, unit, None, name)
        for what, value, unit in parts
    ]


def measure_all(contestants, cores, seconds, keys, trace, note):
    """Yields one finding per contestant, placement and neighbourhood."""
    try:
        import hdrh  # noqa: F401 (whether it is there)
    except ImportError as error:
        note(f"left out: latency (pip install hdrhistogram: {error})")
        return
    if keys:  # a trial of the bench itself
        seconds = min(seconds, 0.3)
    names = [NOTHING] + (["IntArrayMap"] if contestants.map else []) + ["dict of arrays"]
    core = max(cores) if cores else None
    if cores:
        os.sched_setaffinity(0, cores)  # children inherit it
    try:
        for noisy in (False, True):
            for pinned in (None, core) if cores else (None,):
                for name in names:

                    def measured(name=name, pinned=pinned):
                        return ask("latency", name, seconds, RATE, "-" if pinned is None else pinned)

                    found = beside_neighbour(cores, pinned, measured) if noisy else measured()
                    if found is None:
                        continue
                    what = f"pinned to core {pinned}" if pinned is not None else "unpinned"
                    what += ", beside a busy neighbour" if noisy else ""
                    value = found["percentiles"]["99.9"]
                    p = f"p99.9, {what}"
                    detail = found | {"what": what}
                    yield [Finding("latency", p, SERIES_COUNT, value, "µs", None, name, detail)]
        if trace:
            for pinned in (None, core) if cores else (None,):
                yield trace_scheduler(names[-2], max(1.0, min(seconds, 3.0)), pinned, note)

    finally:
        if core is not None:
            os.sched_setaffinity(0, {core})


if __name__ == "__main__":
    asked, seconds_asked, rate_asked, core_asked = sys.argv[1:5]
    where = None if core_asked == "-" else int(core_asked)
    json.dump(serve(asked, float(seconds_asked), int(rate_asked), where), sys.stdout)
