"""Paths: a regular file read, a file replaced in one step.

Whoever reads or writes is handed a descriptor; what the bytes mean is known above: files.py, archive.py, convert.py.

A signal handler may raise (Ctrl-C does) whenever Python calls or returns. So a descriptor is noted by the same call
that opens it, ``files.extend(map(os.open, …))``: it is never open and in nobody's list. And these are functions that
are told what to do, not context managers: ``__exit__`` could be interrupted before its first line.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from intarraymap import coerce

__all__ = ["Path", "read_regular", "replace", "text_of"]

R = TypeVar("R")
Path: TypeAlias = str | os.PathLike[str]

#: Of a file's name, this many bytes are in the name of the temporary one: with 22 more that is below 255, the most that
#: the usual file systems take.
NAME_BYTES = 200

# ---- Reading --------------------------------------------------------------------------------------------------------


def read_regular(path: Path, read: Callable[[int, int], R]) -> R:
    """What `read` makes of a descriptor and the file's size. OSError for what is no regular file: no fifo is waited
    for."""
    text = text_of(path)
    files: list[int] = []
    try:
        files.extend(map(os.open, (text,), (os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK,)))
        status = os.fstat(files[0])
        _refuse_irregular(status, text)
        return read(files[0], status.st_size)
    finally:
        if files:
            os.close(files[0])


def text_of(path: Path) -> str:
    """The path as a string. TypeError for a descriptor, and for a path of bytes: what it says can't be shown."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or path-like, not {type(path).__name__}")
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path must be a string or path-like, not {type(text).__name__}")
    if "\0" in text:
        raise ValueError("path: embedded null byte")
    return text


def _refuse_irregular(status: os.stat_result, text: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), text)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", text)


# ---- Writing --------------------------------------------------------------------------------------------------------


def replace(path: Path, write: Callable[[int], object]) -> None:
    """What `write` writes to its descriptor is at `path` afterwards, whole and on the disk.

    If it raises, or anything else fails, what was at `path` is as before and nothing is left beside it. (But where the
    file has its name already and the disk fails to note that: OSError. And an interrupt may come just then.)
    """
    target = os.path.realpath(text_of(path))
    mode = _mode_of(target)
    temporary = _name_beside(target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    folders: list[int] = []
    files: list[int] = []
    try:
        _open_folder(os.path.dirname(target), folders)
        try:
            try:
                files.extend(map(os.open, (temporary,), (flags,), (0o666 if mode is None else mode,)))
                if mode is not None:
                    os.fchmod(files[0], mode)
                write(files[0])
                os.fsync(files[0])
            finally:
                if files:
                    os.close(files[0])
            os.replace(temporary, target)
        except BaseException:
            if files:  # else the name is somebody else's
                try:
                    os.unlink(temporary)
                except FileNotFoundError:  # it has the target's name: a signal handler raised after that
                    pass
            raise
        if folders:
            _sync_folder(folders[0])
    finally:
        if folders:
            os.close(folders[0])


def _mode_of(target: str) -> int | None:
    """The permissions of the file that is to be replaced; None if there is none."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    _refuse_irregular(status, target)
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
    return stat.S_IMODE(status.st_mode) & 0o777


def _name_beside(target: str) -> bytes:
    """A new name in the folder of the target; as bytes, for which removing the file needs no memory."""
    folder, name = os.path.split(os.fsencode(target))
    begin = name[:NAME_BYTES].decode(errors="ignore").encode()  # no half a letter: some file systems refuse that
    return os.path.join(folder, b".%b.%016x.tmp" % (begin, coerce.fresh_seed()))


def _open_folder(folder: str, folders: list[int]) -> None:
    """Before anything is written, so that the save which fails for it has changed nothing."""
    try:
        folders.extend(map(os.open, (folder,), (os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,)))
    except PermissionError:  # files may be put into it, but it can't be read, and so not be told to sync
        pass


def _sync_folder(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # the file system does not sync folders
            raise
