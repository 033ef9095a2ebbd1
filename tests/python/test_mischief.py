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

import numpy as np
import pytest
from model import DOCUMENTED_ERRORS, KINDS, bits, build_case, copy_of

from intarraymap import IntArrayMap


class MischiefError(Exception):
    """Raised by the caller's own object."""


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
        trap = self

        class Key:
            def __index__(self):
                trap.spring()
                return key

            def __hash__(self):
                trap.spring()
                return hash(key)

            def __eq__(self, other):
                trap.spring()
                return other == key

        return Key()

    def array(self, answer):
        trap = self

        class Array:
            def __array__(self, dtype=None, copy=None):
                trap.spring()
                return np.array(answer, dtype=dtype)

        return Array()

    def interface(self, answer):
        """Answers __array_interface__: its memory is the map's own, if the map's mischief is to do something to it."""
        trap, array = self, np.array(answer)

        class Interface:
            @property
            def __array_interface__(self):
                trap.spring()
                return array.__array_interface__

        return Interface()

    def sequence(self, answer):
        trap = self

        class Sequence:
            def __len__(self):
                trap.spring()
                return len(answer)

            def __getitem__(self, place):
                trap.spring()
                return answer[place]

        return Sequence()

    def buffer(self, answer):
        """A bytes-like object whose buffer is made when it is asked for (Python 3.12 on); a memoryview before."""
        trap, array = self, np.ascontiguousarray(answer)
        if sys.version_info < (3, 12):
            trap.spring()
            return memoryview(array)

        class Buffer:
            def __buffer__(self, flags):
                trap.spring()
                return memoryview(array)

        return Buffer()

    def child(self, answer):
        """An ndarray of a class that is told of every view of it."""
        trap = self

        class Child(np.ndarray):
            def __array_finalize__(self, other):
                if other is not None:
                    trap.spring()

        left, trap.left = trap.left, 0
        made = np.array(answer).view(Child)
        trap.left = left
        return made

    def generator(self, answer):
        for item in answer:
            self.spring()
            yield item

    def mapping(self, answer):
        trap = self

        class Odd(Mapping):
            def __getitem__(self, key):
                trap.spring()
                return answer[key]

            def __iter__(self):
                trap.spring()
                return iter(answer)

            def __len__(self):
                trap.spring()
                return len(answer)

        return Odd()

    def map(self):
        """An IntArrayMap of a class that overrides what it can."""
        trap = self

        class Child(IntArrayMap):
            @property
            def row_shape(self):
                trap.spring()
                return super().row_shape

            @property
            def dtype(self):
                trap.spring()
                return super().dtype

            def __len__(self):
                trap.spring()
                return super().__len__()

            def __iter__(self):
                trap.spring()
                return super().__iter__()

            def _snapshot(self):
                trap.spring()
                return super()._snapshot()

        left, trap.left = trap.left, 0
        made = Child(3)
        made.set_many(KEYS, ROWS)
        trap.left = left
        return made

    def path(self, answer):
        trap = self

        class Path:
            def __fspath__(self):
                trap.spring()
                return answer

        return Path()

    def word(self, text):
        trap = self

        class Word(str):
            __slots__ = ()

            def __eq__(self, other):
                trap.spring()
                return str(self) == other

            def __hash__(self):
                trap.spring()
                return hash(text)

        return Word(text)

    def truth(self):
        trap = self

        class Truth:
            def __bool__(self):
                trap.spring()
                return True

        return Truth()

    def arrow(self):
        trap = self
        source = IntArrayMap.from_arrays(KEYS, ROWS)

        class Stream:
            def __arrow_c_stream__(self, requested_schema=None):
                trap.spring()
                return source.__arrow_c_stream__()

        return Stream()

    def number(self):
        """May be asked for no number at all: objects are never parsed into numbers."""
        trap = self

        class Number:
            def __float__(self):
                trap.spring()
                return 1.0

            __int__ = __complex__ = __float__

        return Number()


KEYS = np.array([3, 5, -1, -2, 7, 5])
ROWS = np.arange(18.0).reshape(6, 3)
ROW = np.ones(3)
PAIRS = dict(zip(KEYS.tolist(), ROWS, strict=True))
#: The ways of an array-like to be asked.
ARRAYS = ("array", "interface", "sequence", "buffer", "child")


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
    "merge": lambda m, trap: m.merge(trap.map(), trap.word("add")),
    "reserve": lambda m, trap: m.reserve(trap.key(500)),
    "init": lambda m, trap: m.__init__(trap.key(3)),
    "new": lambda m, trap: IntArrayMap((trap.key(3),), trap.word("f8"), capacity=trap.key(9), seed=trap.key(1)),
    "index name": lambda m, trap: IntArrayMap(3, index=trap.word("hash")),
    "save": lambda m, trap: m.save(trap.path("/nonexistent/x.iam")),
    "progress": lambda m, trap: m.save(os.devnull + "x", progress=lambda done, total: trap.spring()),
    "load": lambda m, trap: type(m).load(trap.path("/nonexistent/x.iam")),
    "open": lambda m, trap: type(m).open(trap.path("/nonexistent/x.iam"), verify=trap.word("full")),
    "to_npz": lambda m, trap: m.to_npz(trap.path("/nonexistent/x.npz"), compress=trap.truth()),
    "from_npz": lambda m, trap: type(m).from_npz(trap.path("/nonexistent/x.npz"), index=trap.word("hash")),
    "to_arrow": lambda m, trap: m.to_arrow(copy=trap.truth()).__arrow_c_stream__(),
    "from_arrow": lambda m, trap: type(m).from_arrow(trap.arrow()),
    "reduce": lambda m, trap: m.__reduce_ex__(trap.key(2)),
    "walk": lambda m, trap: [trap.spring() for _ in m],
    "walk items": lambda m, trap: [(trap.spring(), row + 1) for _, row in m.items()],
    "walk back": lambda m, trap: [trap.spring() for _ in reversed(m)],
    "scan": lambda m, trap: [(trap.spring(), row + 1) for _, row in m.scan()],
    "blocks": lambda m, trap: [(trap.spring(), rows + 1) for _, _, rows, _ in m.blocks()],
}

HELD: list = []


def quietly(call):
    try:
        call()
    except (BufferError, RuntimeError):
        pass


def held(thing):
    HELD.append(thing)


def again(trap):
    """The operation that is in progress, once more from within."""
    quietly(lambda: trap.operation(trap.m, trap))


def refuse(trap):
    raise MischiefError


MISCHIEFS = {
    "grow": lambda trap: trap.m.set_many(np.arange(-600, 900), 1.0),
    "clear": lambda trap: trap.m.clear(),
    "delete": lambda trap: trap.m.delete_many(np.arange(-5, 50)),
    "pop the key": lambda trap: (trap.m.pop(5, None), trap.m.pop(-9, None)),
    "init": lambda trap: quietly(lambda: trap.m.__init__(4, "int8")),
    "close": lambda trap: trap.m.close(),
    "compact": lambda trap: quietly(trap.m.compact),
    "reserve": lambda trap: trap.m.reserve(5000),
    "clear and fill": lambda trap: (trap.m.clear(), trap.m.set_many(np.arange(20, 40), 2.0)),
    "merge": lambda trap: trap.m.merge(trap.m, "add"),
    "hold": lambda trap: held((trap.m.get(5), trap.m.blocks(), trap.m.scan(), iter(trap.m))),
    "copy": lambda trap: (trap.m.copy(), copy.deepcopy(trap.m), pickle.dumps(trap.m)),
    "again": again,
    "collect": lambda trap: gc.collect(0),
    "raise": refuse,
}
ALLOWED = (*DOCUMENTED_ERRORS, OSError, MischiefError)
#: Operations that ask for everything before they begin: the mischief comes first, and then all of them or nothing.
ASK_FIRST = {
    *"setitem setdefault delitem pop update ior merge reserve get_many contains_many index_many".split(),
    *"set_many add_many update_many add_at delete_many pop_many ensure_many".split(),
}
#: Mischiefs that are the same on a twin, and leave it a map.
REPEATED = MISCHIEFS.keys() - {"close", "again", "raise"}
SEED = int(os.environ.get("INTARRAYMAP_SEED", "0"))
ALWAYS = ["hash", "direct", "growing", "leaving"]
OTHERS = [kind for kind in KINDS if kind not in ALWAYS]


def expected(twin, mischief, trap, operation, returned):
    """What a map has to hold on which this operation was asked for, if it asks first and then does all or nothing."""
    quiet = Trap(twin, MISCHIEFS[mischief])
    for _ in range(trap.sprung):
        quiet.mischief(quiet)
    quiet.left = 0
    if returned:
        operation(twin, quiet)
    return copy_of(twin)


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
        before = copy_of(m) if mischief == "raise" else {}
        trap = Trap(m, MISCHIEFS[mischief])
        trap.operation = operation
        returned = False
        try:
            operation(m, trap)
            returned = True
        except ALLOWED as error:
            assert not isinstance(error, SystemError)
            if isinstance(error, MischiefError):
                assert mischief == "raise"
        except RecursionError:
            assert mischief == "again"
        sprung += trap.sprung
        if mischief == "raise" and trap.sprung:
            after = copy_of(m)
            assert after.keys() == before.keys(), name
            if not name.startswith(("walk", "scan", "blocks")):
                assert all(bits(after[key]) == bits(before[key]) for key in before), name
        if trap.sprung and mischief in REPEATED and name.split()[0] in ASK_FIRST:
            twin, after = ready.copy(), copy_of(m)
            wanted = expected(twin, mischief, trap, operation, returned)
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


def test_what_is_asked_in_vain():
    """Of the ways to ask, those that no operation uses are none: each trap is sprung by something."""
    sprung = set()
    for name, operation in OPERATIONS.items():
        trap = Trap(build_case("hash").map, lambda trap: None)
        trap.operation = operation
        try:
            operation(trap.m, trap)
        except ALLOWED:
            pass
        if trap.sprung:
            sprung.add(name)
    silent = set(OPERATIONS) - sprung
    quiet = {
        "setitem number",
        "init",
        "index name",
        "update_many op",
        "reduce",
        "progress",
        "get_many out",
        "to_arrow",
    }  # refused, or taken by its own text
    assert {name for name in silent - quiet if not name.endswith(" child")} == set()
