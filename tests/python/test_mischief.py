"""Promise §7: the caller's own objects do something to the map in the middle of every operation that asks them.

A table of operations times a table of mischiefs: each operation gets an object of the caller (a key, an array, a
sequence, a generator, a mapping, a path …) that does one mischief when it is asked, in each of the ways in which it can
be asked. Whatever comes of it is a documented error or an answer; the map is sound afterwards and goes on working.
"""

from __future__ import annotations

import copy
import gc
import os
import pickle
import sys
from collections.abc import Mapping
from threading import get_ident

import numpy as np
import pytest
from hostile_objects import (
    Array,
    Asked,
    ChildArray,
    ChildOut,
    HostileError,
    Index,
    Typed,
    child,
    quietly,
    refused_init,
)
from model import DOCUMENTED_ERRORS, KINDS, bits, build_case, copy_of
from operations import FOLDER

from intarraymap import IntArrayMap, files


class Trap:
    """Makes objects that do a mischief whenever they are asked something; at most so often, or it would never end."""

    def __init__(self, m, mischief):
        self.m, self.mischief, self.left, self.sprung = m, mischief, 3, 0

    def spring(self):
        if self.left:
            self.left -= 1
            self.sprung += 1
            self.mischief(self)

    def key(self, key=5):
        return Key(self.spring, key)

    def array(self, answer):
        return Array(self.spring, answer)

    def interface(self, answer):
        return Interface(self.spring, np.array(answer))

    def sequence(self, answer):
        return Sequence(self.spring, answer)

    def buffer(self, answer):
        return Buffer(self.spring, np.ascontiguousarray(answer))

    def child(self, answer):
        return child(ChildArray, self.spring, answer)

    def out(self):
        """Not contiguous: what is read is written to it through ``__setitem__``."""
        return child(ChildOut, self.spring, np.empty((6, 3, 2))[..., 0])

    def dtype(self, name):
        return Typed(self.spring, np.dtype(name))

    def generator(self, answer):
        for item in answer:
            self.spring()
            yield item

    def mapping(self, answer):
        return Odd(self.spring, answer)

    def map(self):
        made = ChildMap(3)
        made.set_many(KEYS, ROWS)
        made.action = self.spring
        return made

    def path(self, answer):
        return Path(self.spring, answer)

    def word(self, text):
        made = Word(text)
        made.action = self.spring
        return made

    def truth(self):
        return Truth(self.spring, True)

    def bool(self):
        return Bool(self.spring, True)

    def arrow(self):
        return Stream(self.spring, IntArrayMap.from_arrays(KEYS, ROWS))

    def number(self):
        """May be asked for no number at all: objects are never parsed into numbers."""
        return Number(self.spring, 1.0)


class Key(Index):
    def __hash__(self):
        self.action()
        return hash(self.answer)

    def __eq__(self, other):
        self.action()
        return other == self.answer


class Interface(Asked):
    @property
    def __array_interface__(self):
        self.action()
        return self.answer.__array_interface__


class Sequence(Asked):
    def __len__(self):
        self.action()
        return len(self.answer)

    def __getitem__(self, place):
        self.action()
        return self.answer[place]


class Buffer(Asked):
    def __buffer__(self, flags):
        self.action()
        return memoryview(self.answer)


class Odd(Asked, Mapping):
    def __getitem__(self, key):
        self.action()
        return self.answer[key]

    def __iter__(self):
        self.action()
        return iter(self.answer)

    def __len__(self):
        self.action()
        return len(self.answer)


class ChildMap(IntArrayMap):
    """Overrides what it can."""

    action = None

    def act(self):
        if self.action is not None:
            self.action()

    @property
    def row_shape(self):
        self.act()
        return super().row_shape

    @property
    def dtype(self):
        self.act()
        return super().dtype

    def __len__(self):
        self.act()
        return super().__len__()

    def __iter__(self):
        self.act()
        return super().__iter__()

    def _snapshot(self):
        self.act()
        return super()._snapshot()


class Path(Asked):
    def __fspath__(self):
        self.action()
        return self.answer


class Word(str):
    def __eq__(self, other):
        self.action()
        return str(self) == other

    def __hash__(self):
        self.action()
        return hash(str(self))


class Truth(Asked):
    def __bool__(self):
        self.action()
        return self.answer


class Bool(Truth):
    """Says that it is a bool, which ``isinstance`` believes."""

    @property
    def __class__(self):
        self.action()
        return bool


class Stream(Asked):
    def __arrow_c_stream__(self, requested_schema=None):
        self.action()
        return self.answer.__arrow_c_stream__()


class Number(Asked):
    def __float__(self):
        self.action()
        return self.answer

    __int__ = __complex__ = __float__


KEYS = np.array([3, 5, -1, -2, 7, 5])
ROWS = np.arange(18.0).reshape(6, 3)
ROW = np.ones(3)
PAIRS = dict(zip(KEYS.tolist(), ROWS, strict=True))
#: The ways of an array-like to be asked. Before 3.12 no object that is written in Python is asked for a buffer.
HAS_BUFFERS = sys.version_info >= (3, 12)
ARRAYS = ("array", "interface", "sequence", "child", *["buffer"] * HAS_BUFFERS)
#: Files to be read.
IMAGE, ARCHIVE = os.path.join(FOLDER, "mischief.iam"), os.path.join(FOLDER, "mischief.npz")
IntArrayMap.from_arrays(KEYS, ROWS).save(IMAGE)
IntArrayMap.from_arrays(KEYS, ROWS).to_npz(ARCHIVE)


def new_file():
    """The file that operations of this thread write to."""
    return os.path.join(FOLDER, f"{get_ident()}.new")


def per_array(call):
    """The same call for each of the ways in which an array-like can be asked."""
    return {f" {way}": (lambda m, trap, way=way: call(m, lambda answer: getattr(trap, way)(answer))) for way in ARRAYS}


def named(name, calls):
    return {name + more: call for more, call in calls.items()}


OPERATIONS = {
    "getitem": lambda m, trap: m[trap.key()],
    "setitem key": lambda m, trap: m.__setitem__(trap.key(), ROW),
    "setitem number": lambda m, trap: m.__setitem__(5, trap.number()),
    "delitem": lambda m, trap: m.__delitem__(trap.key()),
    "contains": lambda m, trap: trap.key() in m,
    "get": lambda m, trap: m.get(trap.key()),
    "get missing": lambda m, trap: m.get(trap.key(-9), 1),
    "pop": lambda m, trap: m.pop(trap.key()),
    "pop default": lambda m, trap: m.pop(trap.key(-9), None),
    "setdefault": lambda m, trap: m.setdefault(trap.key(-9)),
    **named("setdefault row", per_array(lambda m, odd: m.setdefault(-9, odd(ROW)))),
    **named("setitem", per_array(lambda m, odd: m.__setitem__(5, odd(ROW)))),
    **named("setitem new", per_array(lambda m, odd: m.__setitem__(-5, odd(ROW)))),
    "update mapping": lambda m, trap: m.update(trap.mapping(PAIRS)),
    "update generator": lambda m, trap: m.update(trap.generator(PAIRS.items())),
    "update keys": lambda m, trap: m.update([(trap.key(), ROW), (trap.key(-4), ROW)]),
    "update rows": lambda m, trap: m.update({5: trap.array(ROW), -4: trap.sequence(ROW.tolist())}),
    "update map": lambda m, trap: m.update(trap.map()),
    "ior": lambda m, trap: m.__ior__(trap.mapping(PAIRS)),
    "or": lambda m, trap: m | trap.mapping(PAIRS),
    "or map": lambda m, trap: m | trap.map(),
    "ror": lambda m, trap: trap.mapping(PAIRS) | m,
    "equal mapping": lambda m, trap: m == trap.mapping(copy_of(m)),
    "equal map": lambda m, trap: m == trap.map(),
    "in values": lambda m, trap: trap.array(ROW) in m.values(),
    "in items": lambda m, trap: (trap.key(), trap.array(ROW)) in m.items(),
    "in keys": lambda m, trap: trap.key() in m.keys(),  # noqa: SIM118
    "keys and": lambda m, trap: m.keys() & trap.generator([trap.key(3), trap.key(-7)]),
    "keys or": lambda m, trap: m.keys() | trap.generator(range(3)),
    "keys disjoint": lambda m, trap: m.keys().isdisjoint(trap.generator([trap.key(-7), 3])),
    "fromkeys": lambda m, trap: type(m).fromkeys(trap.generator([trap.key(), 7]), trap.array(ROW)),
    **named("from_arrays", per_array(lambda m, odd: type(m).from_arrays(odd(KEYS), odd(ROWS)))),
    **named("get_many", per_array(lambda m, odd: m.get_many(odd(np.array([3, 5, 7]))))),
    "get_many keys": lambda m, trap: m.get_many([3, trap.key(), 7]),
    "get_many mask": lambda m, trap: m.get_many(KEYS, 0.0, return_mask=trap.truth()),
    "get_many out": lambda m, trap: m.get_many(KEYS, 0.0, out=trap.child(np.empty((6, 3)))),
    "get_many strided out": lambda m, trap: m.get_many(KEYS, 0.0, out=trap.out()),
    **named("get_many default", per_array(lambda m, odd: m.get_many(KEYS, odd(ROW)))),
    **named("set_many", per_array(lambda m, odd: m.set_many(odd(KEYS), odd(ROWS)))),
    "set_many objects": lambda m, trap: m.set_many([trap.key(), 2**70 - 2**70], ROW),
    **named("add_many", per_array(lambda m, odd: m.add_many(odd(KEYS), odd(ROWS)))),
    **named("update_many", per_array(lambda m, odd: m.update_many(odd(KEYS), odd(ROWS), "max"))),
    "update_many op": lambda m, trap: m.update_many(KEYS, ROWS, trap.word("max")),
    **named("add_at", per_array(lambda m, odd: m.add_at(odd(KEYS), odd(KEYS % 3), odd(KEYS * 1.0)))),
    **named("contains_many", per_array(lambda m, odd: m.contains_many(odd(KEYS)))),
    **named("delete_many", per_array(lambda m, odd: m.delete_many(odd(KEYS)))),
    **named("pop_many", per_array(lambda m, odd: m.pop_many(odd(KEYS), odd(ROW)))),
    **named("index_many", per_array(lambda m, odd: m.index_many(odd(KEYS)))),
    **named("ensure_many", per_array(lambda m, odd: m.ensure_many(odd(KEYS), odd(ROW)))),
    "merge": lambda m, trap: m.merge(trap.map(), "add"),
    "reserve": lambda m, trap: m.reserve(trap.key(500)),
    "new": lambda m, trap: IntArrayMap((trap.key(3), trap.key(1))),
    "new dtype": lambda m, trap: IntArrayMap(3, trap.dtype("f8")),
    "new capacity": lambda m, trap: IntArrayMap(3, capacity=trap.key(9), seed=trap.key(1)),
    "index name": lambda m, trap: IntArrayMap(3, index=trap.word("hash")),
    "save": lambda m, trap: m.save(trap.path(new_file())),
    "progress": lambda m, trap: m.save(new_file(), progress=lambda done, total: trap.spring()),
    "load": lambda m, trap: type(m).load(trap.path(IMAGE)),
    "open": lambda m, trap: type(m).open(trap.path(IMAGE)),
    "open words": lambda m, trap: type(m).open(IMAGE, verify=trap.word("header"), mode=trap.word("c")),
    "to_npz": lambda m, trap: m.to_npz(trap.path(new_file()), compress=trap.truth()),
    "from_npz": lambda m, trap: type(m).from_npz(trap.path(ARCHIVE), seed=trap.key(1)),
    "to_arrow": lambda m, trap: m.to_arrow(copy=trap.bool()).__arrow_c_stream__(),
    "from_arrow": lambda m, trap: type(m).from_arrow(trap.arrow()),
    "reduce": lambda m, trap: m.__reduce_ex__(trap.key(2)),
    "walk": lambda m, trap: [trap.spring() for _ in m],
    "walk items": lambda m, trap: [(trap.spring(), row + 1) for _, row in m.items()],
    "walk back": lambda m, trap: [trap.spring() for _ in reversed(m)],
    "scan": lambda m, trap: [(trap.spring(), row + 1) for _, row in m.scan()],
    "blocks": lambda m, trap: [(trap.spring(), rows + 1) for _, _, rows, _ in m.blocks()],
}

HELD: list = []


def held(thing):
    HELD.append(thing)


def again(trap):
    """The operation that is in progress, once more from within."""
    quietly(lambda: trap.operation(trap.m, trap))


def give_up(trap):
    raise HostileError


MISCHIEFS = {
    "grow": lambda trap: trap.m.set_many(np.arange(-600, 900), 1.0),
    "clear": lambda trap: trap.m.clear(),
    "delete": lambda trap: trap.m.delete_many(np.arange(-5, 50)),
    "pop the key": lambda trap: (trap.m.pop(5, None), trap.m.pop(-9, None)),
    "init": lambda trap: refused_init(trap.m),
    "close": lambda trap: trap.m.close(),
    "compact": lambda trap: quietly(trap.m.compact),
    "reserve": lambda trap: trap.m.reserve(5000),
    "clear and fill": lambda trap: (trap.m.clear(), trap.m.set_many(np.arange(20, 40), 2.0)),
    "merge": lambda trap: trap.m.merge(trap.m, "add"),
    "hold": lambda trap: held((trap.m.get(5), trap.m.blocks(), trap.m.scan(), iter(trap.m))),
    "copy": lambda trap: (trap.m.copy(), copy.deepcopy(trap.m), pickle.dumps(trap.m)),
    "again": again,
    "collect": lambda trap: gc.collect(0),
    "raise": give_up,
}
ALLOWED = (*DOCUMENTED_ERRORS, OSError, HostileError)
#: Operations that ask for everything before they begin: the mischief comes first, and then all of them or nothing.
ASK_FIRST = {
    *"setitem setdefault delitem pop update ior merge reserve get_many contains_many index_many".split(),
    *"set_many add_many update_many add_at delete_many pop_many ensure_many".split(),
    *"save load open to_npz from_npz to_arrow from_arrow".split(),
}
#: Operations that write a file, and what reads it.
READ_BACK = {"save": IntArrayMap.load, "progress": IntArrayMap.load, "to_npz": IntArrayMap.from_npz}
#: Mischiefs that are the same on a twin, and leave it a map.
REPEATED = MISCHIEFS.keys() - {"close", "again", "raise"}
SEED = int(os.environ.get("INTARRAYMAP_SEED", "0"))
ALWAYS = ["hash", "direct", "growing", "leaving"]
OTHERS = [kind for kind in KINDS if kind not in ALWAYS]


def expected(twin, mischief, trap, operation):
    """What a map has to hold on which this operation was asked for, if it asks first and then does all or nothing."""
    quiet = Trap(twin, MISCHIEFS[mischief])
    for _ in range(trap.sprung):
        quiet.mischief(quiet)
    quiet.left = 0
    if operation is not None:
        operation(twin, quiet)
    return copy_of(twin)


def files_written():
    """The files of this thread, temporary ones too."""
    return [os.path.join(FOLDER, name) for name in os.listdir(FOLDER) if str(get_ident()) in name]


def check_files(name, returned, before, m):
    """Nothing is left of a call that raised. Else the file is whole: the map as it was before the mischief or after."""
    written = files_written()
    assert written == [new_file()] * (returned and name in READ_BACK), name
    for path in written:
        found = READ_BACK[name](path)
        assert found._check() is None and found in (before, m), name
        os.unlink(path)


@pytest.mark.parametrize("mischief", MISCHIEFS)
@pytest.mark.parametrize("kind", [*ALWAYS, "another"])
def test_every_operation(kind, mischief, record_property):
    sprung = compared = 0
    kind = OTHERS[(SEED + len(mischief)) % len(OTHERS)] if kind == "another" else kind
    ready = build_case(kind).map
    for place, (name, operation) in enumerate(OPERATIONS.items()):
        # A copy is not in between, nor in a file's pages.
        fresh = kind in ("growing", "mapped") or (kind == "leaving" and (place + SEED) % 4 == len(mischief) % 4)
        m = build_case(kind).map if fresh else ready.copy()
        before = copy_of(m) if mischief == "raise" or name in READ_BACK else {}
        trap = Trap(m, MISCHIEFS[mischief])
        trap.operation = operation
        returned = False
        try:
            operation(m, trap)
            returned = True
        except RecursionError:  # which is a RuntimeError, too
            assert mischief == "again", name
        except ALLOWED as error:
            assert mischief == "raise" or not isinstance(error, HostileError), name
        sprung += trap.sprung
        check_files(name, returned, before, m)
        if mischief == "raise" and trap.sprung:
            after = copy_of(m)
            assert after.keys() == before.keys(), name
            if not name.startswith(("walk", "scan", "blocks")):
                assert all(bits(after[key]) == bits(before[key]) for key in before), name
        if trap.sprung and mischief in REPEATED and name.split()[0] in ASK_FIRST:
            twin, after = ready.copy(), copy_of(m)
            wanted = expected(twin, mischief, trap, operation if returned and name not in READ_BACK else None)
            assert after.keys() == wanted.keys(), name
            assert all(bits(after[key]) == bits(wanted[key]) for key in wanted), name
            compared += 1
        HELD.clear()
        sound(m, name)
    assert compared > 50 or mischief not in REPEATED
    record_property("mischiefs", sprung)
    assert sprung > len(OPERATIONS) // 2, "the operations do ask"


def sound(m, name):
    try:
        len(m)
    except ValueError as error:
        assert "closed" in str(error), name
        return
    assert m._check() is None, name
    keys, rows = m.to_arrays()
    assert len(keys) == len(rows) == len(m), name
    m[5] = 3.0
    assert m[5].tolist() == [3.0, 3.0, 3.0], name


#: Operations that ask for nothing, and why.
SILENT = {
    "setitem number": "objects are never parsed into numbers",
    "update_many op": "a string is taken by its own text, whatever a subclass says",
    "index name": "a string is taken by its own text, whatever a subclass says",
}


def test_what_is_asked_in_vain():
    """Of the ways to ask, those that no operation uses are none: each trap is sprung by something."""
    silent = set()
    for name, operation in OPERATIONS.items():
        trap = Trap(build_case("hash").map, lambda trap: None)
        try:
            operation(trap.m, trap)
        except ALLOWED:
            pass
        if not trap.sprung:
            silent.add(name)
        for path in files_written():
            os.unlink(path)
    assert silent == SILENT.keys()


@pytest.mark.skipif(not HAS_BUFFERS, reason="NEEDS PYTHON 3.12: BEFORE, NO OBJECT OF PYTHON IS ASKED FOR A BUFFER")
def test_buffers_are_among_the_operations():
    assert sum(name.endswith(" buffer") for name in OPERATIONS) == sum(name.endswith(" array") for name in OPERATIONS)


@pytest.mark.thread_unsafe(reason="the other threads would be asked as often")
@pytest.mark.parametrize("mischief", MISCHIEFS)
def test_progress_in_the_middle(monkeypatch, mischief):
    """While another thread writes the file. In the table above it is written before it is time to say how far it is."""
    monkeypatch.setattr(files, "PROGRESS_SECONDS", 1e-4)
    count = 500_000
    m = IntArrayMap.from_arrays(np.arange(count) * 7 - 50, np.arange(count * 3.0).reshape(-1, 3))
    before = m.copy()
    trap = Trap(m, MISCHIEFS[mischief])
    trap.operation = OPERATIONS["progress"]

    def progress(done, total):
        if done < total:
            trap.spring()

    for _ in range(50):  # on a machine that is busy with something else the other thread may be through before
        returned = True
        try:
            m.save(new_file(), progress=progress)
        except HostileError:
            returned = False
        assert returned == (mischief != "raise" or not trap.sprung)
        check_files("progress", returned, before, before)
        if trap.sprung:
            break
    assert trap.sprung
    if mischief == "raise":
        assert m == before
    HELD.clear()
    sound(m, mischief)


#: Every argument of the constructor that is asked for something. The creation options are read after the last look
#: whether it is the first call: a map has been made for nothing then.
ASKED_BY_INIT = {
    "row_shape": lambda bare, act: bare.__init__((Index(act, 3),)),
    "dtype": lambda bare, act: bare.__init__(3, Typed(act, np.dtype("f8"))),
    "capacity": lambda bare, act: bare.__init__(3, capacity=Index(act, 1000)),
    "seed": lambda bare, act: bare.__init__(3, seed=Index(act, 1)),
    "_options": lambda bare, act: bare.__init__(3, _options={"hash_or": Number(act, 1), "fail_after": -1}),
}


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("asked", ASKED_BY_INIT)
def test_init_in_the_middle_of_init(asked, is_closed):
    """The inner one was first: the outer one is refused, and the map is as the inner one and what followed made it."""
    bare = IntArrayMap.__new__(IntArrayMap)
    views = []

    def act():
        bare.__init__(4, "int8", index="hash")
        bare.set_many(np.arange(50), np.arange(200, dtype="int8").reshape(50, 4))
        views.append(bare[5])
        if is_closed:
            bare.close()

    with pytest.raises(RuntimeError, match="only once"):
        ASKED_BY_INIT[asked](bare, act)
    assert len(views) == 1
    assert views[0].tolist() == [20, 21, 22, 23]
    if is_closed:
        with pytest.raises(ValueError, match="closed"):
            len(bare)
        return
    assert (bare.row_shape, bare.dtype, bare.index, len(bare)) == ((4,), np.dtype("int8"), "hash", 50)
    assert bare._check() is None
    views[0][:] = 9
    assert bare.get_many([5, 6]).tolist() == [[9] * 4, [24, 25, 26, 27]]
