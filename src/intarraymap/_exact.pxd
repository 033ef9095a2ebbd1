# _exact.pxd: what the binding asks of Python and NumPy objects: one key as int64, and whether an array is exactly what
# the core wants to read. No conversion of rows happens here: that is coerce.py.
cimport numpy as cnp
from cpython.ref cimport Py_INCREF, PyObject
from libc.stddef cimport size_t
from libc.stdint cimport int64_t


cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyTypeObject:
        pass
    PyTypeObject PyArray_Type
    object PyArray_NewFromDescr(PyTypeObject *subtype, cnp.dtype descr, int nd, const cnp.npy_intp *dims,
                                const cnp.npy_intp *strides, void *first, int flags, PyObject *parent)
    int PyArray_SetBaseObject(cnp.ndarray array, object base) except -1

cdef extern from *:
    """
    #include <numpy/arrayscalars.h>
    #define exact_is_numpy_bool(object) PyArray_IsScalar((object), Bool)
    #define exact_is_numpy_int64(object) PyArray_IsScalar((object), Int64)
    #define exact_numpy_int64(object) PyArrayScalar_VAL((object), Int64)
    #define exact_point(array, place) (((PyArrayObject_fields *)(array))->data = (char *)(place))
    #define exact_descr(array) ((PyObject *)PyArray_DESCR(array))
    """
    # Moves a view that nobody has seen yet.
    void exact_point(cnp.ndarray array, void *place) noexcept
    PyObject *exact_descr(cnp.ndarray array)
    bint exact_is_numpy_bool(object key)
    bint exact_is_numpy_int64(object key)
    int64_t exact_numpy_int64(object key)
    bint PyIndex_Check(object key)
    bint PyLong_Check(object key)
    object PyNumber_Index(object key)
    bint PyObject_IsTrue(object key) except -1
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1


cdef inline int key_from(object key, int64_t *key_out) except -1:
    """0: the key is in *key_out. 1: an integer that no int64 can be. May run Python code (__index__)."""
    cdef int overflow = 0
    cdef object number = key
    if not PyLong_Check(key):
        if exact_is_numpy_int64(key):
            key_out[0] = exact_numpy_int64(key)
            return 0
        if exact_is_numpy_bool(key):
            key_out[0] = PyObject_IsTrue(key)
            return 0
        if not PyIndex_Check(key):
            raise TypeError(f"keys are integers, not {type(key).__name__}")
        number = PyNumber_Index(key)
    key_out[0] = PyLong_AsLongLongAndOverflow(number, &overflow)
    return overflow != 0


cdef inline object array_over(cnp.dtype descr, int ndim, const cnp.npy_intp *dims, void *first, object base,
                              bint writable):
    """A C-ordered array over memory that `base` keeps alive."""
    cdef object array
    cdef int flags = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
    if writable:
        flags |= cnp.NPY_ARRAY_WRITEABLE
    Py_INCREF(descr)  # PyArray_NewFromDescr steals one
    array = PyArray_NewFromDescr(&PyArray_Type, descr, ndim, dims, NULL, first, flags, NULL)
    Py_INCREF(base)  # PyArray_SetBaseObject steals one
    PyArray_SetBaseObject(array, base)
    return array


cdef inline object new_array(cnp.dtype descr, int ndim, const cnp.npy_intp *dims):
    """A new C-ordered array, contents undefined."""
    Py_INCREF(descr)
    return PyArray_NewFromDescr(&PyArray_Type, descr, ndim, dims, NULL, NULL, 0, NULL)


cdef inline bint is_exact(cnp.ndarray array, cnp.dtype descr):
    """C-ordered, aligned, native, and of the dtype."""
    return cnp.PyArray_ISCARRAY_RO(array) and (
        exact_descr(array) == <PyObject *>descr or cnp.PyArray_EquivTypes(array.descr, descr)
    )


cdef inline int expect(cnp.ndarray array, cnp.dtype descr, size_t items, bint writable) except -1:
    """Holds the floors above to their word: a wrong array is a TypeError here and never a wild pointer below."""
    if not is_exact(array, descr) or <size_t>cnp.PyArray_SIZE(array) != items:
        raise TypeError(f"expected a C-ordered {descr} array of {items} items")
    if writable and not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError("the array is read-only")
    return 0
