"""The exceptions that carry more than a message. Everything else that is raised is a built-in.

Lies under all Python floors: imports nothing of ours.
"""

from __future__ import annotations

__all__ = ["MissingKeyError", "missing_keys", "shown"]

SHOWN_BITS_MAX = 256  # 77 digits: room for every key and hash that is meant


def shown(number: int) -> str:
    """An integer for a message. Python refuses to write out very long ones, and nobody would read them."""
    bit_count = number.bit_length()
    return str(number) if bit_count <= SHOWN_BITS_MAX else f"an integer of {bit_count} bits"


class MissingKeyError(KeyError):
    """Raised by ``get_many`` and ``pop_many`` if a key is missing and there is no default.

    Parameters
    ----------
    message : str
        Names the first missing key and its place.
    key : int
        The first missing key.
    position : int
        Where it stands in the array of keys, counted in C order.
    missing_count : int
        How many of the keys are missing.

    Examples
    --------
    >>> from intarraymap import IntArrayMap
    >>> m = IntArrayMap(2)
    >>> try:
    ...     m.get_many([5, 6])
    ... except KeyError as error:
    ...     print(error, error.key, error.position, error.missing_count)
    keys[0] = 5 is not in the map (2 of 2 keys are missing) 5 0 2
    """

    key: int
    position: int
    missing_count: int

    def __init__(self, message: str, key: int = 0, position: int = 0, missing_count: int = 1) -> None:
        super().__init__(message)
        self.key = key
        self.position = position
        self.missing_count = missing_count

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError itself would show the repr of the message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.key, self.position, self.missing_count)


def missing_keys(key: int, position: int, missing_count: int, shape: tuple[int, ...]) -> MissingKeyError:
    """The error for the first missing key of an array of keys of some shape."""
    total = 1
    place: list[str] = []
    rest = position
    for length in reversed(shape):
        total *= length
        place.insert(0, str(rest % length))
        rest //= length
    where = f"keys[{', '.join(place)}]" if shape else "keys"
    some = f" ({missing_count} of {total} keys are missing)" if total > 1 else ""
    return MissingKeyError(f"{where} = {shown(key)} is not in the map{some}", key, position, missing_count)
