"""Objects of the caller's that do something when they are asked, in the middle of a call; for test_hostile and
test_mischief, which say what they do.

The classes are made once: some interpreters keep every class there has been (3.13 without a GIL), and then each of
their collections goes through all of them.
"""

from __future__ import annotations

import numpy as np
import pytest


class HostileError(Exception):
    """Raised by the caller's own objects: comes through as it is."""


class Asked:
    """Does something, and then answers."""

    def __init__(self, action, answer):
        self.action, self.answer = action, answer


class Index(Asked):
    def __init__(self, action, answer=5):
        super().__init__(action, answer)

    def __index__(self):
        self.action()
        return self.answer


class Array(Asked):
    def __array__(self, dtype=None, copy=None):
        self.action()
        return self.answer


class Typed(Asked):
    """What NumPy takes for a dtype."""

    @property
    def dtype(self):
        self.action()
        return self.answer


class ChildArray(np.ndarray):
    """Acts for whoever asks for an attribute. So does ``isinstance``, which asks for the class of what is of another
    type; NumPy itself never asks: ``np.asarray`` of a subclass runs nothing of it."""

    action = None

    def __getattribute__(self, name):
        action = super().__getattribute__("action")
        if action is not None:
            action()
        return super().__getattribute__(name)


class ChildOut(np.ndarray):
    """Acts when it is written to."""

    action = None

    def __setitem__(self, place, rows):
        self.action()
        super().__setitem__(place, rows)


def child(kind, action, array):
    """The array's memory as an array of a subclass."""
    made = np.asarray(array).view(kind)
    made.action = action
    return made


def quietly(call):
    """What is refused here (compact with a view alive) is not to end the call that is in progress."""
    try:
        call()
    except (BufferError, RuntimeError):
        pass


def refused_init(m):
    """A map is initialised once, in the middle of a call too."""
    with pytest.raises(RuntimeError, match="only once"):
        m.__init__(4, "int8")
