"""Every public operation (operations.py) on maps that are no maps yet, no more, or not to be written to; and leaks."""

from __future__ import annotations

import ast
import copy
import gc
import inspect
import io
import pickle
import types

import numpy as np
import pytest
import test_mischief
import test_stateful
from model import bits, build_case, copy_of
from operations import ENDS, OPERATIONS, READS, WRITES

import intarraymap
from intarraymap import IntArrayMap, _arrow, _batch, _binding, _cursor, _image, _owner, _producer

#: What a class has from object or typing, or that says nothing about a map.
NOT_OPERATIONS = set(dir(object)) | set(
    """
    __annotations__ __class_getitem__ __dict__ __module__ __weakref__ __slots__ __abstractmethods__ __doc__ __hash__
    __orig_bases__ __parameters__ __pyx_vtable__ __match_args__ __pyx_capi__ _abc_impl __ne__ __static_attributes__
    __firstlineno__ __type_params__
    """.split()
)
#: These need a package that may not be there: test_pandas.
EXTRAS = {"to_pandas", "from_pandas"}
NEEDS_NO_MAP = {"from_arrays", "fromkeys", "from_arrow", "__init__"}


#: Special methods that object has too, and a map in a way of its own.
SPECIAL = {"__init__", "__repr__", "__sizeof__", "__eq__", "__reduce_ex__"}


def public_names() -> set[str]:
    names = {name for name in dir(IntArrayMap) if not name.startswith("_") or name.startswith("__")}
    names.discard("__slotnames__")  # left there by copyreg once a map has been pickled
    return (names - NOT_OPERATIONS) | SPECIAL


def test_none_is_missing():
    covered = {name.split()[0] for name in OPERATIONS}
    assert public_names() - EXTRAS - covered == set()
    assert covered - public_names() - {"_check"} == set()


#: What stands for a map in the sources of the two lists below.
MAPS = {"m", "self.m", "other", "IntArrayMap", "type(m)"}
#: Functions that call a special method of what they are given first.
CALLERS = {
    "len": "__len__",
    "list": "__iter__",
    "reversed": "__reversed__",
    "repr": "__repr__",
    "sys.getsizeof": "__sizeof__",
    "copy.copy": "__copy__",
    "copy.deepcopy": "__deepcopy__",
    "pickle.dumps": "__reduce_ex__",
}
SUBSCRIPTS = {ast.Load: "__getitem__", ast.Store: "__setitem__", ast.Del: "__delitem__"}


def is_map(node: ast.AST) -> bool:
    return ast.unparse(node) in MAPS


def names_of(node: ast.AST) -> set[str]:
    """The methods and attributes of a map that this piece of a program uses, as it stands there."""
    match node:
        case ast.Attribute(value=owner, attr=name) if is_map(owner):
            return {name}
        case ast.Subscript(value=owner, ctx=context) if is_map(owner):
            return {SUBSCRIPTS[type(context)]}
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[right]) if is_map(right):
            return {"__contains__"}
        case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq()], comparators=[right]) if is_map(left) or is_map(right):
            return {"__eq__"}
        case ast.BinOp(left=left, op=ast.BitOr(), right=right) if is_map(left) or is_map(right):
            return {"__or__" if is_map(left) else "__ror__"}
        case ast.AugAssign(target=target, op=ast.BitOr()) if is_map(target):
            return {"__ior__"}
        case ast.comprehension(iter=source) | ast.For(iter=source) if is_map(source):
            return {"__iter__"}
        case ast.withitem(context_expr=ast.Call(func=ast.Attribute(value=owner))) if is_map(owner):
            return {"__enter__", "__exit__"}
        case ast.Call(func=made) if is_map(made):
            return {"__init__"}
        case ast.Call(func=function, args=[first, *_]) if is_map(first):
            return {CALLERS.get(ast.unparse(function), "")} - {""}
    return set()


def names_used(source: str) -> set[str]:
    return {name for node in ast.walk(ast.parse(source)) for name in names_of(node)}


#: Public names that are no rule of the state machine, and why.
NO_RULE = {
    "to_pandas": "pandas may not be there: test_pandas",
    "from_pandas": "pandas may not be there: test_pandas",
    "__arrow_c_schema__": "asked by readers of Arrow: test_arrow",
    "__arrow_c_stream__": "asked by from_arrow, which is a rule",
}
ASKS_NOTHING = "takes nothing of the caller's"
#: Public names that meet no mischief, and why.
NO_MISCHIEF = {
    **dict.fromkeys(
        """
        __copy__ __enter__ __exit__ __len__ __repr__ __sizeof__ clear close compact copy dtype index nbytes popitem
        read_only row_shape stats to_arrays
        """.split(),
        ASKS_NOTHING,
    ),
    "__deepcopy__": "hands its memo to copy.deepcopy, for what a subclass has of its own: test_pickle_copy",
    "__arrow_c_schema__": ASKS_NOTHING,
    "__arrow_c_stream__": "takes a capsule: test_arrow lies in all of its fields",
    "to_pandas": "pandas may not be there: test_pandas",
    "from_pandas": "pandas may not be there: test_pandas",
}


def test_every_name_is_a_rule_of_the_state_machine():
    used = names_used(inspect.getsource(test_stateful.Machine))
    assert public_names() - used == NO_RULE.keys()


def test_every_name_meets_mischief():
    source = inspect.getsource(test_mischief)
    used = names_used(source[source.index("\nOPERATIONS = ") : source.index("\nHELD: list")])
    assert public_names() - used == NO_MISCHIEF.keys()


def test_reads_change_nothing_and_nothing_is_left_alive(kind):
    for name, call in OPERATIONS.items():
        m = build_case(kind).map
        before = m.to_arrays()
        call(m)
        if name in ENDS:
            with pytest.raises(ValueError, match="closed"):
                len(m)
            continue
        assert m._check() is None, name
        if m.stats().views or m.stats().scans:
            gc.collect()
        assert m.stats().views == m.stats().scans == 0, name
        if name in READS:
            assert [bits(part) for part in before] == [bits(part) for part in m.to_arrays()], name


@pytest.mark.parametrize("name", OPERATIONS)
def test_new_without_init(name):
    """RuntimeError from every use except repr, and the object can still be made a map."""
    bare = IntArrayMap.__new__(IntArrayMap)
    if name == "__repr__":
        assert "not initialised" in repr(bare)
    elif name.split()[0] in NEEDS_NO_MAP:
        return
    else:
        with pytest.raises(RuntimeError, match="__init__"):
            OPERATIONS[name](bare)
    bare.__init__(3)
    bare[1] = 2.0
    assert bare[1].tolist() == [2.0] * 3


@pytest.mark.parametrize("name", OPERATIONS)
def test_closed(name):
    m = build_case("hash").map
    m.close()
    if name in ENDS or name == "__repr__":
        OPERATIONS[name](m)
        assert "closed" in repr(m)
    elif name.split()[0] not in NEEDS_NO_MAP:
        with pytest.raises(ValueError, match="closed"):
            OPERATIONS[name](m)


@pytest.mark.parametrize("name", OPERATIONS)
def test_opened_read_only(tmp_path, name):
    """Writers are refused even where nothing would change, and the others answer as they do in memory."""
    case = build_case("hash")
    case.map.save(tmp_path / "map.iam")
    m = IntArrayMap.open(tmp_path / "map.iam")
    if name in WRITES and name not in ENDS:
        with pytest.raises(ValueError, match="read-only"):
            OPERATIONS[name](m)
    else:
        OPERATIONS[name](m)
    if name not in ENDS:
        assert copy_of(m).keys() == case.model.keys()
        assert m == case.map


@pytest.mark.parametrize("name", WRITES)
def test_writers_that_would_change_nothing_are_refused_too(tmp_path, name):
    empty = IntArrayMap(3)
    empty.save(tmp_path / "empty.iam")
    m = IntArrayMap.open(tmp_path / "empty.iam")
    if name in ENDS:
        return
    with pytest.raises(ValueError, match="read-only"):
        WRITES[name](m)


# ---- Types of ours that nobody is meant to make ---------------------------------------------------------------------

MODULES = (_binding, _batch, _owner, _cursor, _image, _arrow, _producer)
INTERNAL = sorted(
    {
        each
        for module in MODULES
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__.startswith("intarraymap") and not issubclass(each, Exception)
    },
    key=lambda each: each.__name__,
)
ARGUMENTS = [(), (None,), (3,), ((3,), np.dtype("f8")), (object(), 1, 2), (b"x",), (np.arange(3),), ({},)]
USES = [
    iter,
    next,
    list,
    len,
    repr,
    hash,
    bool,
    gc.get_referents,
    pickle.dumps,
    copy.copy,
    copy.deepcopy,
    memoryview,
    np.asarray,
    lambda thing: thing.__reduce_ex__(2),
    lambda thing: thing.__reduce_ex__(5),
    lambda thing: object.__reduce_ex__(thing, 4),
    lambda thing: thing.__length_hint__(),
    lambda thing: thing.__setstate__({}),
    lambda thing: thing.__sizeof__(),
    lambda thing: thing == thing,
    lambda thing: thing[0],
    lambda thing: setattr(thing, "anything", 1),
    lambda thing: thing.__init__(),
    lambda thing: thing.__init__((3,), np.dtype("f8"), 0, "auto", 1, None),
]
REFUSALS = (
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    KeyError,
    IndexError,
    StopIteration,
    OverflowError,
    BufferError,
    OSError,
    pickle.PicklingError,
    MemoryError,
)


def tried(call) -> None:
    try:
        call()
    except REFUSALS:
        pass


def test_which_there_are():
    names = {each.__name__ for each in INTERNAL}
    assert {"Table", "Batch", "Owner", "RowToken", "BlocksToken", "ResultOwner", "Cursor", "Scan", "Ticket"} <= names


@pytest.mark.parametrize("kind", INTERNAL, ids=lambda kind: kind.__name__)
def test_made_by_hand(kind):
    """__new__ with anything, every use of what it makes, every method of its own with nonsense."""
    made = []
    for arguments in ARGUMENTS:
        for make in (kind, kind.__new__, object.__new__):
            with_kind = arguments if make is kind else (kind, *arguments)
            tried(lambda make=make, with_kind=with_kind: made.append(make(*with_kind)))
    for thing in made:
        for use in USES:
            tried(lambda use=use, thing=thing: use(thing))
        for name, method in inspect.getmembers(kind, callable):
            if name in ("__class__", "__init_subclass__", "__subclasshook__", "__new__"):
                continue
            for arguments in ARGUMENTS[:5]:
                tried(lambda method=method, thing=thing, arguments=arguments: method(thing, *arguments))
    gc.collect()
    m = IntArrayMap(2)
    m[1] = 1.0
    assert m._check() is None


@pytest.mark.parametrize("kind", INTERNAL, ids=lambda kind: kind.__name__)
def test_methods_on_something_else(kind):
    """Our methods on objects of other classes, and the real ones of a map with nonsense."""
    m = IntArrayMap(2)
    m[1] = 1.0
    for name, method in inspect.getmembers(kind, callable):
        if name in ("__class__", "__init_subclass__", "__subclasshook__", "__new__") or "thread" in name:
            continue
        for thing in (None, 5, "x", [], m.keys(), iter(m)):
            tried(lambda method=method, thing=thing: method(thing))
    assert m._check() is None


@pytest.mark.parametrize("things", ["iterator", "scan", "base", "blocks", "items", "stats"])
def test_copies_of_what_a_map_hands_out(things):
    m = build_case("hash").map
    given = {
        "iterator": lambda: iter(m),
        "scan": m.scan,
        "base": lambda: m[5].base,
        "blocks": lambda: m.blocks()[0][2].base,
        "items": m.items,
        "stats": m.stats,
    }[things]()
    for use in (copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))):
        tried(lambda use=use, given=given: use(given))
    twin = None
    try:
        reduced = object.__reduce_ex__(given, 2)
        twin = reduced[0](*reduced[1])
    except REFUSALS:
        pass
    for use in USES:
        tried(lambda use=use, twin=twin: use(twin))
    given = twin = None  # noqa: F841
    gc.collect()
    assert m._check() is None
    m[5] = 1.0
    assert len(m) == 100


def test_init_twice_in_every_way():
    m = IntArrayMap(3)
    m[1] = 1.0
    table = IntArrayMap.__mro__[1]
    for again in (
        lambda: m.__init__(3),
        lambda: m.__init__(4, "int8", capacity=10**6),
        lambda: m.__init__("nonsense"),
        lambda: IntArrayMap.__init__(m, 3),
        lambda: table.__init__(m, (3,), np.dtype("f8"), 0, "auto", 1, None),
        lambda: m._copy_from(IntArrayMap(4), 1),
    ):
        with pytest.raises(RuntimeError, match="works only once"):
            again()
        assert m.row_shape == (3,)
        assert m[1].tolist() == [1.0] * 3
    with pytest.raises(TypeError, match="row_shape"):
        m.__init__()
    m.close()
    with pytest.raises(RuntimeError, match="works only once"):
        m.__init__(3)


# ---- Leaks ----------------------------------------------------------------------------------------------------------

LEAKS = """
import gc, os, sys
from model import blocks_alive, build_map, leaving
from operations import ENDS, FOLDER, INPUTS, OPERATIONS
gc.disable()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

TIMES = int(os.environ["TIMES"])
IN_BETWEEN = {  # a copy of these is not in between
    "growing": lambda: build_map("growing", keys=range(100)),
    "leaving": lambda: leaving((3,), "float64", range(100)),
}
wrong = []
for name in OPERATIONS:
    m = build_map("hash" if KIND in IN_BETWEEN else KIND, keys=range(100))
    def work(times):
        for _ in range(times):
            other = IN_BETWEEN[KIND]() if KIND in IN_BETWEEN else m.copy()
            try:
                OPERATIONS[name](other)
            except (KeyError, ValueError):
                pass
        del other
        gc.collect()
    def turn(times):
        work(times)
        return (blocks_alive(), len(os.listdir("/proc/self/fd")), sys.getrefcount(m),
                len(os.listdir(FOLDER)), m.stats().views, *map(sys.getrefcount, INPUTS))
    turn(5)
    first, size = turn(3), resident()
    told = [first, turn(TIMES), turn(TIMES)]
    # What is told takes two or three blocks itself.
    growth = min(now[0] - then[0] for then, now in zip(told, told[1:]))
    if growth > TIMES // 15 + 3 or any(each[1:] != first[1:] for each in told):
        wrong.append((name, told))
    sizes = [size, resident()]
    if sizes[-1] - size > 3 << 20:
        # A heap that settles down? Blocks are not counted here: without a GIL counting alone takes 150 kB, at 3.13.
        while sizes[-1] - sizes[-2] > 1 << 20 and len(sizes) < 8:
            work(TIMES)
            sizes.append(resident())
        if sizes[-1] - sizes[-2] > 1 << 20:
            wrong.append((name, "resident", sizes))
assert not wrong, wrong
print(len(OPERATIONS))
"""


@pytest.mark.parametrize(("kind", "times"), [("hash", 150), ("direct", 150), ("growing", 15), ("leaving", 8)])
def test_no_operation_leaks(run_child, kind, times):
    """Blocks, descriptors, references to maps and inputs, files, resident memory: flat, for every operation."""
    out = run_child(LEAKS.replace("KIND", repr(kind)), timeout=240, TIMES=str(times))
    assert int(out) == len(OPERATIONS)


# ---- The seed -------------------------------------------------------------------------------------------------------

SEED = 0xFEDC_BA98_7654_3210 ^ 0x0123_1234_2345_3456


def spellings(seed: int) -> list[bytes]:
    texts = [str(seed), str(seed - 2**64), f"{seed:x}", f"{seed:X}", f"{seed:o}", f"{seed:b}", f"{seed & 2**32 - 1:x}"]
    return [*(text.encode() for text in texts), seed.to_bytes(8, "little"), seed.to_bytes(8, "big")]


def everything_said(m, folder) -> bytes:
    """All that can be read off a map without looking at the memory of the process."""
    said = io.BytesIO()

    def say(thing):
        said.write(thing if isinstance(thing, bytes) else repr(thing).encode())

    for name in dir(m):
        say(name)
        part = getattr(m, name)
        say(part if not isinstance(part, types.MethodType | types.BuiltinMethodType) else name)
    say(getattr(m, "__dict__", None))
    say(m.stats())
    say(m._stats())
    say(m._describe())
    for protocol in range(2, 6):
        say(pickle.dumps(m, protocol))
        say(m.__reduce_ex__(protocol))
    say(copy.deepcopy(m).stats())
    m.save(folder / "seed.iam")
    say((folder / "seed.iam").read_bytes())
    say(intarraymap.files.file_info(folder / "seed.iam"))
    say(gc.get_referents(m))
    say(m.to_arrow().__arrow_c_schema__())
    for call in (
        lambda: m[77_777],
        lambda: m.set_many([1], "x"),
        lambda: m.__init__(3),
        lambda: m.get_many([77_777]),
        lambda: m.reserve(2**40),
        lambda: IntArrayMap(3, seed=SEED, index="tree"),
        lambda: IntArrayMap(3, seed=-SEED),
        lambda: IntArrayMap(3, seed=SEED << 64),
        lambda: IntArrayMap(3, "U5", seed=SEED),
        lambda: IntArrayMap(3, capacity=2**32 - 2, seed=SEED, _options={"fail_after": 0}),
    ):
        with pytest.raises(Exception) as raised:  # noqa: B017, PT011  # whatever it is: what does it say?
            call()
        say(raised.value)
        say(raised.value.args)
        say(vars(raised.value))
    return said.getvalue()


@pytest.mark.parametrize("index", ["hash", "direct", "auto"])
def test_the_seed_is_never_visible(tmp_path, index):
    m = IntArrayMap(3, index=index, seed=SEED)
    m.set_many(np.arange(500), 1.0)
    said = everything_said(m, tmp_path)
    for text in spellings(SEED):
        assert text not in said


def test_orders_do_not_tell_the_seed():
    """Rows come in the order of insertion, whatever the seed: nothing of the hash is to be seen in any order."""
    keys = np.random.default_rng(3).permutation(5000) * 7919
    orders = set()
    for seed in (0, 1, SEED, None):
        m = IntArrayMap(1, "int8", index="hash", seed=seed)
        m.set_many(keys, 1)
        m.delete_many(keys[::3])
        m.set_many(keys[::3] + 1, 1)
        orders.add(tuple(m))
        m.compact()
        orders.add(tuple(m))
    assert len(orders) == 1
