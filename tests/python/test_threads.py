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
errors = []

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
    rng = np.random.default_rng(seed)
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
    rng = np.random.default_rng(seed)
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


class TestTwoMaps:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("a.update(b)", "b.update(a)"),
            ("a.merge(b, 'max')", "b.merge(a, 'max')"),
            ("a.__ior__(b)", "b.__ior__(a)"),
            ("a == b", "b == a"),
            ("a | b", "b | a"),
            ("a.update(b)", "b == a"),
            ("b.copy(); a.update(b)", "a.copy(); b.merge(a)"),
            ("a.merge(a, 'add')", "b.merge(a); a.merge(b)"),
        ],
    )
    def test_both_ways_at_once(self, story, one, other):
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

together(there, back, there, back)
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
for m in maps:
    assert m._check() is None
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
            "m.pop_many(keys[100_000:200_000])",
            "m.to_arrays()",
            "m.copy()",
        ],
    )
    def test_another_thread_runs_during_a_batch(self, story, call):
        """With a switch interval of minutes another thread gets on only where the batch lets go of the GIL."""
        story(
            f"""
keys = np.random.default_rng(0).permutation(400_000)
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

sys.setswitchinterval(30.0)
thread = threading.Thread(target=other, daemon=True)
thread.start()
started.wait()
before = count
{call}
during = count - before
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
    rng = np.random.default_rng(1)
    for turn in range(3000):
        keys = rng.integers(0, 500, 20)
        m.delete_many(keys)
        keys = rng.integers(0, 500, 20)
        m.set_many(keys, keys[:, None])
    stop.set()

def look():
    rng = random.Random(2)
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

        The other thread is deep in one long batch, so that it has no hand on the GIL, which no raw fork survives.
        """
        story(
            """
import ctypes
libc = ctypes.PyDLL(None)
m = IntArrayMap(8, "int64")
other = IntArrayMap(8, "int64")
keys = np.random.default_rng(0).permutation(1_500_000)
m.set_many(keys, 0)
other[1] = 1
outcomes = []
for turn in range(12):
    thread = threading.Thread(target=m.add_many, args=(keys, 1))
    thread.start()
    time.sleep(0.005 + 0.005 * turn)
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
            except RuntimeError:
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
m.add_many(keys, 1)
rows = m.get_many(keys)
assert (rows == 13).all()
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
keys = np.random.default_rng(0).permutation(300_000)
m.set_many(keys, 0)
one = m.copy()
one.update_many(keys, 1, "set")
rng = random.Random(3)
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
keys = np.random.default_rng(0).permutation(200_000)
source = IntArrayMap.from_arrays(keys, np.ones((len(keys), 2), "i8"))
rng = random.Random(4)
sizes = set()
for turn in range(30):
    m = IntArrayMap(2, "int64")
    m[-1] = 1
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + rng.random() * 0.03)
        {call}
        time.sleep(10)
    except KeyboardInterrupt:
        pass
    assert len(m) in (1, 200_001), len(m)
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
m = IntArrayMap(2, "int64")
keys = np.arange(200_000)
m.set_many(keys, 0)
enough = "import os, time; [(time.sleep(0.02), os.kill(%d, 2)) for _ in range(30)]" % os.getpid()
interrupts, other = 0, None
while interrupts < 10:
    try:
        if other is None:
            other = subprocess.Popen([sys.executable, "-c", enough])
        while True:
            m.add_many(keys, 1)
    except KeyboardInterrupt:
        interrupts += 1
signal.signal(signal.SIGINT, signal.SIG_IGN)
other.wait()
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

def callback(phase, info):
    m.add_many(np.arange(500), 1)
    m[5], len(m), m.get(7)

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

work()
gc.callbacks.clear()
assert m._check() is None
"""
        )

    def test_finalizers_use_the_map(self, story):
        story(
            """
m = IntArrayMap(2, "int64")
m.set_many(np.arange(1000), 0)

class Node:
    def __del__(self):
        m.add_many(np.arange(100), 1)
        m.pop(5000, None)
        m[5001] = 1
        del m[5001]

gc.set_threshold(10, 1, 1)

def work():
    for turn in range(500):
        node = Node(); node.me = node
        m.get_many(np.arange(300))
        m.set_many(np.arange(300), 3)
        m.stats()

together(work, work)
gc.collect()
assert m._check() is None
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
    rng = np.random.default_rng(0)
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
