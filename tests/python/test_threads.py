"""Promise §9: threads, processes, signals. Each story is told in a child process, which may neither hang nor crash."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork and signals")

HEAD = """
import gc, os, random, signal, sys, threading, time, weakref
import numpy as np
from intarraymap import IntArrayMap
from model import KINDS, build_case, build_map, copy_of

sys.setswitchinterval(1e-5)
SEED = int(os.environ.get("INTARRAYMAP_SEED", "0"))
errors = []

def dice(number):
    return np.random.default_rng([SEED, number])

def guarded(function):
    def run(*arguments):
        try:
            function(*arguments)
        except BaseException as error:
            errors.append(error)
            raise
    return run

def together(*functions):
    threads = [threading.Thread(target=guarded(function)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
"""

INDEXES = ["hash", "direct", "auto"]


@pytest.fixture
def story(run_child):
    return lambda code, **names: run_child(
        HEAD + "\n".join(f"{name} = {value!r}" for name, value in names.items()) + "\n" + code, timeout=90
    )


@pytest.mark.parametrize("index", INDEXES)
class TestReadersAndWriters:
    def test_no_torn_rows(self, story, index):
        """A writer sets whole rows to one number; a reader must never see two numbers in a row of get_many."""
        story(
            """
m = IntArrayMap(64, index=index)
keys = np.arange(300)
m.set_many(keys, 0.0)
stop = threading.Event()

def write():
    for turn in range(400):
        m.set_many(keys, float(turn))
        m.update_many(keys[::3], float(turn) + 0.5, "set")
    stop.set()

def read():
    seen = 0
    while not stop.is_set() or not seen:
        rows = m.get_many(keys)
        assert (rows == rows[:, :1]).all(), "torn row"
        keys_out, rows = m.to_arrays()
        assert (rows == rows[:, :1]).all(), "torn row in to_arrays"
        rows = m.copy().get_many(keys)
        assert (rows == rows[:, :1]).all(), "torn row in copy"
        seen += 1

together(write, read, read, read)
assert m._check() is None
""",
            index=index,
        )

    def test_batches_are_atomic(self, story, index):
        """Every batch writes one number to all keys: a reader sees one number only, or none of the keys."""
        story(
            """
m = IntArrayMap(2, index=index)
keys = np.arange(2000)
stop = threading.Event()

def write():
    for turn in range(300):
        if turn % 10 == 9:
            m.delete_many(keys)
        else:
            m.set_many(keys, float(turn))
    stop.set()

def read():
    seen = 0
    while not stop.is_set() or not seen:
        rows, found = m.get_many(keys, -1.0, return_mask=True)
        assert found.all() or not found.any()
        assert (rows == rows[0, 0]).all()
        assert len(m) in (0, 2000)
        seen += 1

together(write, read, read)
assert m._check() is None
""",
            index=index,
        )

    def test_readers_beside_growth(self, story, index):
        story(
            """
m = IntArrayMap(4, "int64", index=index)
base = np.arange(1000)
m.set_many(base, base[:, None] * np.ones(4, int))
stop = threading.Event()

def grow():
    for key in range(1000, 40_000):
        m[key] = key
    m.delete_many(np.arange(1000, 40_000, 2))
    m.reserve(80_000)
    stop.set()

def read():
    turn = 0
    while not stop.is_set() or not turn:
        assert np.array_equal(m.get_many(base)[:, 0], base)
        assert m.contains_many(base).all()
        key = turn % 1000
        assert m[key][0] == key
        assert key in m and m.get(key)[3] == key
        turn += 1

together(grow, read, read)
assert m._check() is None
assert len(m) == 1000 + 19_500
""",
            index=index,
        )

    def test_everything_at_once(self, story, index):
        """Random calls from several threads: nothing is checked but errors, invariants and that it ends."""
        story(
            """
m = IntArrayMap(3, "int64", index=index)

def worker(seed):
    rng = dice(seed)
    held = []
    for turn in range(600):
        keys = rng.integers(0, 4000, rng.integers(1, 200))
        which = turn % 18
        try:
            if which == 0: m.set_many(keys, 1)
            elif which == 1: m.add_many(keys, 2)
            elif which == 2: m.delete_many(keys)
            elif which == 3: m.pop_many(keys, 0)
            elif which == 4: held.append(m[int(keys[0])])
            elif which == 5: m[int(keys[0])] = 5
            elif which == 6: m.ensure_many(keys)
            elif which == 7: m.get_many(keys, 0)
            elif which == 8: [row[0] for _, row in zip(range(50), m.values())]
            elif which == 9: [key for _, key in zip(range(50), m.scan())]
            elif which == 10: m.update({int(key): 3 for key in keys})
            elif which == 11: m.merge(m.copy(), "add")
            elif which == 12: m == m
            elif which == 13: m.popitem()
            elif which == 14: m.compact()
            elif which == 15: m.blocks(); m.stats(); repr(m)
            elif which == 16: held.clear(); m.reserve(5000)
            elif which == 17 and turn % 100 == 17: m.clear()
        except (KeyError, RuntimeError, BufferError):
            pass

together(*[lambda seed=seed: worker(seed) for seed in range(4)])
assert m._check() is None
gc.collect()
assert m.stats().views == 0 and m.stats().rows_held == 0
""",
            index=index,
        )


@pytest.mark.parametrize("index", INDEXES)
class TestNothingIsLost:
    def test_additions(self, story, index):
        story(
            """
m = IntArrayMap(2, "int64", index=index)

def add(seed):
    rng = dice(seed)
    for turn in range(150):
        keys = rng.permutation(2000)
        m.add_many(keys, 1)
        m.add_at(keys, 0, 1)
        m.update_many(keys[:100], 1, "add")

together(*[lambda seed=seed: add(seed) for seed in range(4)])
rows = m.get_many(np.arange(2000))
assert rows[:, 1].sum() == 4 * 150 * 2100, rows[:, 1].sum()
assert rows[:, 0].sum() == 4 * 150 * 4100, rows[:, 0].sum()
assert m._check() is None
""",
            index=index,
        )

    def test_every_key_is_popped_once(self, story, index):
        story(
            """
m = IntArrayMap(1, "int64", index=index)
m.set_many(np.arange(20_000), np.arange(20_000)[:, None])
popped = [[] for _ in range(4)]

def take(mine, which):
    if which == 0:
        while True:
            try:
                key, row = m.popitem()
            except KeyError:
                return
            assert row[0] == key
            mine.append(key)
    elif which == 1:
        for key in range(20_000):
            row = m.pop(key, None)
            if row is not None:
                assert row[0] == key
                mine.append(key)
    elif which == 2:
        for start in range(0, 20_000, 100):
            keys = np.arange(start, start + 100)
            removed = m.delete_many(keys)
            mine.extend(keys[removed].tolist())
    else:
        for start in range(19_900, -1, -100):
            keys = np.arange(start, start + 100)
            rows = m.pop_many(keys, -1)[:, 0]
            mine.extend(rows[rows >= 0].tolist())

together(*[lambda n=n: take(popped[n], n) for n in range(4)])
everything = sorted(key for mine in popped for key in mine)
assert everything == list(range(20_000)), len(everything)
assert len(m) == 0
""",
            index=index,
        )

    def test_every_key_is_created_once(self, story, index):
        story(
            """
m = IntArrayMap(1, "int64", index=index)
created = [0] * 4

def ensure(n):
    for start in range(0, 20_000, 50):
        _, new = m.ensure_many(np.arange(start, start + 60))
        created[n] += int(new.sum())

together(*[lambda n=n: ensure(n) for n in range(4)])
assert sum(created) == len(m) == 20_010
""",
            index=index,
        )

    def test_setdefault_gives_one_row(self, story, index):
        story(
            """
m = IntArrayMap(1, "int64", index=index)
places = [[] for _ in range(4)]

def ask(n):
    for key in range(3000):
        view = m.setdefault(key)
        places[n].append(view.ctypes.data)

together(*[lambda n=n: ask(n) for n in range(4)])
assert places[0] == places[1] == places[2] == places[3]
""",
            index=index,
        )


class TestOneMap:
    @pytest.mark.parametrize("kind", ["hash", "direct", "auto", "growing", "segments", "mapped", "leaving"])
    def test_every_operation_beside_every_other(self, story, kind):
        """The table of operations, each thread in an order of its own, without those that need a map alone."""
        story(
            """
from operations import ENDS, OPERATIONS, PRESENT

m = build_case(kind).map
names = sorted(OPERATIONS.keys() - ENDS - PRESENT)
assert len(names) > 60
done = []

def worker(n):
    for name in dice(n).permutation(names * 4).tolist():
        try:
            OPERATIONS[name](m)
        except (KeyError, BufferError):
            pass
        except RuntimeError as error:
            assert "changed during iteration" in str(error), (name, error)
        done.append(name)

together(*[lambda n=n: worker(n) for n in range(4)])
assert len(done) == 16 * len(names)
assert m._check() is None
gc.collect()
stats = m.stats()
assert stats.views == stats.scans == stats.rows_held == 0
m.set_many(np.arange(3000), 7.0)
assert (m.get_many(np.arange(3000)) == 7.0).all()
m.compact()
assert m._check() is None
""",
            kind=kind,
        )


class TestTwoMaps:
    @pytest.mark.parametrize(
        ("one", "other", "after"),
        [
            ("a.update(b)", "b.update(a)", "as_either(a); as_either(b)"),
            ("a.merge(b, 'max')", "b.merge(a, 'max')", "as_either(a, 2); as_either(b, 2)"),
            ("a.__ior__(b)", "b.__ior__(a)", "as_either(a); as_either(b)"),
            ("a == b", "b == a", "unchanged(a, 0, 1); unchanged(b, 1500, 2)"),
            ("a | b", "b | a", "unchanged(a, 0, 1); unchanged(b, 1500, 2)"),
            ("a.update(b)", "b == a", "as_either(a, 2); unchanged(b, 1500, 2)"),
            ("b.copy(); a.update(b)", "a.copy(); b.merge(a)", "as_either(a); as_either(b)"),
            ("a.merge(a, 'add')", "b.merge(a); a.merge(b)", "powers(a); powers(b)"),
        ],
    )
    def test_both_ways_at_once(self, story, one, other, after):
        """Keys of both, rows of one or the other and never a bit of each: whoever came first."""
        story(
            f"""
a = IntArrayMap(4, "int64"); b = IntArrayMap(4, "int64")
a.set_many(np.arange(0, 3000), 1)
b.set_many(np.arange(1500, 4500), 2)

def there():
    for _ in range(200):
        {one}

def back():
    for _ in range(200):
        {other}

def unchanged(m, first, number):
    keys, rows = m.to_arrays()
    assert sorted(keys.tolist()) == list(range(first, first + 3000))
    assert (rows == number).all()

def whole(m):
    rows = m.get_many(np.arange(4500))
    assert len(m) == 4500 and (rows == rows[:, :1]).all(), "a torn row"
    return rows[:, 0]

def as_either(m, shared=None):
    numbers = whole(m)
    assert (numbers[:1500] == 1).all() and (numbers[3000:] == 2).all()
    assert set(numbers[1500:3000]) <= ({{shared}} if shared else {{1, 2}})

def powers(m):  # of two, so often doubled that most have run over
    numbers = whole(m).view("u8")
    assert (numbers & (numbers - np.uint64(1)) == 0).all()

together(there, back, there, back)
{after}
assert a._check() is None and b._check() is None
"""
        )

    def test_three_in_a_ring(self, story):
        story(
            """
maps = [IntArrayMap(2, "int64") for _ in range(3)]
for n, m in enumerate(maps):
    m.set_many(np.arange(n * 500, n * 500 + 1000), n)

def turn(n):
    for _ in range(200):
        maps[n].merge(maps[(n + 1) % 3], "add")
        maps[n].merge(maps[n], "min")
        maps[n] == maps[(n + 2) % 3]

together(*[lambda n=n: turn(n) for n in range(3)], *[lambda n=n: turn(n) for n in range(3)])
for n, m in enumerate(maps):
    assert m._check() is None
    own = [*range(n * 500, n * 500 + 1000), *range((n + 1) % 3 * 500, (n + 1) % 3 * 500 + 1000)]
    keys, rows = m.to_arrays()
    assert set(own) <= set(keys.tolist()) <= set(range(2000))
    assert (rows[:, 0] == rows[:, 1]).all(), "a torn row"
"""
        )


class TestTheGilIsReleased:
    @pytest.mark.parametrize(
        "call",
        [
            "m.get_many(keys, out=out)",
            "m.set_many(keys, out)",
            "m.add_many(keys, 1.0)",
            "m.update_many(keys, 1.0, 'max')",
            "m.contains_many(keys)",
            "m.index_many(keys)",
            "m.ensure_many(keys)",
            "m.add_at(keys, 0)",
            "m.delete_many(keys[:100_000])",
            "m.pop_many(keys[100_000:200_000], 0.0)",
            "m.to_arrays()",
            "m.copy()",
        ],
    )
    def test_another_thread_runs_during_a_batch(self, story, call):
        """With a switch interval of minutes another thread gets on only where the batch lets go of the GIL.

        On a busy machine it may sleep through a batch of some milliseconds, so there are many.
        """
        story(
            f"""
keys = dice(0).permutation(400_000)
m = IntArrayMap.from_arrays(keys, np.ones((len(keys), 4)), index="hash")
out = np.ones((len(keys), 4))
started, stop = threading.Event(), False
count = 0

def other():
    global count
    started.set()
    while not stop:
        count += 1
        time.sleep(0)

sys.setswitchinterval(600.0)
thread = threading.Thread(target=other, daemon=True)
thread.start()
started.wait()
before = count
for turn in range(200):
    {call}
    during = count - before
    if during > 0:
        break
stop = True
thread.join()
assert during > 0, "nobody else could run"
"""
        )


class TestViews:
    def test_released_while_others_write(self, story):
        story(
            """
m = IntArrayMap(4, "int64")
m.set_many(np.arange(2000), 7)
stop = threading.Event()

def churn():
    for turn in range(150):
        keys = np.arange(0, 2000, 2) + turn % 2
        m.delete_many(keys)
        m.set_many(keys, 7)
    stop.set()

def look():
    rng = random.Random(threading.get_ident())
    held = {}
    while not stop.is_set():
        key = rng.randrange(2000)
        view = m.get(key)
        if view is not None:
            held[key] = view
            if len(held) > 300:
                held.pop(next(iter(held)))
        assert view is None or (view == 7).all() or (view == 0).all()

together(churn, look, look)
gc.collect()
assert m.stats().views == 0 and m.stats().rows_held == 0
assert m._check() is None
"""
        )

    def test_of_one_row_never_show_another(self, story):
        """Every row holds its own key: whatever a view shows, it is its key or, freshly made, zero."""
        story(
            """
m = IntArrayMap(1, "int64", index="hash")
m.set_many(np.arange(500), np.arange(500)[:, None])
stop = threading.Event()

def churn():
    rng = dice(1)
    for turn in range(3000):
        keys = rng.integers(0, 500, 20)
        m.delete_many(keys)
        keys = rng.integers(0, 500, 20)
        m.set_many(keys, keys[:, None])
    stop.set()

def look():
    rng = random.Random(2 + SEED)
    held = []
    while not stop.is_set():
        key = rng.randrange(500)
        view = m.get(key)
        if view is not None:
            held.append((key, view))
        for key, view in held:
            assert view[0] == key, (key, view[0])
        if len(held) > 50:
            del held[:25]

together(churn, look, look)
assert m._check() is None
"""
        )

    @pytest.mark.parametrize("index", INDEXES)
    def test_beside_clear(self, story, index):
        """A view keeps its row when the map is cleared or compacted, by whatever thread it is let go."""
        story(
            """
m = IntArrayMap(2, "int64", index=index)
keys = np.arange(500)
rows = np.repeat(keys[:, None], 2, axis=1)
m.set_many(keys, rows)
stop = threading.Event()

def clear():
    for turn in range(200):
        m.clear()
        m.set_many(keys, rows)
        try:
            m.compact()
        except BufferError:
            pass
    stop.set()

shared = []

def hold():
    rng = random.Random(threading.get_ident())
    while not stop.is_set():
        mine = []
        for _ in range(50):
            key = rng.randrange(500)
            view = m.get(key)
            if view is not None:
                mine.append((key, view))
        for key, view in mine:
            # Cleared between its making and its filling it is a row of zeros.
            assert view.tolist() in ([key, key], [0, 0]), (key, view)
        shared.extend(mine)  # let go by another thread
        if len(shared) > 500:
            del shared[:250]

together(clear, hold, hold, hold)
shared.clear()
gc.collect()
assert m.stats().views == 0 and m.stats().rows_held == 0
assert m._check() is None
m.compact()
""",
            index=index,
        )

    def test_blocks_beside_writers(self, story):
        story(
            """
m = IntArrayMap(2, "int64", index="hash")
m.set_many(np.arange(1000), 1)
stop = threading.Event()

def churn():
    for turn in range(300):
        m.delete_many(np.arange(turn % 7, 1000, 7))
        m.set_many(np.arange(1000), 1)
    stop.set()

def look():
    held = []
    while not stop.is_set():
        for first, keys, rows, present in m.blocks():
            held.append(rows)
        if len(held) > 20:
            del held[:15]

together(churn, look, look)
gc.collect()
assert m.stats().views == 0
m.set_many(np.arange(1000), 1)
assert m._check() is None and len(m) == 1000
m.compact()
"""
        )


class TestClose:
    @pytest.mark.parametrize(
        "call",
        [
            "m.get_many(keys)",
            "m.add_many(keys, 1.0)",
            "m.set_many(keys, 2.0)",
            "m.copy()",
            "m.to_arrays()",
            "[None for _ in m.scan()]",
            "m[5]",
            "m.merge(m)",
            "m == m",
        ],
    )
    def test_during_batches(self, story, call):
        story(
            f"""
for turn in range(30):
    m = IntArrayMap(8)
    keys = np.arange(3000)
    m.set_many(keys, 1.0)
    ready = threading.Barrier(4)

    def work():
        ready.wait()
        try:
            while True:
                {call}
        except ValueError:
            pass

    def close():
        ready.wait()
        time.sleep(random.random() * 0.003)
        m.close()
        m.close()

    together(work, work, work, close)
    try:
        len(m)
    except ValueError:
        pass
    else:
        raise AssertionError("not closed")
"""
        )

    def test_from_many_threads(self, story):
        story(
            """
for turn in range(200):
    m = IntArrayMap(8)
    m.set_many(np.arange(100), 1.0)
    views = [m[key] for key in range(100)]
    together(m.close, m.close, views.clear)
"""
        )

    def test_last_reference_in_another_thread(self, story):
        story(
            """
for turn in range(200):
    m = IntArrayMap(8)
    m.set_many(np.arange(100), 1.0)
    box = [m]
    views = [m[key] for key in range(100)]
    del m
    together(box.clear, views.clear)
"""
        )


class TestFiles:
    def test_opened_map_closed_beside_readers(self, story, tmp_path):
        """Views of the file go on after close, and its pages go with the last of them."""
        story(
            """
rows = np.repeat(np.arange(3000)[:, None], 2, axis=1)
IntArrayMap.from_arrays(np.arange(3000), rows).save(path)
for turn in range(40):
    m = IntArrayMap.open(path, mode="rc"[turn % 2])
    ready = threading.Barrier(4)

    def read():
        ready.wait()
        kept = []
        try:
            while True:
                kept.append((turn, m[turn]))
                assert (m.get_many(np.arange(3000)) == rows).all()
                assert sum(1 for _ in m.scan()) == 3000
                kept.append((7, m.get(7)))
        except ValueError:
            pass
        for key, view in kept:
            assert view.tolist() == [key, key]

    def close():
        ready.wait()
        time.sleep(random.random() * 0.005)
        m.close()

    together(read, read, read, close)
gc.collect()
for line in open("/proc/self/maps") if sys.platform == "linux" else ():
    assert path not in line, "the file is still mapped"
""",
            path=str(tmp_path / "map.iam"),
        )

    def test_save_beside_writers(self, story, tmp_path):
        """A file holds one moment: batches that came before, whole, and none that came after."""
        story(
            """
m = IntArrayMap(2, "int64")
keys = np.arange(20_000)
m.set_many(keys, 0)
done = [threading.Event(), threading.Event()]

def write():
    turn = 0
    while not all(event.is_set() for event in done):
        m.add_many(keys, 1)
        m.set_many(np.arange(20_000, 20_000 + turn % 500), turn)
        m.delete_many(np.arange(20_000, 20_500))
        turn += 1

def save(n):
    try:
        for turn in range(15):
            name = f"{path}.{n}"
            m.save(name, progress=(lambda done, total: len(m)) if turn % 3 == 0 else None)
            back = IntArrayMap.load(name)
            rows = back.get_many(keys)
            assert (rows == rows[0, 0]).all(), "a part of a batch"
            rest = back.get_many(np.arange(20_000, 20_500), -1)
            assert len(np.unique(rest[rest >= 0])) <= 1
            assert back._check() is None
    finally:
        done[n].set()

together(write, lambda: save(0), lambda: save(1))
assert m._check() is None
assert not [name for name in os.listdir(os.path.dirname(path)) if name.endswith(".tmp")]
""",
            path=str(tmp_path / "map.iam"),
        )

    def test_one_file_opened_by_many(self, story, tmp_path):
        """Opened, read and let go in many threads, while another one replaces it."""
        story(
            """
def image(number):
    return IntArrayMap.from_arrays(np.arange(1000), np.full((1000, 2), number))

image(0).save(path)
stop = threading.Event()

def replace():
    for turn in range(60):
        image(turn).save(path)
    stop.set()

def read():
    while not stop.is_set():
        m = IntArrayMap.open(path)
        rows = m.get_many(np.arange(1000))
        assert (rows == rows[0, 0]).all()
        view = m[5]
        del m
        assert (view == rows[5]).all()
        assert IntArrayMap.load(path)._check() is None

together(replace, read, read, read)
""",
            path=str(tmp_path / "map.iam"),
        )


class TestIterationBesideWriters:
    def test_raises_or_goes_on(self, story):
        story(
            """
m = IntArrayMap(1, "int64")
m.set_many(np.arange(1000), 1)
stop = threading.Event()

def write():
    for turn in range(1000):
        m[1000 + turn % 100] = 1
        m.pop(1000 + (turn + 50) % 100, None)
    stop.set()

def walk():
    broken = 0
    while not stop.is_set():
        try:
            for key, row in m.items():
                assert 0 <= key < 1100
        except RuntimeError:
            broken += 1

def scan():
    while not stop.is_set():
        came = [key for key, _ in m.scan()]
        assert set(range(1000)) <= set(came)
        assert sorted(key for key in came if key < 1000) == list(range(1000))

together(write, walk, scan)
assert m._check() is None
"""
        )

    @pytest.mark.parametrize("index", INDEXES)
    def test_scans_beside_growth(self, story, index):
        """Keys that are there throughout come exactly once, whatever grows, goes or changes its index meanwhile."""
        story(
            """
m = IntArrayMap(2, "int64", index=index)
base = np.arange(1000)
m.set_many(base, base[:, None] * np.ones(2, int))
far = 0 if index == "direct" else 2**40  # from some moment on, so that auto leaves the direct index
stop = threading.Event()

def grow():
    for key in range(1000, 15_000):
        m[key + (far if key > 8000 else 0)] = key
        if key % 3 == 0:
            m.pop(key - 1, None)
        if key % 1000 == 0:
            m.delete_many(np.arange(1000, key, 7))
            m.reserve(key * 2)
            m.set_many(np.arange(20_000, 20_000 + key), 1)
    stop.set()

def scan():
    turns = 0
    while not stop.is_set() or not turns:
        came = []
        for key, row in m.scan():
            if key < 1000:
                assert row[0] == row[1] == key
                came.append(key)
        assert sorted(came) == list(range(1000)), len(came)
        turns += 1

together(grow, scan, scan)
assert m._check() is None
""",
            index=index,
        )

    def test_whole_map_calls_beside_readers_and_scans(self, story):
        """compact is refused or moves all rows: a reader never sees a key missing, a copy is always whole."""
        story(
            """
m = IntArrayMap(3, "int64")
keys = np.arange(2000)
rows = np.ascontiguousarray(np.repeat(keys[:, None], 3, axis=1))
m.set_many(keys, rows)
stop = threading.Event()
outcomes = {"moved": 0, "held": 0}

def shrink_and_grow():
    for turn in range(120):
        m.set_many(np.arange(2000, 4000), 1)
        m.delete_many(np.arange(2000, 4000))
        try:
            m.compact()
            outcomes["moved"] += 1
        except BufferError:
            outcomes["held"] += 1
        m.reserve(2000 + 100 * turn)
    stop.set()

def read():
    while not stop.is_set():
        assert (m.get_many(keys) == rows).all()
        assert m.contains_many(keys).all()
        for key in range(0, 2000, 97):
            assert m[key].tolist() == [key] * 3

def scan():
    while not stop.is_set():
        came = sorted(key for key, _ in m.scan() if key < 2000)
        assert came == list(range(2000)), len(came)

def copy():
    while not stop.is_set():
        other = m.copy()
        assert (other.get_many(keys) == rows).all() and other._check() is None
        assert len(m.blocks()) >= 1 and m.stats().count >= 2000

together(shrink_and_grow, read, scan, copy)
assert m._check() is None
assert sum(outcomes.values()) == 120
gc.collect()
m.compact()
"""
        )


class TestFork:
    def test_child_has_the_map(self, story):
        story(
            """
for index in ("hash", "direct", "auto"):
    m = IntArrayMap(3, "int64", index=index)
    m.set_many(np.arange(5000), np.arange(5000)[:, None] * np.ones(3, int))
    view = m[7]
    child = os.fork()
    if child == 0:
        try:
            assert len(m) == 5000
            assert m[77].tolist() == [77] * 3
            m.set_many(np.arange(5000, 9000), 1)
            m.delete_many(np.arange(100))
            view[:] = -1
            assert m._check() is None
            m.close()
            os._exit(0)
        except BaseException:
            import traceback; traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(m) == 5000
    assert view.tolist() == [7] * 3
    assert m._check() is None
"""
        )

    def test_while_other_threads_are_in_batches(self, story):
        """os.fork waits for batches to drain: the child can use every map."""
        story(
            """
m = IntArrayMap(8, "int64")
keys = np.arange(50_000)
m.set_many(keys, 0)
stop = threading.Event()

def write():
    while not stop.is_set():
        m.add_many(keys, 1)

def read():
    while not stop.is_set():
        m.get_many(keys)

def fork():
    for turn in range(25):
        child = os.fork()
        if child == 0:
            try:
                rows = m.get_many(keys)
                assert (rows == rows[0, 0]).all(), "a batch was cut in two"
                m.add_many(keys, 1)
                m[1] = 5
                assert m._check() is None
                os._exit(0)
            except BaseException:
                import traceback; traceback.print_exc()
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()

together(write, write, read, fork)
assert m._check() is None
"""
        )

    def test_multiprocessing(self, story):
        story(
            """
import multiprocessing
context = multiprocessing.get_context("fork")
m = IntArrayMap(2, "int64")
m.set_many(np.arange(1000), np.arange(1000)[:, None] * np.ones(2, int))

def look(n):
    assert m[n].tolist() == [n, n]
    m[n] = -1
    return m.get_many(np.arange(n, n + 10)).sum()

def send(other):
    assert other._check() is None
    other.add_many(np.arange(1000), 1)
    return other

with context.Pool(2) as pool:
    sums = pool.map(look, range(100))
    back = pool.map(send, [m, m])
assert sums == [sum([-1, *range(n + 1, n + 10)]) * 2 for n in range(100)]
assert all(other.get_many(np.arange(1000))[:, 0].tolist() == list(range(1, 1001)) for other in back)
assert m[5].tolist() == [5, 5]
"""
        )

    def test_spawned_process_gets_a_pickle(self, story):
        story(
            """
import subprocess, pickle
m = IntArrayMap.from_arrays(np.arange(1000), np.arange(2000).reshape(1000, 2))
code = "import pickle, sys; m = pickle.load(sys.stdin.buffer); print(len(m), int(m[999][1]))"
out = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(m, 5), capture_output=True, check=True).stdout
assert out.split() == [b"1000", b"1999"]
"""
        )

    def test_raw_fork_in_the_middle_of_a_batch(self, story):
        """A fork that Python does not know of: the map works or raises RuntimeError in the child; it never hangs.

        No raw fork survives another thread's hand on the GIL. So the other thread is deep in one long batch, as its
        first row tells, and should it come to the end all the same, it does not ask for the GIL within the hour.
        """
        story(
            """
import ctypes
sys.setswitchinterval(3600)
libc = ctypes.PyDLL(None)
m = IntArrayMap(8, "int64")
other = IntArrayMap(8, "int64")
keys = np.tile(dice(0).permutation(1_500_000), 4)
m.set_many(keys, 0)
first = m[int(keys[0])]
other[1] = 1
outcomes = []
for turn in range(12):
    thread = threading.Thread(target=m.add_many, args=(keys, 1))
    thread.start()
    while first[0] == 4 * turn:
        time.sleep(0.001)
    time.sleep(0.002 * turn)
    child = libc.fork()
    if child == 0:
        signal.alarm(20)
        code = 1
        try:
            assert other[1][0] == 1
            other[2] = 2
            try:
                m[1] = 5
                m.get_many(keys[:10])
                assert len(m) == 1_500_000
                code = 0
            except RuntimeError as error:
                assert "was being written by another thread when the process was forked" in str(error), error
                try:
                    m.set_many(keys[:10], 1)
                except RuntimeError:
                    code = 3
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    thread.join()
    assert os.WIFEXITED(status), (status, outcomes)
    outcomes.append(os.WEXITSTATUS(status))
assert set(outcomes) <= {0, 3}, outcomes
assert 3 in outcomes, "no fork came in the middle of a batch"
m.add_many(keys, 1)
rows = m.get_many(keys[:1_500_000])
assert (rows == 52).all()
"""
        )

    def test_hooks_of_others_that_run_batches(self, story):
        """One that came before ours runs when our gate has closed: its batch waited for what only it could open."""
        story(
            """
import subprocess
CODE = '''
import os, threading
import numpy as np
m, calls = None, 0

def hook():
    global calls
    if m is not None:
        calls += 1
        m.add_many(KEYS, 1)
        assert (m.get_many(KEYS) > 0).all()

os.register_at_fork(before=hook, after_in_parent=hook, after_in_child=hook)
from intarraymap import IntArrayMap
KEYS = np.arange(5000)
m = IntArrayMap.from_arrays(KEYS, np.zeros((5000, 1), int))
others = [threading.Thread(target=lambda: [m.add_many(KEYS, 1) for _ in range(100)]) for _ in range(2)]
for thread in others:
    thread.start()
for turn in range(10):
    child = os.fork()
    if child == 0:
        os._exit(len(set(m.get_many(KEYS)[:, 0])))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1, "part of a batch"
for thread in others:
    thread.join()
assert calls == 20 and set(m.get_many(KEYS)[:, 0].tolist()) == {220}
'''
# Before anything has imported the package.
subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", CODE], check=True)
"""
        )


class TestSignals:
    def test_handler_uses_the_map(self, story):
        """The handler runs on the main thread between and after batches: with no lock held."""
        story(
            """
m = IntArrayMap(8, "int64")
keys = np.arange(20_000)
m.set_many(keys, 0)
calls = 0

def handler(*_):
    global calls
    calls += 1
    m.add_many(keys[:5000], 1)
    m[calls % 20_000] = 5
    m[30_000 + calls] = 1
    m.pop(30_000 + calls)
    len(m), m.get(5), m.contains_many(keys[:10])
    m.stats(), repr(m)

def ring(*_):
    handler()  # one signal at a time: where a handler takes longer than the timer, they would nest without end
    signal.setitimer(signal.ITIMER_REAL, 0.001)

signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.001)
turns = 0
while calls < 200:
    m.add_many(keys, 1)
    m.get_many(keys)
    m.update({int(key): 3 for key in keys[:100]})
    m.copy(), m.to_arrays(), m == m
    try:
        for key, row in zip(range(100), m.values()):
            pass
    except RuntimeError:  # the handler came in between and inserted
        pass
    turns += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert m._check() is None
assert len(m) == 20_000
"""
        )

    def test_handler_while_other_threads_work(self, story):
        story(
            """
m = IntArrayMap(8, "int64")
keys = np.arange(20_000)
m.set_many(keys, 0)
calls = 0
stop = threading.Event()

def handler(*_):
    global calls
    calls += 1
    m.add_many(keys, 1)
    signal.setitimer(signal.ITIMER_REAL, 0.002)

def work():
    while not stop.is_set():
        m.add_many(keys, 1)
        m.get_many(keys)

signal.signal(signal.SIGALRM, handler)
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
signal.setitimer(signal.ITIMER_REAL, 0.002)
while calls < 50:
    m.add_many(keys, 1)
signal.setitimer(signal.ITIMER_REAL, 0)
stop.set()
for thread in threads: thread.join()
rows = m.get_many(keys)
assert (rows == rows[0, 0]).all()
"""
        )

    @pytest.mark.parametrize(
        "call",
        [
            "m.add_many(keys, 1)",
            "m.add_many(keys[::-1], np.ones((len(keys), 2), 'i8'))",
            "m.merge(one, 'add')",
            "m.update_many(keys, 1, 'add')",
        ],
    )
    def test_interrupt_is_nothing_or_the_whole_batch(self, story, call):
        """As Ctrl-C: KeyboardInterrupt from a signal at any moment of a batch."""
        story(
            f"""
signal.signal(signal.SIGALRM, signal.default_int_handler)
m = IntArrayMap(2, "int64")
keys = dice(0).permutation(300_000)
m.set_many(keys, 0)
one = m.copy()
one.update_many(keys, 1, "set")
rng = random.Random(3 + SEED)
for turn in range(40):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + rng.random() * 0.03)
        while True:
            {call}
    except KeyboardInterrupt:
        pass
    rows = m.get_many(keys)
    assert (rows == rows[0, 0]).all(), "a part of a batch"
assert m._check() is None
"""
        )

    @pytest.mark.parametrize("call", ["m.set_many(keys, 1)", "m.ensure_many(keys)", "m.update(source)"])
    def test_interrupt_of_inserts(self, story, call):
        story(
            f"""
signal.signal(signal.SIGALRM, signal.default_int_handler)
keys = dice(0).permutation(200_000)
source = IntArrayMap.from_arrays(keys, np.ones((len(keys), 2), "i8"))
sizes = set()
delay = 1e-5  # comes before the call, and is then led to the moment at which nothing turns into all
for turn in range(40):
    m = IntArrayMap(2, "int64")
    m[-1] = 1
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        {call}
        time.sleep(60)
    except KeyboardInterrupt:
        pass
    assert len(m) in (1, 200_001), len(m)
    assert m._check() is None
    sizes.add(len(m))
    delay = min(delay * 2, 30) if len(m) == 1 else delay * 0.6
assert sizes == {{1, 200_001}}, sizes
"""
        )

    def test_interrupt_of_a_thread_that_waits_for_the_lock(self, story):
        """Ctrl-C ends the waiting, not the batch that is waited for: nothing was written."""
        story(
            """
signal.signal(signal.SIGALRM, signal.default_int_handler)
m = IntArrayMap(8, "int64")
keys = np.tile(dice(0).permutation(1_500_000), 4)
new = np.arange(-50_000, 0)
m.set_many(keys, 0)
first = m[int(keys[0])]
for turn in range(20):  # once is enough; should the other thread be through before the signal comes: again
    finished = threading.Event()
    before = int(first[0])

    def add():
        m.add_many(keys, 1)
        finished.set()

    thread = threading.Thread(target=add)
    thread.start()
    while first[0] == before:
        time.sleep(0.001)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        m.set_many(new, 1)
        time.sleep(60)
    except KeyboardInterrupt:
        waited = not finished.is_set()
    thread.join()
    assert len(m) in (1_500_000, 1_550_000), len(m)
    if waited and len(m) == 1_500_000:
        break
    m.delete_many(new)
else:
    raise AssertionError("the signal never came while the lock was waited for")
assert (m.get_many(keys[:1_500_000]) == 4 * turn + 4).all()
assert m._check() is None
"""
        )

    def test_control_c_itself(self, run_child):
        """SIGINT from outside, until the program has had enough of it."""
        run_child(
            """
import os, signal, subprocess, sys
import numpy as np
from intarraymap import IntArrayMap
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where a shell started us in the background
m = IntArrayMap(2, "int64")
keys = np.arange(200_000)
m.set_many(keys, 0)
# One signal for each byte that comes: whoever handles the last one is not met by the next.
each = "import os, time\\nwhile os.read(0, 1): time.sleep(0.02); os.kill(%d, 2)" % os.getpid()
other = subprocess.Popen([sys.executable, "-c", each], stdin=subprocess.PIPE, bufsize=0)
interrupts = 0
while interrupts < 10:
    try:
        other.stdin.write(b".")
        while True:
            m.add_many(keys, 1)
    except KeyboardInterrupt:
        interrupts += 1
other.stdin.close()
assert other.wait() == 0
rows = m.get_many(keys)
assert (rows == rows[0, 0]).all(), "a part of a batch"
assert m._check() is None
"""
        )

    def test_handler_that_raises(self, story):
        story(
            """
class Stop(Exception):
    pass

def handler(*_):
    raise Stop

signal.signal(signal.SIGALRM, handler)
m = IntArrayMap(2, "int64")
keys = np.arange(200_000)
m.set_many(keys, 0)
stopped = 0
for turn in range(30):
    signal.setitimer(signal.ITIMER_REAL, 0.001 + 0.0005 * turn)
    try:
        while True:
            m.add_many(keys, 1)
            m.get_many(keys)
    except Stop:
        stopped += 1
    rows = m.get_many(keys)
    assert (rows == rows[0, 0]).all()
assert stopped == 30
assert m._check() is None
"""
        )


class TestCallbacks:
    def test_garbage_collector_callbacks_use_the_map(self, story):
        story(
            """
m = IntArrayMap(2, "int64")
m.set_many(np.arange(1000), 0)

calls = 0

def callback(phase, info):
    global calls
    m.add_many(np.arange(500), 1)
    m[5], len(m), m.get(7)
    calls += 1

gc.callbacks.append(callback)
gc.set_threshold(20, 1, 1)

class Node:
    pass

def work():
    for turn in range(300):
        node = Node(); node.me = node
        m.set_many(np.arange(1000, 1100), 1)
        m.update({key: 1 for key in range(50)})
        list(m.items())[:3]
        m.delete_many(np.arange(1000, 1100))
        m.copy()
        if turn % 10 == 0:
            gc.collect()

work()
gc.callbacks.clear()
assert calls >= 60, calls  # at the start and at the end of those asked for, and of many more where there is a GIL
assert m._check() is None
"""
        )

    def test_finalizers_use_the_map(self, story):
        story(
            """
m = IntArrayMap(2, "int64")
m.set_many(np.arange(1000), 0)

gone = []

class Node:
    def __del__(self):
        m.add_many(np.arange(100), 1)
        m.pop(5000, None)
        m[5001] = 1
        m.pop(5001, None)
        gone.append(1)

gc.set_threshold(10, 1, 1)

def work():
    for turn in range(500):
        node = Node(); node.me = node
        m.get_many(np.arange(300))
        m.set_many(np.arange(300), 3)
        m.stats()

together(work, work)
gc.collect()
assert len(gone) == 1000, "some finalizers were not run to their end"
assert m._check() is None
"""
        )

    def test_weakref_callbacks_use_the_map(self, story):
        """They run wherever a map or a view goes: in the middle of other calls on the same map too."""
        story(
            """
m = IntArrayMap(2, "int64")
m.set_many(np.arange(1000), 0)
calls = [0, 0, 0]

def callback(n):
    def run(reference):
        calls[n] += 1
        m.add_many(np.arange(300), 1)
        m[5], len(m), m.get(7), m.pop(10_000 + n, None)
        m[10_000 + n] = 1
    return run

def of_views(n):
    run = callback(n)
    for turn in range(300):
        view = m[turn % 1000]
        reference = weakref.ref(view, run)
        del view
    assert calls[n] == 300, calls

def of_maps(n):
    run = callback(n)
    references = []
    for turn in range(300):
        other = m.copy()
        references.append(weakref.ref(other, run))
        box = [other]
        box.append(box)  # the collector's
        del other, box
        if turn % 10 == 0:
            gc.collect()

together(lambda: of_views(0), lambda: of_maps(1), lambda: of_views(2))
gc.collect()
assert m._check() is None
"""
        )

    def test_tracemalloc_is_told_the_truth(self, story):
        """Threads tell it of their writes side by side: what it believes in the end is what the map has."""
        story(
            """
import tracemalloc
tracemalloc.start()
maps = [IntArrayMap(8, index=index) for index in ("hash", "direct", "auto")]

def work(seed):
    rng = dice(seed)
    for turn in range(150):
        for m in maps:
            m.set_many(rng.integers(0, 40_000, 500), 1.0)
            m[int(rng.integers(40_000))] = 2.0
            if turn % 40 == seed:
                m.clear()

together(*[lambda seed=seed: work(seed) for seed in range(4)])
traces = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, 0x1A3A9)]).traces
assert sorted(trace.size for trace in traces) == sorted(m.nbytes for m in maps)
"""
        )

    def test_at_interpreter_exit(self, story):
        story(
            """
import atexit
m = IntArrayMap(2, "int64")
m.set_many(np.arange(1000), 0)
view = m[5]
atexit.register(lambda: (m.add_many(np.arange(1000), 1), view[:]))

def work():
    while True:
        m.add_many(np.arange(1000), 1)

threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
"""
        )

    @pytest.mark.parametrize(
        "call",
        [
            "m.get_many(keys)",
            "m.add_many(keys, 1)",
            "m[next(turns) % 1000]",
            "m.update_many(keys, 1, 'max')",
            "held.append([*m.values()])",
            "[None for _ in m.scan()]",
            "m.copy()",
            "IntArrayMap.from_arrays(keys, m.get_many(keys))",
            "m.blocks()",
            "m.save(path)",
        ],
    )
    def test_daemon_threads_at_exit(self, story, call, tmp_path):
        """They are stopped wherever they take the GIL back: no lock is held there that the end would wait for."""
        story(
            f"""
import itertools
m = IntArrayMap(2, "int64")
keys = np.arange(5000)
m.set_many(keys, 0)
turns = itertools.count()
held = []
running = threading.Semaphore(0)
path = {str(tmp_path / "map.iam")!r}

def work():
    running.release()
    while True:
        {call}
        del held[:-2]

for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
for _ in range(4):
    running.acquire()
time.sleep(0.1)
views = [m[key] for key in range(1000)]
m[5] = 6
"""
        )

    def test_threads_at_shutdown_hold_views(self, story):
        """Threads that the interpreter waits for go on using map and views; what is left goes with the module."""
        out = story(
            """
import atexit
m = IntArrayMap(2, "int64")
m.set_many(np.arange(1000), 1)
local = threading.local()
kept = [m[key] for key in range(100)] + m.blocks()
cycle = [m, kept, [*m.items()]]
cycle.append(cycle)

class Late:
    def __init__(self):
        self.map, self.view, self.write = m, m[7], os.write

    def __del__(self):
        # Exact rows only: where numbers are to be converted, modules are asked that may be gone by now.
        self.map[8] = self.view
        assert self.map.pop(8).tolist() == [1, 1] and 8 not in self.map and len(self.map) == 999
        self.write(1, b"late ")

late = Late()

def work():
    local.views = [m[key] for key in range(500)]
    threading.main_thread().join()
    m.add_many(np.arange(10, 1000), 1)
    assert local.views[3].tolist() == m[3].tolist()
    m.copy().close()
    os.write(1, b"thread ")

for _ in range(3):
    threading.Thread(target=work).start()

def at_exit():
    m.set_many(np.arange(1000), 1)
    assert len(m) == 1000 and m._check() is None
    os.write(1, b"exit ")

atexit.register(at_exit)
"""
        )
        assert sorted(out.split()) == ["exit", "late", "thread", "thread", "thread"]


class TestInterpreters:
    """A second interpreter in one process: NumPy and our modules work there, or refuse by ImportError."""

    @pytest.mark.parametrize("isolated", [False, True], ids=["legacy", "isolated"])
    @pytest.mark.parametrize("main_first", [True, False], ids=["main first", "main last"])
    def test_works_or_refuses(self, run_child, isolated, main_first):
        run_child(
            f"""
import os
try:
    import _interpreters as interpreters
    create = lambda: interpreters.create("isolated" if {isolated} else "legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    create = lambda: interpreters.create(isolated={isolated})

def use():
    from intarraymap import IntArrayMap
    m = IntArrayMap(2)
    m[5] = 1
    view = m[5]
    m.add_many([5, 6, 7] * 1000, 1)
    assert len(m) == 3 and view[0] == 1001 and m._check() is None
    return m, view

kept = use() if {main_first} else None
reader, writer = os.pipe()
code = '''
import os, warnings
warnings.simplefilter("ignore")  # NumPy's
try:
    from intarraymap import IntArrayMap
    m = IntArrayMap(2); m[5] = 1; view = m[5]
    m.add_many([5, 6, 7] * 1000, 1)
    said = "works" if len(m) == 3 and view[0] == 1001 else "fails"
except ImportError as error:
    said = "refuses: " + str(error)[:200]
os.write(WRITER, said.encode())
'''.replace("WRITER", str(writer))
said = []
for turn in range(3):
    other = create()
    assert interpreters.run_string(other, code) is None
    said.append(os.read(reader, 1000).decode())
    interpreters.destroy(other)
assert all(each.startswith(("works", "refuses: ")) for each in said), said
try:
    use()
except ImportError:  # the other interpreter was first
    assert kept is None and said[0] == "works", said
"""
        )


class TestInputsChangedMeanwhile:
    @pytest.mark.parametrize(
        "call",
        [
            "m.set_many(keys, rows)",
            "m.add_many(keys, rows)",
            "m.update_many(keys, rows, 'max')",
            "m.get_many(keys, rows)",
            "m.pop_many(keys, rows)",
            "m.add_at(keys, items, values)",
            "m.ensure_many(keys, rows[0])",
            "m.get_many(keys, 0, out=rows)",
            "IntArrayMap.from_arrays(keys, rows)",
            "m.set_many(listed, rows[:100])",
            "m.set_many(np.arange(100), nested)",
            "m.update(mapping)",
            "m.__setitem__(5, nested[0])",
            "m.update(pairs)",
            "m.contains_many(keys)",
            "m.contains_many(listed)",
            "m.index_many(keys)",
            "IntArrayMap.fromkeys(listed, rows[0])",
            "m == mapping",
            "m | mapping",
            "m.keys() & listed",
            "IntArrayMap.from_arrow(lent)",
        ],
    )
    def test_by_another_thread(self, story, call):
        """Numbers that change while they are read, lists and dicts that grow and shrink: some answer, no broken map."""
        story(
            f"""
m = IntArrayMap(2, "int64")
keys = np.arange(3000)
rows = np.ones((3000, 2), "int64")
items, values = np.zeros(3000, "int64"), np.ones(3000, "int64")
listed, nested = list(range(100)), [[1, 2] for _ in range(100)]
mapping = {{key: [1, 2] for key in range(100)}}
pairs = list(mapping.items())
source = IntArrayMap.from_arrays(np.arange(3000), rows)
lent, numbers = source.to_arrow(copy=False), [rows for _, _, rows, _ in source.blocks()]
m.set_many(keys, 1)
stop = threading.Event()

def scramble():
    rng = dice(0)
    while not stop.is_set():
        keys[:] = rng.integers(-5000, 5000, 3000)
        rows[:] = rng.integers(-9, 9, (3000, 2))
        items[:] = rng.integers(0, 4, 3000)
        values[:] = 5
        for each in numbers:
            each += 1
        listed.append(listed.pop(0))
        del listed[50:], nested[50:]
        listed.extend(range(50)); nested.extend([[3, 4]] * 50)
        nested[0].append(nested[0].pop())
        mapping[int(keys[0])] = [5, 6]
        mapping.pop(next(iter(mapping)))
        pairs[:] = [(3, [4, 5])] * int(rng.integers(1, 100))

def work():
    try:
        for turn in range(200):
            try:
                {call}
            except (KeyError, ValueError, TypeError, RuntimeError):
                pass
    finally:
        stop.set()

together(scramble, work)
assert m._check() is None
"""
        )


class TestKeysChangedMeanwhile:
    def test_by_another_thread(self, story):
        """A caller who writes to the keys during the batch gets some answer, never a broken map."""
        story(
            """
m = IntArrayMap(4, "int64")
keys = np.arange(5000)
m.set_many(keys, 1)
stop = threading.Event()

def scramble():
    rng = dice(0)
    while not stop.is_set():
        keys[:] = rng.integers(-10_000, 10_000, 5000)

def work():
    for turn in range(300):
        try:
            m.set_many(keys, 1)
            m.add_many(keys, 1)
            m.get_many(keys, 0)
            m.ensure_many(keys)
            m.delete_many(keys)
            m.pop_many(keys, 0)
        except KeyError:
            pass
    stop.set()

together(scramble, work)
assert m._check() is None
"""
        )
