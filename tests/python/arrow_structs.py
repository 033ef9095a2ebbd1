"""Arrow's C interface once more, in ctypes: a consumer and a producer that share no code with the package.

Written from the specification (arrow.apache.org/docs/format/CDataInterface.html, CStreamInterface.html,
CDataInterface/PyCapsuleInterface.html).
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Schema(ctypes.Structure):
    pass


class Array(ctypes.Structure):
    pass


class Stream(ctypes.Structure):
    pass


RELEASE_SCHEMA = ctypes.CFUNCTYPE(None, ctypes.POINTER(Schema))
RELEASE_ARRAY = ctypes.CFUNCTYPE(None, ctypes.POINTER(Array))
RELEASE_STREAM = ctypes.CFUNCTYPE(None, ctypes.POINTER(Stream))
GET_SCHEMA = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Stream), ctypes.POINTER(Schema))
GET_NEXT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Stream), ctypes.POINTER(Array))
GET_ERROR = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(Stream))

Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(Schema))),
    ("dictionary", ctypes.POINTER(Schema)),
    ("release", RELEASE_SCHEMA),
    ("private_data", ctypes.c_void_p),
]
Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(Array))),
    ("dictionary", ctypes.POINTER(Array)),
    ("release", RELEASE_ARRAY),
    ("private_data", ctypes.c_void_p),
]
Stream._fields_ = [
    ("get_schema", GET_SCHEMA),
    ("get_next", GET_NEXT),
    ("get_last_error", GET_ERROR),
    ("release", RELEASE_STREAM),
    ("private_data", ctypes.c_void_p),
]

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


# ---- A consumer -----------------------------------------------------------------------------------------------------


def move(capsule: Any, name: bytes, kind: type) -> Any:
    """The struct of a capsule, moved out as the specification says."""
    given = kind.from_address(_pointer(capsule, name))
    taken = kind()
    ctypes.memmove(ctypes.byref(taken), ctypes.byref(given), ctypes.sizeof(kind))
    assert taken.release, "a released struct in a capsule"
    given.release = type(given.release)()
    return taken


def moved(given: Any) -> Any:
    """A struct moved out of another."""
    taken = type(given)()
    ctypes.memmove(ctypes.byref(taken), ctypes.byref(given), ctypes.sizeof(type(given)))
    given.release = type(given.release)()
    return taken


def release(taken: Any) -> None:
    taken.release(ctypes.byref(taken))
    assert not taken.release, "release() marks the struct as released"


def stream_of(source: Any) -> Stream:
    return move(source.__arrow_c_stream__(), b"arrow_array_stream", Stream)


def next_batch(stream: Stream) -> Array | None:
    batch = Array()
    assert stream.get_next(ctypes.byref(stream), ctypes.byref(batch)) == 0
    return batch if batch.release else None


def schema_of(stream: Stream) -> Schema:
    schema = Schema()
    assert stream.get_schema(ctypes.byref(stream), ctypes.byref(schema)) == 0
    return schema


def numbers(array: Array, dtype: Any, count: int) -> np.ndarray:
    """A copy of the numbers of a primitive array."""
    text = ctypes.string_at(
        array.buffers[1] + array.offset * np.dtype(dtype).itemsize, count * np.dtype(dtype).itemsize
    )
    return np.frombuffer(text, dtype)


def notes(schema: Schema) -> dict[bytes, bytes]:
    """The metadata of a schema."""
    found, at = {}, schema.metadata
    if not at:
        return found

    def integer() -> int:
        nonlocal at
        at += 4
        return ctypes.c_int32.from_address(at - 4).value

    def text() -> bytes:
        nonlocal at
        length = integer()
        at += length
        return ctypes.string_at(at - length, length)

    for _ in range(integer()):
        key = text()
        found[key] = text()
    return found


def pack_notes(pairs: dict[bytes, bytes]) -> bytes:
    packed = struct.pack("=i", len(pairs))
    for key, text in pairs.items():
        packed += struct.pack("=i", len(key)) + key + struct.pack("=i", len(text)) + text
    return packed


# ---- A producer, honest or not --------------------------------------------------------------------------------------


@dataclass
class Made:
    """What the test wants a column to be: a schema node and an array node in one."""

    format: str
    length: int = 0
    buffers: list[Any] = field(default_factory=list)  # None or arrays
    children: list[Made] = field(default_factory=list)
    name: str = ""
    null_count: int = 0
    offset: int = 0
    notes: dict[bytes, bytes] | None = None
    dictionary: bool = False
    n_children: int | None = None  # a lie
    n_buffers: int | None = None


#: C calls these by address and nobody counts that: callbacks and memory stay for as long as the process.
KEPT: list[Any] = []


class Producer:
    """Offers batches (all described by the first) by ``__arrow_c_stream__``; counts what is released."""

    def __init__(self, *batches: Made, fail_at: int | None = None, error: int = 22, words: bytes | None = b"broken"):
        self.batches = batches
        self.fail_at, self.error, self.words = fail_at, error, words
        self.alive = 0
        self._next = 0

    def _schema(self, made: Made, out: Schema) -> None:
        children = [Schema() for _ in made.children]
        for child, struct_of in zip(made.children, children, strict=True):
            self._schema(child, struct_of)
        pointers = (ctypes.POINTER(Schema) * max(1, len(children)))(*map(ctypes.pointer, children))
        packed = None if made.notes is None else ctypes.create_string_buffer(pack_notes(made.notes))
        other = Schema()

        def let_go(pointer: Any) -> None:
            self.alive -= 1
            for child in children:
                if child.release:
                    child.release(ctypes.byref(child))
            pointer.contents.release = RELEASE_SCHEMA()

        callback = RELEASE_SCHEMA(let_go)
        KEPT.extend([children, pointers, packed, other, callback])
        self.alive += 1
        texts = [ctypes.create_string_buffer(text.encode()) for text in (made.format, made.name)]
        KEPT.append(texts)
        out.format, out.name = (ctypes.cast(text, ctypes.c_char_p) for text in texts)
        out.flags = 2
        out.metadata = None if packed is None else ctypes.addressof(packed)
        out.n_children = len(children)
        out.children = ctypes.cast(pointers, ctypes.POINTER(ctypes.POINTER(Schema)))
        out.dictionary = ctypes.pointer(other) if made.dictionary else None
        out.release = callback

    def _array(self, made: Made, out: Array) -> None:
        children = [Array() for _ in made.children]
        for child, array_of in zip(made.children, children, strict=True):
            self._array(child, array_of)
        pointers = (ctypes.POINTER(Array) * max(1, len(children)))(*map(ctypes.pointer, children))
        memory = [None if buffer is None else np.array(buffer, order="C") for buffer in made.buffers]
        buffers = (ctypes.c_void_p * max(1, len(memory)))(
            *(None if each is None else each.ctypes.data for each in memory)
        )

        def let_go(pointer: Any) -> None:
            self.alive -= 1
            for each in memory:
                if each is not None and each.flags.writeable:
                    each.reshape(-1).view(np.uint8)[:] = 0xEE  # whoever still reads this reads rubbish
            for child in children:
                if child.release:
                    child.release(ctypes.byref(child))
            pointer.contents.release = RELEASE_ARRAY()

        callback = RELEASE_ARRAY(let_go)
        KEPT.extend([children, pointers, memory, buffers, callback])
        self.alive += 1
        out.length, out.null_count, out.offset = made.length, made.null_count, made.offset
        out.n_buffers = len(memory) if made.n_buffers is None else made.n_buffers
        out.n_children = len(children) if made.n_children is None else made.n_children
        out.buffers = ctypes.cast(buffers, ctypes.POINTER(ctypes.c_void_p))
        out.children = ctypes.cast(pointers, ctypes.POINTER(ctypes.POINTER(Array)))
        out.release = callback

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        stream = Stream()
        self._next = 0

        def get_schema(_: Any, out: Any) -> int:
            if self.fail_at == -1:
                return self.error
            self._schema(self.batches[0], out.contents)
            return 0

        def get_next(_: Any, out: Any) -> int:
            if self._next == self.fail_at:
                return self.error
            if self._next == len(self.batches):
                out.contents.release = RELEASE_ARRAY()
                return 0
            self._array(self.batches[self._next], out.contents)
            self._next += 1
            return 0

        def let_go(pointer: Any) -> None:
            self.alive -= 1
            pointer.contents.release = RELEASE_STREAM()

        words = None if self.words is None else ctypes.create_string_buffer(self.words)

        def get_error(_: Any) -> int | None:
            return None if words is None else ctypes.addressof(words)

        KEPT.append(words)
        stream.get_schema, stream.get_next = GET_SCHEMA(get_schema), GET_NEXT(get_next)
        stream.get_last_error, stream.release = GET_ERROR(get_error), RELEASE_STREAM(let_go)
        self.alive += 1
        KEPT.append(stream)
        return _new(ctypes.addressof(stream), b"arrow_array_stream", None)


class ArrayProducer(Producer):
    """The same by ``__arrow_c_array__``: its first batch."""

    __arrow_c_stream__ = None

    def __getattribute__(self, name: str) -> Any:
        if name == "__arrow_c_stream__":
            raise AttributeError(name)
        return super().__getattribute__(name)

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        schema, array = Schema(), Array()
        self._schema(self.batches[0], schema)
        self._array(self.batches[0], array)
        KEPT.extend([schema, array])
        return (
            _new(ctypes.addressof(schema), b"arrow_schema", None),
            _new(ctypes.addressof(array), b"arrow_array", None),
        )


def integers(values: Any, dtype: Any = "int64", name: str = "key", **more: Any) -> Made:
    """A column of plain numbers."""
    array = np.array(values, dtype)
    forms = dict(zip("i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8".split(), "cCsSiIlLefg", strict=True))
    return Made(forms[array.dtype.str[1:]], len(array), [None, array], name=name, **more)


def fixed(rows: Any, dtype: Any = "float64", name: str = "row", **more: Any) -> Made:
    """A column of fixed-size lists."""
    array = np.array(rows, dtype)
    return Made(f"+w:{array.shape[1]}", len(array), [None], [integers(array.ravel(), dtype, "item")], name, **more)


def lists(offsets: Any, items: Any, form: str = "+l", dtype: Any = "float64", name: str = "row", **more: Any) -> Made:
    """A column of lists."""
    places = np.array(offsets, {"+l": np.int32, "+L": np.int64}[form])
    return Made(form, len(places) - 1, [None, places], [integers(items, dtype, "item")], name, **more)


def table(*columns: Made, length: int | None = None, **more: Any) -> Made:
    """A record batch."""
    return Made("+s", columns[0].length if length is None else length, [None], list(columns), **more)


def bits(flags: Any) -> np.ndarray:
    """A bitmap, one bit for each flag."""
    return np.packbits(np.array(flags, bool), bitorder="little")
