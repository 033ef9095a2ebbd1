"""Keys and rows in NumPy's own archive, .npz: two arrays, read and written without any pickle in them."""

from __future__ import annotations

import errno
import os
import zipfile
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from intarraymap import coerce
from intarraymap.paths import Path, replace

__all__ = ["read", "write"]

Array: TypeAlias = npt.NDArray[Any]

#: NumPy reads no header of more than 10,000 characters, which are up to four bytes each.
HEADER_BYTES_MAX = 40_000


def write(path: Path, keys: npt.NDArray[np.int64], rows: Array, compress: bool) -> None:
    """In one step: a failure leaves an old file as it is."""

    def write_arrays(descriptor: int) -> None:
        with open(descriptor, "wb", closefd=False) as file:
            if compress:
                np.savez_compressed(file, keys=keys, rows=rows)
            else:
                np.savez(file, keys=keys, rows=rows)

    replace(path, write_arrays)


def read(path: Path) -> tuple[npt.NDArray[np.int64], Array]:
    """ValueError for whatever is not such an archive; OSError as open() raises it."""
    with open(os.fspath(path), "rb") as file:  # open() would take an int for a descriptor, and close it
        try:
            # Not by np.load, which looks at the first bytes and may take the file for an array.
            if not zipfile.is_zipfile(file):
                raise ValueError("it holds something else")
            with zipfile.ZipFile(file) as members:
                _refuse_divided_units(members)
            with np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
                missing = {"keys", "rows"} - set(archive.files)
                if missing:
                    raise ValueError(f"it has no array {' and '.join(map(repr, sorted(missing)))}")
                keys, rows = archive["keys"], archive["rows"]
        except MemoryError:
            raise
        except Exception as error:  # zip files break in many ways, and NumPy's headers in more
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # an offset before the file is a broken file
                raise
            raise ValueError(f"{os.fspath(path)!r} is not an .npz archive, or a broken one: {error}") from error
    if keys.ndim != 1 or rows.ndim < 2 or len(keys) != len(rows):
        raise ValueError(f"keys of shape {keys.shape} and rows of {rows.shape}: expected (n,) and (n, *row_shape)")
    return coerce.keys_within(keys), rows


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
