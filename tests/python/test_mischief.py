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
        return Key(self, key)

    def array(self, answer):
        return Array(self, answer)

    def interface(self, answer):
        return Interface(self, np.array(answer))

    def sequence(self, answer):
        return Sequence(self, answer)

    def buffer(self, answer):
        """A bytes-like object whose buffer is made when it is asked for (Python 3.12 on); a memoryview before."""
        array = np.ascontiguousarray(answer)
        if sys.version_info < (3, 12):
            self.spring()
            return memoryview(array)
        return Buffer(self, array)

    def child(self, answer):
        made = np.array(answer).view(ChildArray)
        made.trap = self
        return made

    def generator(self, answer):
        for item in answer:
            self.spring()
            yield item

    def mapping(self, answer):
        return Odd(self, answer)

    def map(self):
        made = ChildMap(3)
        made.set_many(KEYS, ROWS)
        made.trap = self
        return made

    def path(self, answer):
        return Path(self, answer)

    def word(self, text):
        made = Word(text)
        made.trap = self
        return made

    def truth(self):
        return Truth(self, True)

    def arrow(self):
        return Stream(self, IntArrayMap.from_arrays(KEYS, ROWS))

    def number(self):
        """May be asked for no number at all: objects are never parsed into numbers."""
        return Number(self, 1.0)


# The classes are made once: some interpreters keep every class there has been (3.13 without a GIL), and then each of
# their collections goes through all of them.


class Asked:
    def __init__(self, trap, answer):
        self.trap, self.answer = trap, answer


class Key(Asked):
    def __index__(self):
        self.trap.spring()
        return self.answer

    def __hash__(self):
        self.trap.spring()
        return hash(self.answer)

    def __eq__(self, other):
        self.trap.spring()
        return other == self.answer


class Array(Asked):
    def __array__(self, dtype=None, copy=None):
        self.trap.spring()
        return np.array(self.answer, dtype=dtype)


class Interface(Asked):
    @property
    def __array_interface__(self):
        self.trap.spring()
        return self.answer.__array_interface__


class Sequence(Asked):
    def __len__(self):
        self.trap.spring()
        return len(self.answer)

    def __getitem__(self, place):
        self.trap.spring()
        return self.answer[place]


class Buffer(Asked):
    def __buffer__(self, flags):
        self.trap.spring()
        return memoryview(self.answer)


class ChildArray(np.ndarray):
    """Is told of every view of it."""

    trap = None

    def __array_finalize__(self, other):
        self.trap = getattr(other, "trap", None)
        if self.trap is not None:
            self.trap.spring()


class Odd(Asked, Mapping):
    def __getitem__(self, key):
        self.trap.spring()
        return self.answer[key]

    def __iter__(self):
        self.trap.spring()
        return iter(self.answer)

    def __len__(self):
        self.trap.spring()
        return len(self.answer)


class ChildMap(IntArrayMap):
    """Overrides what it can."""

    trap = None

    def spring(self):
        if self.trap is not None:
            self.trap.spring()

    @property
    def row_shape(self):
        self.spring()
        return super().row_shape

    @property
    def dtype(self):
        self.spring()
        return super().dtype

    def __len__(self):
        self.spring()
        return super().__len__()

    def __iter__(self):
        self.spring()
        return super().__iter__()

    def _snapshot(self):
        self.spring()
        return super()._snapshot()


class Path(Asked):
    def __fspath__(self):
        self.trap.spring()
        return self.answer


class Word(str):
    def __eq__(self, other):
        self.trap.spring()
        return str(self) == other

    def __hash__(self):
        self.trap.spring()
        return hash(str(self))


class Truth(Asked):
    def __bool__(self):
        self.trap.spring()
        return self.answer


class Stream(Asked):
    def __arrow_c_stream__(self, requested_schema=None):
        self.trap.spring()
        return self.answer.__arrow_c_stream__()


class Number(Asked):
    def __float__(self):
        self.trap.spring()
        return self.answer

    __int__ = __complex__ = __float__


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
