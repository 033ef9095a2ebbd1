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

#: A header that NumPy writes for one of our dtypes has 128 bytes. It reads much longer ones, and evaluates them: a few
#: thousand signs in a row are more than the interpreter's parser has room for.
HEADER_BYTES_MAX = 4096
#: Where the errors are defined that a broken archive makes zipfile, what it decompresses with, and NumPy raise.
_BREAKS = {"builtins", "compression.zstd", "zipfile", "zlib", "lzma", "_lzma", "struct", "_struct", "tokenize"}
_CONTEXTS_MOST = 100


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
        except (ValueError, RuntimeError) as error:
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
        except Exception as error:
            if not _says_broken(error):
                raise
            _raise_what_broke_it_off(error, around)
            raise ValueError(f"{text!r} is not an .npz archive, or a broken one: {error}") from error

    keys, rows = read_regular(text, read_arrays)
    if keys.ndim != 1 or rows.ndim < 2 or len(keys) != len(rows):
        raise ValueError(f"keys of shape {keys.shape} and rows of {rows.shape}: expected (n,) and (n, *row_shape)")
    return coerce.keys_within(keys), rows


def _arrays_of(file: BinaryIO) -> tuple[Array, Array]:
    # Not by np.load, which looks at the first bytes and may take the file for an array. And zipfile.is_zipfile is not
    # asked, which swallows the errors of a disk.
    try:
        members = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise ValueError(f"it holds something else ({error})") from error
    with members:
        _refuse_odd_headers(members)
    with np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
        missing = {"keys", "rows"} - set(archive.files)
        if missing:
            raise ValueError(f"it has no array {' and '.join(map(repr, sorted(missing)))}")
        return archive["keys"], archive["rows"]


def _says_broken(error: Exception) -> bool:
    """Whether the file is to blame: zip files break in many ways, and NumPy's headers in more.

    What a signal handler raises passes, and so does what is said of memory or of a stack at its end: SystemError is
    what the interpreter says where it has no memory to say so.
    """
    if isinstance(error, OSError):
        return error.errno == errno.EINVAL  # an offset before the file
    is_resource = isinstance(error, MemoryError | SystemError | RecursionError)
    return not is_resource and type(error).__module__ in _BREAKS


def _raise_what_broke_it_off(error: BaseException | None, around: BaseException | None) -> None:
    """Raise what zipfile's own error came after, if that was no fault of the archive.

    An interrupt, or memory at its end (for a lock's that is a RuntimeError): an archive with an open member can't be
    closed, it says then. A disk that can't be read: it finds no archive there. `around` was handled before all this.
    """
    context = None
    try:
        for _ in range(_CONTEXTS_MOST):
            if error is None or error is around:
                return
            if isinstance(error, RuntimeError) and "can't allocate" in str(error):
                raise MemoryError(str(error)) from error
            is_disk = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
            if is_disk or isinstance(error, MemoryError) or not isinstance(error, Exception):
                context = error.__context__
                try:
                    raise error
                finally:
                    error.__context__ = context
            error = error.__context__
    finally:
        error = context = None  # else they would hold this frame, which holds them


def _refuse_odd_headers(members: zipfile.ZipFile) -> None:
    """No header may be long (see HEADER_BYTES_MAX), or have a slash, or a backslash that could stand for one.

    NumPy ends the process where a header says "M8[s/0]", in whatever way a literal of Python can say it; those of
    numbers that it writes have no slash. All are looked at that NumPy may take for one of ours: it has its own idea of
    which one a name means.
    """
    for member in members.infolist():
        if member.filename.removesuffix(".npy") not in ("keys", "rows"):
            continue
        with members.open(member) as file:
            if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
                continue
            is_first_version = file.read(2)[:1] == b"\1"
            length = int.from_bytes(file.read(2 if is_first_version else 4), "little")
            if length > HEADER_BYTES_MAX:
                raise ValueError(f"the header of {member.filename} claims {length} bytes")
            if set(file.read(length)) & set(b"/\\"):
                raise ValueError(f"the header of {member.filename} has a slash, as of a unit that is divided")
