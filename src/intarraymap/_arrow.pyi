from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from intarraymap._owner import Owner

# (name, format, metadata or None, children likewise)
_Described: TypeAlias = tuple[bytes, bytes, bytes | None, tuple[Any, ...]]

def schema_capsule(described: _Described) -> object: ...
def is_schema_capsule(capsule: object) -> bool: ...
def map_stream(owner: Owner[Any], described: _Described, copy: bool, must_show: bool) -> object: ...
def rows_stream(keys: npt.NDArray[np.int64], times: npt.NDArray[Any], described: _Described) -> object: ...
