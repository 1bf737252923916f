#ifndef NUMPY_CORE_SRC_COMMON_NPY_WIDE_H_
#define NUMPY_CORE_SRC_COMMON_NPY_WIDE_H_
/*
 * What lies between numpy, whose npy_intp and npy_long have 64 bits, and CPython and the C library on a machine whose
 * Py_ssize_t, size_t and C long have 32. Included by npy_common.h into numpy's own sources only.
 *
 * - A size or length that does not fit is refused (MemoryError, OverflowError); it is never cut off.
 * - Python integers are converted with 64 bits, with the messages of a machine whose long has as many.
 *
 * Each macro stands for the function of the same name, so that numpy's calls need no change.
 */
#include <ctype.h>
#include <limits.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline int npy_fits_ssize(unsigned long long size) { return size <= (unsigned long long)PY_SSIZE_T_MAX; }

/* ---- allocation: too much is what there is no memory for ---- */

static inline void *npy_wide_Mem_Malloc(unsigned long long n) { return npy_fits_ssize(n) ? PyMem_Malloc((size_t)n) : NULL; }
static inline void *npy_wide_Mem_Realloc(void *p, unsigned long long n) {
    return npy_fits_ssize(n) ? PyMem_Realloc(p, (size_t)n) : NULL;
}
static inline void *npy_wide_Mem_Calloc(unsigned long long n, unsigned long long size) {
    return npy_fits_ssize(n) && npy_fits_ssize(size) ? PyMem_Calloc((size_t)n, (size_t)size) : NULL;
}
static inline void *npy_wide_Mem_RawMalloc(unsigned long long n) { return npy_fits_ssize(n) ? PyMem_RawMalloc((size_t)n) : NULL; }
static inline void *npy_wide_Mem_RawRealloc(void *p, unsigned long long n) {
    return npy_fits_ssize(n) ? PyMem_RawRealloc(p, (size_t)n) : NULL;
}
static inline void *npy_wide_Mem_RawCalloc(unsigned long long n, unsigned long long size) {
    return npy_fits_ssize(n) && npy_fits_ssize(size) ? PyMem_RawCalloc((size_t)n, (size_t)size) : NULL;
}
static inline void *npy_wide_Object_Malloc(unsigned long long n) { return npy_fits_ssize(n) ? PyObject_Malloc((size_t)n) : NULL; }

#define PyMem_Malloc(n) npy_wide_Mem_Malloc(n)
#define PyMem_Realloc(p, n) npy_wide_Mem_Realloc(p, n)
#define PyMem_Calloc(n, size) npy_wide_Mem_Calloc(n, size)
#define PyMem_RawMalloc(n) npy_wide_Mem_RawMalloc(n)
#define PyMem_RawRealloc(p, n) npy_wide_Mem_RawRealloc(p, n)
#define PyMem_RawCalloc(n, size) npy_wide_Mem_RawCalloc(n, size)
#define PyObject_Malloc(n) npy_wide_Object_Malloc(n)

/* ---- objects with a length ---- */

static inline PyObject *npy_wide_List_New(long long n) {
    return n < 0 || npy_fits_ssize(n) ? PyList_New((Py_ssize_t)(n < 0 ? -1 : n)) : PyErr_NoMemory();
}
static inline PyObject *npy_wide_Tuple_New(long long n) {
    return n < 0 || npy_fits_ssize(n) ? PyTuple_New((Py_ssize_t)(n < 0 ? -1 : n)) : PyErr_NoMemory();
}
static inline PyObject *npy_wide_Bytes_FromStringAndSize(const char *s, long long n) {
    return n < 0 || npy_fits_ssize(n) ? PyBytes_FromStringAndSize(s, (Py_ssize_t)(n < 0 ? -1 : n)) : PyErr_NoMemory();
}
static inline PyObject *npy_wide_Unicode_FromStringAndSize(const char *s, long long n) {
    return n < 0 || npy_fits_ssize(n) ? PyUnicode_FromStringAndSize(s, (Py_ssize_t)(n < 0 ? -1 : n)) : PyErr_NoMemory();
}
static inline PyObject *npy_wide_Unicode_FromKindAndData(int kind, const void *s, long long n) {
    return n < 0 || npy_fits_ssize(n) ? PyUnicode_FromKindAndData(kind, s, (Py_ssize_t)(n < 0 ? -1 : n)) : PyErr_NoMemory();
}

#define PyList_New(n) npy_wide_List_New(n)
#define PyTuple_New(n) npy_wide_Tuple_New(n)
#define PyBytes_FromStringAndSize(s, n) npy_wide_Bytes_FromStringAndSize(s, n)
#define PyUnicode_FromStringAndSize(s, n) npy_wide_Unicode_FromStringAndSize(s, n)
#define PyUnicode_FromKindAndData(kind, s, n) npy_wide_Unicode_FromKindAndData(kind, s, n)

/* What len() gives of a dimension; CPython's own error for a length that it cannot hold. */
static inline Py_ssize_t npy_wide_length(long long n) {
    if (!npy_fits_ssize(n)) {
        PyErr_SetString(PyExc_OverflowError, "cannot fit 'int' into an index-sized integer");
        return -1;
    }
    return (Py_ssize_t)n;
}

/* An index for CPython's Py_ssize_t; one that does not fit is out of bounds everywhere. */
static inline Py_ssize_t npy_wide_index(long long i) {
    return i > PY_SSIZE_T_MAX ? PY_SSIZE_T_MAX : i < -PY_SSIZE_T_MAX ? -PY_SSIZE_T_MAX : (Py_ssize_t)i;
}

/* ---- Python integers ---- */

static inline long long npy_wide_Long_AsLong(PyObject *obj, const char *message) {
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(obj, &overflow);
    if (overflow) {
        PyErr_SetString(PyExc_OverflowError, message);
        return -1;
    }
    return value;
}

static inline unsigned long long npy_wide_Long_AsUnsignedLong(PyObject *obj) {
    unsigned long long value = PyLong_AsUnsignedLongLong(obj);
    if (value == (unsigned long long)-1 && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_OverflowError)) {
        int overflow;
        PyErr_Clear();
        long long sign = PyLong_AsLongLongAndOverflow(obj, &overflow);
        PyErr_SetString(PyExc_OverflowError, overflow < 0 || (!overflow && sign < 0)
                                                 ? "can't convert negative value to unsigned int"
                                                 : "Python int too large to convert to C unsigned long");
    }
    return value;
}

#define PyLong_AsLong(obj) npy_wide_Long_AsLong(obj, "Python int too large to convert to C long")
#define PyLong_AsSsize_t(obj) npy_wide_Long_AsLong(obj, "Python int too large to convert to C ssize_t")
#define PyLong_AsUnsignedLong(obj) npy_wide_Long_AsUnsignedLong(obj)
#define PyLong_AsLongAndOverflow(obj, overflow) PyLong_AsLongLongAndOverflow(obj, overflow)
#define PyLong_FromLong(value) PyLong_FromLongLong(value)
#define PyLong_FromUnsignedLong(value) PyLong_FromUnsignedLongLong(value)
#define PyLong_FromSsize_t(value) PyLong_FromLongLong(value)
#define PyLong_FromSize_t(value) PyLong_FromUnsignedLongLong(value)

static inline unsigned long long npy_wide_strtoul(const char *str, char **end, int base) {
    const char *digits = str;
    while (isspace((unsigned char)*digits)) {
        digits++;
    }
    if (*digits == '-' || *digits == '+') { /* unlike strtoull, CPython takes no sign */
        *end = (char *)str;
        return 0;
    }
    return strtoull(str, end, base);
}

#define PyOS_strtol(str, end, base) strtoll(str, end, base)
#define PyOS_strtoul(str, end, base) npy_wide_strtoul(str, end, base)

/* ---- slices ---- */

static inline long long npy_wide_Slice_AdjustIndices(long long length, long long *start, long long *stop, long long step) {
    int back = step < 0;
    for (int i = 0; i < 2; i++) {
        long long *at = i ? stop : start;
        if (*at < 0) {
            *at += length;
            if (*at < 0) {
                *at = back ? -1 : 0;
            }
        } else if (*at >= length) {
            *at = back ? length - 1 : length;
        }
    }
    if (back) {
        return *stop < *start ? (*start - *stop - 1) / -step + 1 : 0;
    }
    return *start < *stop ? (*stop - *start - 1) / step + 1 : 0;
}

static inline int npy_wide_slice_index(PyObject *obj, long long none, long long *value) {
    if (obj == Py_None) {
        *value = none;
        return 0;
    }
    int overflow;
    PyObject *index = PyNumber_Index(obj);
    if (index == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_SetString(PyExc_TypeError, "slice indices must be integers or None or have an __index__ method");
        }
        return -1;
    }
    *value = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow) {
        *value = overflow < 0 ? LLONG_MIN : LLONG_MAX;
    }
    return 0;
}

static inline int npy_wide_Slice_GetIndicesEx(PyObject *obj, long long length, long long *start, long long *stop, long long *step,
                                              long long *count) {
    PySliceObject *slice = (PySliceObject *)obj;
    *count = 0;
    if (npy_wide_slice_index(slice->step, 1, step) < 0) {
        return -1;
    }
    if (*step == 0) {
        PyErr_SetString(PyExc_ValueError, "slice step cannot be zero");
        return -1;
    }
    if (*step < -LLONG_MAX) {
        *step = -LLONG_MAX;
    }
    int back = *step < 0;
    if (npy_wide_slice_index(slice->start, back ? LLONG_MAX : 0, start) < 0 ||
        npy_wide_slice_index(slice->stop, back ? LLONG_MIN : LLONG_MAX, stop) < 0) {
        return -1;
    }
    *count = npy_wide_Slice_AdjustIndices(length, start, stop, *step);
    return 0;
}

#undef PySlice_GetIndicesEx
#define PySlice_GetIndicesEx(slice, length, start, stop, step, count) \
    npy_wide_Slice_GetIndicesEx(slice, length, start, stop, step, count)

#ifdef __cplusplus
}
#endif

#endif /* NUMPY_CORE_SRC_COMMON_NPY_WIDE_H_ */
