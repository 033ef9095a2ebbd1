from collections.abc import Iterator
from typing import Generic, TypeVar, final

__pyx_capi__: dict[str, object]

_T_co = TypeVar("_T_co", covariant=True)

@final
class Cursor(Generic[_T_co]):
    def __iter__(self) -> Iterator[_T_co]: ...
    def __next__(self) -> _T_co: ...
    def __length_hint__(self) -> int: ...

@final
class Scan(Generic[_T_co]):
    def __iter__(self) -> Iterator[_T_co]: ...
    def __next__(self) -> _T_co: ...
