"""A map from int64 to a fixed-length row of numbers: behaves like a dict, runs batches at about memory speed.

>>> from intarraymap import IntArrayMap
>>> m = IntArrayMap(2)
>>> m[5] = [1, 2]
>>> m[5]
array([1., 2.])
"""

from intarraymap.errors import MissingKeyError
from intarraymap.mapping import IntArrayMap
from intarraymap.stats import MapStats

__all__ = ["IntArrayMap", "MapStats", "MissingKeyError", "__version__"]

__version__ = "0.1.0"
