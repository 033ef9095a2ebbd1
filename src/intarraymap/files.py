"""Maps in files: save, load, open.

Here are paths, atomicity and who waits for whom; the bytes are the core's (image.h; docs/format.md draws them), mapping
and writing are _image.pyx's.

A save writes a temporary file beside its target, tells the system to put it on the disk, and renames it: at every
moment there is the old file or the new one, whole.
"""

from __future__ import annotations

import math
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

import numpy as np

from intarraymap import coerce
from intarraymap._batch import Batch
from intarraymap._image import Ticket, open_image, read_info, write_image

__all__ = ["Files", "file_info", "replacing"]

D = TypeVar("D", bound=np.generic)
Path: TypeAlias = str | os.PathLike[str]

if TYPE_CHECKING:
    _Progress: TypeAlias = Callable[[int, int], object]

#: A map at least this large is written in a thread of its own, so that Ctrl-C and `progress` need not wait for it.
LARGE_BYTES = 16 << 20
#: Seconds between two calls of `progress`.
PROGRESS_SECONDS = 0.1


class Files(Batch[D]):
    """The methods of IntArrayMap that concern files."""

    __slots__ = ()

    def save(self, path: Path, *, progress: _Progress | None = None) -> None:
        """Write the map to a file, which `load` and `open` read.

        Parameters
        ----------
        path : str or path-like
            A new file, or a regular file that is replaced in one step (its permissions are kept; a symbolic link stays
            one and its target is replaced). It may be the file that this map was opened from.
        progress : callable, optional
            Called some ten times a second with the number of bytes written and of all bytes (0 while the index is
            being built), and once at the end. It may use the map. If it raises, nothing is saved.

        Raises
        ------
        OSError
            If the file can't be written: the old one is as before, and no temporary file is left.
        TypeError
            If `path` is not a path or `progress` can't be called.
        ValueError
            If the path contains a zero byte, or the map was opened from a file that is damaged.
        MemoryError
            If there is no room for the new index (some 24 bytes a key).

        Notes
        -----
        O(n). Written to a temporary file beside the target, put on the disk, then renamed: a crash at any moment leaves
        the old file or the new one, whole, and perhaps a temporary one, ``.NAME.….tmp``. Readers go on meanwhile;
        writers wait until the bytes are written. Rows lie in the file in row order, without holes. Under
        ``index="auto"`` the index is chosen anew: where that makes a hash map direct, keys come in ascending order
        within a page. The hash seed of the map is not written: the file has an index with a seed of its own. Releases
        the GIL.

        Examples
        --------
        >>> import os, tempfile
        >>> from intarraymap import IntArrayMap
        >>> path = os.path.join(tempfile.mkdtemp(), "prices.iam")
        >>> IntArrayMap.from_arrays([10**15, -7], [[1.0, 2.0], [3.0, 4.0]]).save(path)
        >>> IntArrayMap.load(path)[-7]
        array([3., 4.])
        """
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, not {type(progress).__name__}")
        row_bytes = self.dtype.itemsize * math.prod(self.row_shape)
        in_thread = progress is not None or self._stats()["count"] * (row_bytes + 32) >= LARGE_BYTES
        with replacing(path) as descriptor:
            ticket = Ticket()
            if in_thread:
                _write_in_thread(self, descriptor, ticket, progress)
            else:
                write_image(self, descriptor, coerce.fresh_seed(), ticket)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a map from a file that `save` wrote. Every byte of it is checked.

        Parameters
        ----------
        path : str or path-like
            A regular file.

        Returns
        -------
        IntArrayMap
            An independent, writable map of this class: same rows, the index chosen as for a first batch, a fresh seed.
            The order is the file's, but ascending within a page where the index becomes direct.

        Raises
        ------
        OSError
            If the file can't be read or is not a regular file.
        ValueError
            If it is not an image, or not a whole one: the message says what is wrong.
        MemoryError
            If there is no room.

        Notes
        -----
        O(n). Nothing in the file is trusted and no code in it is run. Releases the GIL.

        Examples
        --------
        >>> import os, tempfile
        >>> from intarraymap import IntArrayMap
        >>> path = os.path.join(tempfile.mkdtemp(), "counts.iam")
        >>> IntArrayMap.fromkeys(range(5), [0, 1]).save(path)
        >>> m = IntArrayMap.load(path)
        >>> m[3] += 1
        >>> m[3]
        array([1, 2])
        """
        new = cls.__new__(cls)
        _open_into(new, path, blocks=True, whole=True, writable=False, copied=True)
        return new

    @classmethod
    def open(cls, path: Path, *, verify: Literal["header", "full"] = "header", mode: Literal["r", "c"] = "r") -> Self:
        """Open a file that `save` wrote, without reading it: its pages are the map.

        Parameters
        ----------
        path : str or path-like
            A regular file.
        verify : {"header", "full"}, default "header"
            "header" checks the first 4 KiB and trusts the numbers: a damaged file may show a damaged row or miss a key,
            never do harm. "full" checks every byte first.
        mode : {"r", "c"}, default "r"
            "r": read-only; all processes that open the file share its pages. "c": a private, writable map (copy on
            write): pages that are written to are copied into this process, the file never changes. What is written to
            must be sound, so keys and index are checked in mode "c" even with ``verify="header"``.

        Returns
        -------
        IntArrayMap
            A map of this class, ``read_only`` in mode "r", and its views too: live views of the file's pages, valid
            after `close` as well.

        Raises
        ------
        OSError
            If the file can't be read or is not a regular file.
        ValueError
            If it is not an image, or (as far as it was checked) not a whole one. In mode "r" also from every writer.
        MemoryError
            If there are no addresses left to map it to.

        Notes
        -----
        O(1) in mode "r" with ``verify="header"``, well below a millisecond whatever the size; O(n) otherwise. Batches
        run at the speed of a map in memory once the pages are there.

        The file may be replaced (as `save` does) while it is open: this map goes on with the old one. It must not be
        changed in place: in mode "r" lookups then answer from what is there, and where it became shorter pages read as
        zeros; in mode "c" there is no such promise.

        In mode "c" the hash is keyed by the seed in the file until `compact` or `clear`: whoever can read the file and
        choose the keys can slow it down.

        Examples
        --------
        >>> import os, tempfile
        >>> from intarraymap import IntArrayMap
        >>> path = os.path.join(tempfile.mkdtemp(), "prices.iam")
        >>> IntArrayMap.from_arrays([5, 6], [[1.0], [2.0]]).save(path)
        >>> with IntArrayMap.open(path) as m:
        ...     print(m[6], m.read_only)
        [2.] True
        """
        if verify not in ("header", "full"):
            raise ValueError(f'verify must be "header" or "full", not {verify!r:.40}')
        if mode not in ("r", "c"):
            raise ValueError(f'mode must be "r" or "c", not {mode!r:.40}')
        full, writable = verify == "full", mode == "c"
        new = cls.__new__(cls)
        _open_into(new, path, blocks=full, whole=full or writable, writable=writable, copied=False)
        return new


def file_info(path: Path) -> dict[str, int]:
    """Version and bytes by section, as the header of an image says them. Raises as `IntArrayMap.open` does."""
    descriptor, byte_count = _open_regular(path)
    try:
        return read_info(descriptor, byte_count)
    except ValueError as error:
        raise _not_an_image(path, error) from None
    finally:
        os.close(descriptor)


# ---- Reading --------------------------------------------------------------------------------------------------------


def _open_into(new: Batch[Any], path: Path, *, blocks: bool, whole: bool, writable: bool, copied: bool) -> None:
    descriptor, byte_count = _open_regular(path)
    try:
        open_image(new, descriptor, byte_count, coerce.fresh_seed(), blocks, whole, writable, copied)
    except ValueError as error:
        raise _not_an_image(path, error) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from None
    finally:
        os.close(descriptor)


def _not_an_image(path: Path, error: ValueError) -> ValueError:
    return ValueError(f"{os.fspath(path)!r} is not the whole image of an IntArrayMap: {error}")


def _open_regular(path: Path) -> tuple[int, int]:
    """A descriptor and the file's size. A fifo is not waited for."""
    text = _text(path)
    descriptor = os.open(text, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        _refuse_irregular(status, text)
        if status.st_size == 0:
            raise ValueError(f"{text!r} is not the whole image of an IntArrayMap: it is empty")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def _text(path: Path) -> str:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or path-like, not {type(path).__name__}")
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path must be a string or path-like, not {type(text).__name__}")
    return text


def _refuse_irregular(status: os.stat_result, text: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, os.strerror(21), text)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(22, "not a regular file", text)


# ---- Writing --------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[int]:
    """A descriptor to write to; at the end of the block what was written is at `path`, whole and on the disk.

    If the block raises, or anything else fails, what was at `path` is as before and nothing is left beside it.
    """
    target = os.path.realpath(_text(path))
    mode = _mode_of(target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = -1
    while descriptor < 0:
        temporary = _name_beside(target)
        try:
            descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
        except FileExistsError:
            continue
    try:
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(target))


def _mode_of(target: str) -> int | None:
    """The permissions of the file that is to be replaced; None if there is none."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    _refuse_irregular(status, target)
    if not os.access(target, os.W_OK):
        raise PermissionError(13, os.strerror(13), target)
    return stat.S_IMODE(status.st_mode) & 0o777


def _name_beside(target: str) -> bytes:
    """A new name in the folder of the target; as bytes, for which removing the file needs no memory."""
    folder, name = os.path.split(target)
    return os.fsencode(os.path.join(folder, f".{name[:200]}.{coerce.fresh_seed():016x}.tmp"))


def _write_in_thread(source: Batch[Any], descriptor: int, ticket: Ticket, progress: _Progress | None) -> None:
    """Whoever calls `progress`, or is interrupted, holds no lock: the thread that holds it runs no Python meanwhile."""
    failures: list[BaseException] = []
    is_over = threading.Event()

    def write() -> None:
        try:
            write_image(source, descriptor, coerce.fresh_seed(), ticket)
        except BaseException as error:  # raised below, in the thread that called
            failures.append(error)
        finally:
            is_over.set()

    thread = threading.Thread(target=write, name="intarraymap save")
    try:
        thread.start()
    except RuntimeError:  # no more threads, or the interpreter is going
        write()
    else:
        try:
            while not is_over.wait(PROGRESS_SECONDS):
                if progress is not None and ticket.progress()[1] != 0:
                    progress(*ticket.progress())
        except BaseException:
            ticket.cancel()
            raise
        finally:
            _join(thread)
    if failures:
        raise failures[0]
    if progress is not None:
        progress(*ticket.progress())


def _join(thread: threading.Thread) -> None:
    """However often Ctrl-C is pressed: the descriptor may not be closed while the thread writes to it."""
    interrupted: BaseException | None = None
    while thread.is_alive():
        try:
            thread.join()
        except BaseException as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (22, 95):  # EINVAL, ENOTSUP: the file system does not sync folders
            raise
    finally:
        os.close(descriptor)
