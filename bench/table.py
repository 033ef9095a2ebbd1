"""The issue's table: which cases are run, in which order, and what each has to reach."""

from .cases import add_many, build, contains_many, delete_many, get_many_half_missing, get_many_hits, set_many_existing
from .runner import Target
from .scalars import iterate_items, scalar


def floor(ratio):
    return Target("floor", ratio)


def rival(ratio):
    return Target("rival", ratio)


def plans():
    """Every timed row of the issue's table, in its order."""
    yield get_many_hits(1_000, targets=(floor(1.6), rival(1.5)))
    yield get_many_hits(1_000, targets=(floor(1.6), rival(1.5)), call_size=1_000)
    yield get_many_hits(100_000, targets=(floor(1.2), rival(1.35)))
    yield get_many_hits(100_000, targets=(floor(1.2), rival(1.35)), call_size=100_000)
    yield get_many_hits(1_000_000, targets=(floor(1.2), rival(1.5)))
    yield get_many_hits(10_000_000, targets=(floor(1.2), rival(1.5)), slow=False)
    for count in (100_000, 1_000_000):
        yield get_many_half_missing(count, targets=(floor(1.3), rival(2.0)))
    for count, ratio in ((100_000, 1.0), (1_000_000, 0.9), (10_000_000, 1.0)):
        yield get_many_hits(count, dense=True, targets=(floor(ratio),), slow=False)
        yield get_many_hits(count, dense=True, out=True, targets=(floor(0.85),), slow=False)
    for count, ratio in ((100_000, 1.8), (1_000_000, 2.0), (10_000_000, 2.5)):
        yield build(count, how="from_arrays", targets=(floor(ratio),))
        yield build(count, how="set_many", targets=(floor(ratio),))
    for distribution in ("Zipf(1.2)", "uniform"):
        yield add_many(distribution, targets=(rival(1.5),))
        yield add_many(distribution, batch=10_000, targets=(rival(1.5),))
    yield contains_many(1_000_000, half=False, targets=(rival(1.5),))
    yield contains_many(1_000_000, half=True, targets=(rival(1.5),))
    yield set_many_existing(1_000_000, targets=(rival(1.5),))
    yield delete_many(1_000_000, targets=(rival(1.5),))
    for count in (1_000_000, 1_000):
        targets = (rival(1.0),) if count == 1_000_000 else ()
        yield scalar("get", count, targets=targets, note="m[k]: the map makes a view, a dict hands over its array")
        yield scalar("copy", count, targets=targets, note="m[k].copy()")
        yield scalar("set", count, targets=targets)
        yield scalar("insert", count, targets=targets, note="into an empty table, growth included")
        yield scalar("contains", count, targets=targets)
        yield scalar("contains", count, missing=True, targets=targets)
        yield scalar("delete", count, targets=targets)
    yield iterate_items(1_000_000)
