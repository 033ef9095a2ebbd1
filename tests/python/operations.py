"""Every public operation as a call on a map, for tests that do the same to all of them.

The map has keys 0 … 99 at least and none of -5000 … -1, rows of three float64 (model.build_case). A name begins with
the name of the method; test_operations.py sees to it that none is missing.
"""

from __future__ import annotations

import atexit
import copy
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from itertools import islice
from threading import get_ident
from typing import Any

import numpy as np

from intarraymap import IntArrayMap

Call = Callable[[IntArrayMap], Any]

NEAR = np.arange(50)
NEW = np.arange(-40, 5)
MIXED = np.array([3, -20, 3, -21, 50])
OUTSIDE = np.array([3, 2**63, 7, 2**64 - 1], np.uint64)
ROW = np.array([1.0, 2.0, 4.0])
NEW_ROWS = np.arange(len(NEW) * 3.0).reshape(-1, 3)
OUT = np.empty((50, 3))
STRIDED_OUT = np.empty((50, 3, 2))[..., 0]
PAIRS = {-20: ROW, 3: 7.0, -21: [1, 2, 3]}


def other_map() -> IntArrayMap[Any]:
    other = IntArrayMap(3)
    other.set_many(NEW, NEW_ROWS)
    return other


OTHER = other_map()
#: What the calls below are given again and again.
INPUTS = [NEAR, NEW, MIXED, OUTSIDE, ROW, NEW_ROWS, OUT, STRIDED_OUT, PAIRS, OTHER]


def refused(error: type[Exception], call: Call) -> Call:
    """The call's documented error is what is wanted; what it was about is made and dropped."""

    def run(m: IntArrayMap[Any]) -> Any:
        try:
            call(m)
        except error as raised:
            return str(raised)
        raise AssertionError(f"{error.__name__} was expected")

    return run


def in_a_folder(call: Callable[[IntArrayMap[Any], str], Any]) -> Call:
    """With a path in a folder that is gone afterwards; of files nothing else may be left in it.

    It is the same for all calls of a thread: a file that could not be removed for want of memory is gone with the next.
    """

    def run(m: IntArrayMap[Any]) -> Any:
        path = os.path.join(FOLDER, f"{get_ident()}.map")
        try:
            return call(m, path)
        finally:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass

    return run


FOLDER = tempfile.mkdtemp(prefix="intarraymap-test-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def save_and(read: Callable[[str], Any]) -> Call:
    def call(m: IntArrayMap[Any], path: str) -> Any:
        m.save(path)
        return read(path)

    return in_a_folder(call)


def to_npz_and(read: Callable[[str], Any], compress: bool = False) -> Call:
    def call(m: IntArrayMap[Any], path: str) -> Any:
        m.to_npz(path, compress=compress)
        return read(path)

    return in_a_folder(call)


def with_statement(m: IntArrayMap[Any]) -> int:
    with m.copy() as other:
        return len(other)


def pickled_apart(m: IntArrayMap[Any]) -> Any:
    buffers: list[Any] = []
    data = pickle.dumps(m, 5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=buffers)


#: Reads, and what makes something new of a map: the map is afterwards as it was.
READS: dict[str, Call] = {
    "__getitem__": lambda m: m[5],
    "__getitem__ missing": refused(KeyError, lambda m: m[-5000]),
    "__contains__": lambda m: 5 in m and -5000 not in m,
    "__len__": lambda m: len(m),
    "__iter__": lambda m: list(islice(m, 3)),
    "__reversed__": lambda m: list(islice(reversed(m), 3)),
    "__repr__": lambda m: repr(m),
    "__sizeof__": lambda m: m.__sizeof__(),
    "__eq__ map": lambda m: m == OTHER,
    "__eq__ itself": lambda m: m == m,
    "__eq__ dict": lambda m: m == PAIRS,
    "__or__": lambda m: m | PAIRS,
    "__or__ map": lambda m: m | OTHER,
    "__ror__": lambda m: PAIRS | m,
    "__copy__": lambda m: copy.copy(m),
    "__deepcopy__": lambda m: copy.deepcopy(m),
    "__reduce_ex__ 2": lambda m: pickle.loads(pickle.dumps(m, 2)),
    "__reduce_ex__ 5": lambda m: pickle.loads(pickle.dumps(m, 5)),
    "__reduce_ex__ apart": pickled_apart,
    "__enter__": with_statement,
    "__init__": lambda m: IntArrayMap(3, "int16", capacity=50, index="hash", seed=3),
    "__init__ again": refused(RuntimeError, lambda m: m.__init__(4)),
    "__arrow_c_stream__": lambda m: m.__arrow_c_stream__(),
    "__arrow_c_schema__": lambda m: m.__arrow_c_schema__(),
    "_check": lambda m: m._check(),
    "get": lambda m: (m.get(5), m.get(-5000), m.get(-5000, 3)),
    "keys": lambda m: (5 in m.keys(), len(m.keys()), sorted(m.keys() & {3, -20})),  # noqa: SIM118
    "values": lambda m: list(islice(m.values(), 3)),
    "values contains": lambda m: m[2] in m.values(),
    "items": lambda m: list(islice(m.items(), 3)),
    "items contains": lambda m: (3, ROW) in m.items(),
    "scan": lambda m: list(islice(m.scan(), 3)),
    "get_many": lambda m: m.get_many(NEAR),
    "get_many list": lambda m: m.get_many([3, 4, 3]),
    "get_many default": lambda m: m.get_many(MIXED, ROW, return_mask=True),
    "get_many out": lambda m: m.get_many(NEAR, out=OUT),
    "get_many strided out": lambda m: m.get_many(NEAR, out=STRIDED_OUT),
    "get_many outside": lambda m: m.get_many(OUTSIDE, ROW),
    "get_many missing": refused(KeyError, lambda m: m.get_many(MIXED)),
    "contains_many": lambda m: m.contains_many(MIXED),
    "contains_many outside": lambda m: m.contains_many(OUTSIDE),
    "index_many": lambda m: m.index_many(MIXED),
    "to_arrays": lambda m: m.to_arrays(),
    "blocks": lambda m: m.blocks(),
    "stats": lambda m: m.stats(),
    "copy": lambda m: m.copy(),
    "from_arrays": lambda m: type(m).from_arrays(NEW, NEW_ROWS),
    "fromkeys": lambda m: type(m).fromkeys(range(5), ROW),
    "save": save_and(os.path.getsize),
    "load": save_and(IntArrayMap.load),
    "open": save_and(lambda path: IntArrayMap.open(path)[5]),
    "open c": save_and(lambda path: IntArrayMap.open(path, mode="c").add_many(MIXED, 1.0)),
    "to_npz": to_npz_and(os.path.getsize),
    "to_npz compressed": to_npz_and(os.path.getsize, compress=True),
    "from_npz": to_npz_and(IntArrayMap.from_npz),
    "to_arrow": lambda m: m.to_arrow(),
    "from_arrow": lambda m: type(m).from_arrow(m),
    "row_shape": lambda m: m.row_shape,
    "dtype": lambda m: m.dtype,
    "index": lambda m: m.index,
    "nbytes": lambda m: m.nbytes,
    "read_only": lambda m: m.read_only,
}
#: What changes a map. Each leaves it as it was, or raises and leaves it as it was, or does the whole of it.
WRITES: dict[str, Call] = {
    "__setitem__": lambda m: m.__setitem__(5, ROW),
    "__setitem__ new": lambda m: m.__setitem__(-50, [1, 2, 3]),
    "__delitem__": lambda m: m.__delitem__(5),
    "__ior__": lambda m: m.__ior__(PAIRS),
    "__exit__": lambda m: m.__exit__(None, None, None),
    "pop": lambda m: m.pop(5),
    "pop default": lambda m: m.pop(5, None),
    "pop missing": lambda m: m.pop(-5000, None),
    "popitem": lambda m: m.popitem(),
    "setdefault": lambda m: m.setdefault(-50),
    "setdefault row": lambda m: m.setdefault(-51, ROW),
    "setdefault present": lambda m: m.setdefault(5, ROW),
    "update": lambda m: m.update(PAIRS),
    "update pairs": lambda m: m.update(list(PAIRS.items())),
    "update map": lambda m: m.update(OTHER),
    "update itself": lambda m: m.update(m),
    "set_many": lambda m: m.set_many(NEW, NEW_ROWS),
    "set_many duplicates": lambda m: m.set_many(MIXED, ROW),
    "set_many list": lambda m: m.set_many([3, -20], [[1, 2, 3], [4, 5, 6]]),
    "add_many": lambda m: m.add_many(NEW, 1.0),
    "update_many": lambda m: m.update_many(MIXED, ROW, "mul"),
    "add_at": lambda m: m.add_at(MIXED, [0, 1, 2, 0, 1], 2.0),
    "delete_many": lambda m: m.delete_many(MIXED),
    "delete_many outside": lambda m: m.delete_many(OUTSIDE),
    "pop_many": lambda m: m.pop_many([3, 4]),
    "pop_many default": lambda m: m.pop_many(MIXED, ROW),
    "pop_many outside": lambda m: m.pop_many(OUTSIDE, 0.0),
    "ensure_many": lambda m: m.ensure_many(MIXED, 2.0),
    "merge": lambda m: m.merge(OTHER, "add"),
    "merge itself": lambda m: m.merge(m, "add"),
    "reserve": lambda m: m.reserve(20_000),
    "compact": lambda m: m.compact(),
    "clear": lambda m: m.clear(),
    "close": lambda m: m.close(),
}
OPERATIONS: dict[str, Call] = {**READS, **WRITES}
#: Those that end a map rather than change its rows.
ENDS = {"__exit__", "close"}
#: Those that must find keys there or not there, or assert it.
PRESENT = {"get_many missing"}
