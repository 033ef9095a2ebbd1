"""Keys and rows in NumPy's own archive, .npz: two arrays, read and written without any pickle in them."""

from __future__ import annotations

import errno
import os
import re
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from intarraymap import coerce
from intarraymap.paths import Path, replace

__all__ = ["read", "write"]

Array: TypeAlias = npt.NDArray[Any]


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
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise ValueError("it holds something else")
            with found as archive:
                missing = {"keys", "rows"} - set(archive.files)
                if missing:
                    raise ValueError(f"it has no array {' and '.join(map(repr, sorted(missing)))}")
                for name in ("keys", "rows"):
                    _refuse_divided_units(archive, name)
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


def _refuse_divided_units(archive: Any, name: str) -> None:
    """NumPy ends the process where a header says "M8[s/0]". It writes no unit that is divided itself."""
    with archive.zip.open(f"{name}.npy") as member:
        # magic, version, length of the header; NumPy reads headers of up to 10,000 characters
        if re.search(rb"\[[^\]]*/", member.read(12 + 10_000)[: 12 + 10_000].partition(b"\n")[0]):
            raise ValueError(f"the dtype of {name} has a unit that is divided")
