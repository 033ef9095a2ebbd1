"""The issue's table: which cases are run, in which order, and what each has to reach."""

from . import mechanisms, workloads
from .cases import add_many, build, contains_many, delete_many, get_many_half_missing, get_many_hits, set_many_existing
from .record import Finding
from .runner import Target
from .scalars import iterate_items, scalar
from .workloads import QUERY_COUNT

PATTERN_KEYS = 10_000
FEWER = 200_000  # queries where no target hangs on it, and of single keys in the quick profile
PATTERN_LIMIT = 8.0  # times slower than random keys, as promised
HOSTILE = {"adversarial, against Fibonacci hashing", "adversarial, against dict"}  # a minute and more at a million


def floor(ratio):
    return Target("floor", ratio)


def rival(ratio, *names):
    """The best of the rivals the target names; of all, where it names none. Tables show the best of all anyway."""
    return Target("rival", ratio, names)


INDEXES = ("pandas Index", "pandas khash", "cykhash", "numba table")
ADDERS = (
    *("numba table", "factorize + csr", "csr + khash, live"),
    *("pandas groupby", "polars group_by", "pyarrow group_by"),
)
SCALARS = ("dict of arrays", "pandas khash", "cykhash")


def plans(quick=False):
    """Every timed row of the issue's table, in its order; `quick`: fewer questions where one key is asked at a time."""
    asked = FEWER if quick else QUERY_COUNT
    yield get_many_hits(1_000, targets=(floor(1.6), rival(1.5, *INDEXES)))
    yield get_many_hits(1_000, targets=(floor(1.6), rival(1.5, *INDEXES)), call_size=1_000, slow=not quick)
    yield get_many_hits(100_000, targets=(floor(1.2), rival(1.35, *INDEXES)), slow=not quick)
    yield get_many_hits(100_000, targets=(floor(1.2), rival(1.35, *INDEXES)), call_size=100_000, slow=not quick)
    yield get_many_hits(1_000_000, targets=(floor(1.2), rival(1.5, *INDEXES)))
    yield get_many_hits(10_000_000, targets=(floor(1.2), rival(1.5, *INDEXES)), slow=False)
    for count in (100_000, 1_000_000):
        yield get_many_half_missing(count, targets=(floor(1.3), rival(2.0)), slow=not quick or count > 100_000)
    for count, ratio in ((100_000, 1.0), (1_000_000, 0.9), (10_000_000, 1.0)):
        yield get_many_hits(count, dense=True, targets=(floor(ratio),), slow=False)
        yield get_many_hits(count, dense=True, out=True, targets=(floor(0.85),), slow=False)
    for count, ratio in ((100_000, 1.8), (1_000_000, 2.0), (10_000_000, 2.5)):
        yield build(count, how="from_arrays", targets=(floor(ratio),))
        yield build(count, how="set_many", slow=not quick, targets=(floor(ratio),))
    for distribution in ("Zipf(1.2)", "uniform"):
        yield add_many(distribution, targets=(rival(1.5, *ADDERS),))
        yield add_many(distribution, batch=10_000, slow=not quick, targets=(rival(1.5, *ADDERS),))
    yield contains_many(1_000_000, half=False, targets=(rival(1.5),))
    yield contains_many(1_000_000, half=True, targets=(rival(1.5),))
    yield set_many_existing(1_000_000, targets=(rival(1.5),))
    yield delete_many(1_000_000, targets=(rival(1.5),))
    for count in (1_000_000, 1_000):
        targets = (rival(1.0, *SCALARS),) if count == 1_000_000 else ()
        yield scalar(
            "get",
            count,
            query_count=asked,
            targets=targets,
            note="m[k]: the map makes a view, a dict hands over its array",
        )
        yield scalar("copy", count, query_count=asked, targets=targets, note="m[k].copy()")
        yield scalar("set", count, query_count=asked, targets=targets)
        yield scalar("insert", count, targets=targets, note="into an empty table, growth included")
        yield scalar("contains", count, query_count=asked, targets=targets)
        yield scalar("contains", count, missing=True, query_count=asked, targets=targets)
        yield scalar("delete", count, targets=targets)
    for count in (1_000_000, 1_000):
        yield iterate_items(count)
    yield from sizes()
    yield from patterns(quick)
    yield from widths(quick)
    yield from threads()
    yield from mechanisms.plans()


def sizes():
    """The counts that the targets leave out, for the curves: 10 … 1e7 keys."""
    for count in (10, 100, 10_000):
        yield get_many_hits(count, group="sizes", query_count=FEWER)
    for count in (10, 100, 1_000, 10_000):
        yield get_many_hits(count, group="sizes", dense=True, query_count=FEWER, in_quick=False)
        yield build(count, how="from_arrays", group="sizes", in_quick=count in (100, 10_000))
    for count in (10, 100, 10_000, 100_000, 10_000_000):
        yield scalar("copy", count, group="sizes", in_quick=False, note="m[k].copy()")
        yield scalar("insert", count, group="sizes", in_quick=False, note="into an empty table, growth included")


def patterns(quick):
    """Regular, skewed and hostile keys. Those against Fibonacci hashing make the numba table walk all of its keys."""
    for pattern in workloads.patterns():
        slow = not quick or pattern in HOSTILE
        yield get_many_hits(PATTERN_KEYS, group="patterns", pattern=pattern, query_count=100_000, slow=slow)
        if pattern not in HOSTILE:
            yield get_many_hits(1_000_000, group="patterns", pattern=pattern, in_quick=False)
        yield build(PATTERN_KEYS, how="from_arrays", group="patterns", pattern=pattern, in_quick=False)


def widths(quick):
    """Rows of 1, 8 and 64 items; other dtypes."""
    main_ones = ((1, "float64"), (64, "float64"), (8, "float32"), (8, "uint64"))
    for width, dtype in (*main_ones, (64, "float32"), (1, "uint64")):
        main = (width, dtype) in main_ones
        shape = {"group": "widths", "width": width, "dtype": dtype}
        yield get_many_hits(100_000, query_count=FEWER, in_quick=main, slow=not quick, **shape)
        yield get_many_hits(1_000_000, in_quick=False, slow=False, **shape)
        yield build(1_000_000, how="from_arrays", in_quick=False, **shape)
        yield add_many("uniform", in_quick=False, **shape)


def threads():
    """What is run once more with as many threads as everyone likes."""
    shape = {"group": "threads", "threads": "default threads"}
    yield get_many_hits(1_000_000, **shape)
    yield add_many("uniform", **shape)
    yield add_many("Zipf(1.2)", in_quick=False, **shape)


def pattern_findings(record):
    """What is promised of adversaries: no pattern makes the map more than eight times slower than random keys."""
    outcomes = [outcome for outcome in record.group("patterns")[0] if outcome.of_role("map")]
    times = {}
    for outcome in outcomes:
        case = outcome.case
        least = outcome.spread(outcome.map_and_floor()[0])[1]
        times.setdefault((case.operation, case.key_count), {})[case.pattern] = least
    for (operation, count), by_pattern in times.items():
        if len(by_pattern) > 1 and "uniform" in by_pattern:
            worst = max(by_pattern, key=by_pattern.get)
            ratio = by_pattern[worst] / by_pattern["uniform"]
            what = f"{operation}: slowest pattern ({worst}) against uniform keys"
            yield [Finding("patterns", what, count, ratio, "×", PATTERN_LIMIT)]
