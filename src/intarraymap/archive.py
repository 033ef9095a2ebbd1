"""Keys and rows in NumPy's own archive, .npz: two arrays, read and written without any pickle in them."""

from __future__ import annotations

import errno
import sys
import zipfile
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from intarraymap import coerce
from intarraymap.paths import Path, read_regular, replace, text_of

__all__ = ["read", "write"]

Array: TypeAlias = npt.NDArray[Any]

#: NumPy reads no header of more than 10,000 characters, which are up to four bytes each.
HEADER_BYTES_MAX = 40_000


def write(path: Path, keys: npt.NDArray[np.int64], rows: Array, compress: bool) -> None:
    """In one step: a failure leaves an old file as it is."""

    def write_arrays(descriptor: int) -> None:
        around = sys.exception()
        try:
            with open(descriptor, "wb", closefd=False) as file:
                if compress:
                    np.savez_compressed(file, keys=keys, rows=rows)
                else:
                    np.savez(file, keys=keys, rows=rows)
        except Exception as error:
            _raise_what_broke_it_off(error, around)
            raise

    replace(path, write_arrays)


def read(path: Path) -> tuple[npt.NDArray[np.int64], Array]:
    """ValueError for whatever is not such an archive; OSError where the file can't be read."""
    text = text_of(path)

    def read_arrays(descriptor: int, _byte_count: int) -> tuple[Array, Array]:
        around = sys.exception()
        try:
            with open(descriptor, "rb", closefd=False) as file:
                return _arrays_of(file)
        except (MemoryError, SystemError):  # the latter: the interpreter had no memory to say so
            raise
        except Exception as error:  # zip files break in many ways, and NumPy's headers in more
            _raise_what_broke_it_off(error, around)
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: an offset before the file
                raise
            raise ValueError(f"{text!r} is not an .npz archive, or a broken one: {error}") from error

    keys, rows = read_regular(text, read_arrays)
    if keys.ndim != 1 or rows.ndim < 2 or len(keys) != len(rows):
        raise ValueError(f"keys of shape {keys.shape} and rows of {rows.shape}: expected (n,) and (n, *row_shape)")
    return coerce.keys_within(keys), rows


def _arrays_of(file: BinaryIO) -> tuple[Array, Array]:
    # Not by np.load, which looks at the first bytes and may take the file for an array.
    if not zipfile.is_zipfile(file):
        raise ValueError("it holds something else")
    with zipfile.ZipFile(file) as members:
        _refuse_divided_units(members)
    with np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
        missing = {"keys", "rows"} - set(archive.files)
        if missing:
            raise ValueError(f"it has no array {' and '.join(map(repr, sorted(missing)))}")
        return archive["keys"], archive["rows"]


def _raise_what_broke_it_off(error: BaseException | None, around: BaseException | None) -> None:
    """Raise what zipfile's own error came after: an archive with an open member can't be closed, it says then.

    An interrupt, or memory that is at its end: for a lock's that is a RuntimeError. `around`: handled before already.
    """
    while error is not None and error is not around:
        if isinstance(error, MemoryError) or not isinstance(error, Exception):
            raise error
        if isinstance(error, RuntimeError) and "can't allocate" in str(error):
            raise MemoryError(str(error)) from error
        error = error.__context__


def _refuse_divided_units(members: zipfile.ZipFile) -> None:
    """NumPy ends the process where a header says "M8[s/0]", in whatever way a literal of Python can say it.

    So no header may have a slash, or a backslash that could stand for one: those of numbers that NumPy writes have
    neither. All are looked at that NumPy may take for one of ours: it has its own idea of which one a name means.
    """
    for member in members.infolist():
        if member.filename.removesuffix(".npy") not in ("keys", "rows"):
            continue
        with members.open(member) as file:
            if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
                continue
            is_first_version = file.read(2)[:1] == b"\1"
            length = int.from_bytes(file.read(2 if is_first_version else 4), "little")
            if set(file.read(min(length, HEADER_BYTES_MAX))) & set(b"/\\"):
                raise ValueError(f"the header of {member.filename} has a slash, as of a unit that is divided")
