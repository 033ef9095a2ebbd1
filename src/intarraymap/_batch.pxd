# _batch.pxd: what _binding.pyx inherits.
from intarraymap._owner cimport Owner


cdef class Batch(Owner):
    pass
