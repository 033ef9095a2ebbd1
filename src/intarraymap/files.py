"""Maps in files: save, load, open.

Here is who waits for whom; the bytes are the core's (image.h; docs/format.md draws them), mapping and writing are
_image.pyx's, atomicity is paths.py's.
"""

from __future__ import annotations

import math
import os
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Callable, Iterator
from itertools import starmap
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

import numpy as np

from intarraymap import coerce
from intarraymap._batch import Batch
from intarraymap._image import Ticket, open_image, read_info, write_image
from intarraymap.paths import Path, read_regular, replace

__all__ = ["Files", "file_info"]

D = TypeVar("D", bound=np.generic)
R = TypeVar("R")

if TYPE_CHECKING:
    _Progress: TypeAlias = Callable[[int, int], object]

#: A map at least this large is written in a thread of its own, so that Ctrl-C and `progress` need not wait for it.
LARGE_BYTES = 16 << 20
#: Seconds between two calls of `progress`, and at most until it is seen that the thread is over.
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
        the old file or the new one, whole, and perhaps a temporary one, ``.NAME.….tmp``. The folder is synced then (not
        if it can't be read: a crash soon after may bring the old file back). Ctrl-C: nothing or the whole file.

        Readers go on meanwhile; writers wait until the bytes are written. Rows lie in the file in row order, without
        holes. Under ``index="auto"`` the index is chosen anew: where that makes a hash map direct, keys come in
        ascending order within a page. The hash seed of the map is not written: the file has an index with a seed of its
        own. Releases the GIL.

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

        def write(descriptor: int) -> None:
            if in_thread:
                _write_in_thread(self, descriptor, Ticket(), progress)
            else:
                write_image(self, descriptor, coerce.fresh_seed(), Ticket())

        replace(path, write)

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
        TypeError
            If `path` is not a path.
        ValueError
            If it is not an image, or not a whole one: the message says what is wrong. If the path contains a zero byte.
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
        TypeError
            If `path` is not a path.
        ValueError
            If it is not an image, or (as far as it was checked) not a whole one; if `verify` or `mode` is none of those
            above, or the path contains a zero byte. In mode "r" also from every writer.
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
    return _read_image(path, read_info)


# ---- Reading --------------------------------------------------------------------------------------------------------


def _open_into(new: Batch[Any], path: Path, *, blocks: bool, whole: bool, writable: bool, copied: bool) -> None:
    def read(descriptor: int, byte_count: int) -> None:
        open_image(new, descriptor, byte_count, coerce.fresh_seed(), blocks, whole, writable, copied)

    _read_image(path, read)


def _read_image(path: Path, read: Callable[[int, int], R]) -> R:
    """What `read` makes of the file; its errors name the file."""

    def read_named(descriptor: int, byte_count: int) -> R:
        try:
            if byte_count == 0:
                raise ValueError("it is empty")
            return read(descriptor, byte_count)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)!r} is not the whole image of an IntArrayMap: {error}") from None
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from None

    return read_regular(path, read_named)


# ---- Writing --------------------------------------------------------------------------------------------------------


def _allocate_locks(locks: list[LockType]) -> None:
    try:
        locks.extend(starmap(allocate_lock, ((), ())))
    except RuntimeError:  # so it says that there is no memory
        if len(locks) == 2:
            raise
        raise MemoryError("no memory for a lock") from None


def _written(
    sources: list[Batch[Any]],
    copies: list[int],
    seed: int,
    ticket: Ticket,
    locks: list[LockType],
    outcome: list[Any],
) -> Iterator[None]:
    """What the thread does, once: the generator has its frame before it begins, which might find no memory for one."""
    try:
        if not locks[1].acquire(False):
            return
        try:
            is_whole = write_image(sources.pop(), copies[0], seed, ticket)  # when it is over it holds no map
        finally:
            os.close(copies[0])
        outcome[0] = is_whole
    except BaseException as error:  # raised in the thread that called
        outcome[0] = error
    locks[0].release()
    return
    yield  # never


def _write_in_thread(source: Batch[Any], descriptor: int, ticket: Ticket, progress: _Progress | None) -> None:
    """Whoever calls `progress`, or is interrupted, holds no lock: the thread that holds it runs no Python meanwhile.

    A signal handler may raise at any moment here, but never in the thread. threading.Thread is not up to that: once its
    start() is interrupted nobody knows whether it runs, and its own locks may stay locked. start_new_thread can also
    begin one and then have no memory for its number. So the thread asks for the `claim` first, and who gives up here
    asks for it too: either it is the thread's, which will say when it is over, or the thread will do nothing.
    """
    outcome: list[Any] = [None]  # of the thread: True, or what it raised; None until it is over
    locks: list[LockType] = []  # a bell, rung (released) by the thread when it is over, and the claim
    sources = [source]
    copies: list[int] = []  # of the descriptor: the thread's own, in case somebody else closes the other
    started: list[int] = []
    given_up: list[bool] = []  # whether the claim was to be had here: noted by the same call that asks (paths.py)
    seed = coerce.fresh_seed()
    _allocate_locks(locks)
    bell, claim = locks
    bell.acquire()
    run: Callable[..., Any] = next
    try:
        copies.extend(map(os.dup, (descriptor,)))
        begin = map(start_new_thread, (run,), ((_written(sources, copies, seed, ticket, locks, outcome), None),))
        try:
            started.extend(begin)
        except RuntimeError:  # no more threads, or the interpreter is going
            if started:  # neither: a signal handler raised it
                raise
            given_up.extend(map(claim.acquire, (False,)))
            outcome[0] = write_image(source, descriptor, seed, ticket)
        while outcome[0] is None:
            is_over = bell.acquire(timeout=PROGRESS_SECONDS)
            if progress is not None and not is_over and ticket.progress()[1] != 0:
                progress(*ticket.progress())
    finally:
        interrupts: list[BaseException] = []
        while not given_up or (not given_up[0] and outcome[0] is None):  # however often Ctrl-C is pressed
            try:
                if not given_up:
                    given_up.extend(map(claim.acquire, (False,)))
                else:
                    ticket.cancel()
                    bell.acquire(timeout=PROGRESS_SECONDS)
            except BaseException as error:
                interrupts.append(error)
        if copies and given_up[0]:
            os.close(copies[0])
        if interrupts:
            raise interrupts.pop()
    if outcome[0] is not True:
        raise outcome.pop()
    if progress is not None:
        progress(*ticket.progress())
